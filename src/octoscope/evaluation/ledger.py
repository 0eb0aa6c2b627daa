"""The ledger of a study: who looks at the test split more than once can fool himself.

Models, checkpoints, thresholds and methods are chosen on validation. Each time the test split is
opened, one line of JSON is appended to ``ledger.jsonl`` in the *study's* folder, so that it stays
when a run is deleted and trained anew. Lines are never changed or removed, and a line that was torn
by a kill still counts as an opening.

A run that lies in no study (not in ``STUDY/runs/NAME``) keeps a ledger of its own. One in a study
has a copy of the lines on models of its name, so that it takes them along where it is moved. A
table that `check --write` wrote has a ledger beside it (``TABLE.ledger.jsonl``), which every study
of the table adds to and reads. And a study reads the ledgers of the studies that lie beside it:
where their test splits hold the same scans, these were looked at there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from octoscope.errors import OctoscopeError
from octoscope.evaluation.test_scans import TestScans
from octoscope.files import explained_disk_errors, read_json
from octoscope.progress import console

try:
    import fcntl
except ImportError:  # not a POSIX system: a single append of one short line is all we have
    fcntl = None  # type: ignore[assignment]

LEDGER = "ledger.jsonl"
ABOUT = "study.json"
"""Where a study says which scans it is of; its ``test_scans`` are those of the test split."""


def open_test_split(
    run: Path, *, why: str, split: str = "test", data: str | None = None, **facts: Any
) -> dict[str, Any]:
    """Record that a model is about to be tested on scans that nothing was chosen on.

    Call it *before* the scans are read: an opening that then fails is still an opening.

    Args:
        run: Folder of the run.
        why: What for, in words.
        split: ``test``, or what else is opened, such as ``external``.
        data: Which data, where they are not those of the study.
        **facts: Anything else to keep with it (digest of the table, number of scans); JSON.

    Returns:
        The entry: ``time`` (UTC), ``study`` if the run lies in one, ``run``, ``split``, ``why``,
        ``model_digest``, ``data`` where given, and `facts`.

    Raises:
        OctoscopeError: If the run does not exist, `why` is empty, or the disk refuses.
    """
    if not run.is_dir():
        raise OctoscopeError(f"{run}: no such run; the test split stays closed")
    if not why.strip():
        raise OctoscopeError("say why the test split is opened (it is kept in the study's ledger)")
    study = study_of(run)
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        **({} if study is None else {"study": study.name}),
        "run": run.resolve().name,
        "split": split,
        "why": why.strip(),
        "model_digest": model_digest(run),
        **({} if data is None else {"data": data}),
        **facts,
    }
    line = json.dumps(entry, ensure_ascii=False)
    with explained_disk_errors(ledger_of(run)):
        _append(ledger_of(run), line)
        if study is not None:
            _copy_into(run, study)
    for path in _table_ledgers(run):
        try:
            _append(path, line)
        except OSError as error:
            console.print(
                f"{path}: cannot be written ({error.strerror}), so that other studies of this "
                "table will not know of this opening",
                style="yellow", highlight=False, markup=False,
            )  # fmt: skip
    return entry


def openings(place: Path) -> list[dict[str, Any]]:
    """Return every recorded opening, oldest first: all of a study, or those of one run.

    A line that is not JSON is kept as ``{"time": None, "why": "unreadable entry", …}``, and counts
    for every run. Openings of the same scans by other studies have the key ``elsewhere``, which
    says in which, and from a study beside it ``shared``: the share of this study's test scans
    that were in the split opened there.

    Args:
        place: Folder of a study, or of a run. A run's include those of models of its name that
            have been deleted since, and none of other studies.
    """
    study = study_of(place)
    if study is None:  # a study's folder, or a run in no study
        own = _read(place / LEDGER)
        known = {_as_written(entry) for entry in own}
        copies = [_read(path) for path in place.glob(f"runs/*/{LEDGER}")]
        further = [[one for one in copy if _as_written(one) not in known] for copy in copies]
        return _in_order(_dated([own, *further, *_beside(place)]), place)
    own = [entry for entry in openings(study) if "elsewhere" not in entry]
    return [entry for entry in own if entry.get("run") in (None, place.resolve().name)]


def study_of(run: Path) -> Path | None:
    """Return the folder of the study that a run lies in, None if it lies in none."""
    run = run.resolve()
    return run.parent.parent if run.parent.name == "runs" else None


def ledger_of(run: Path) -> Path:
    """Return the file to which openings with the model of a run are added."""
    return (study_of(run) or run) / LEDGER


def ledger_sentence(run: Path) -> str:
    """Say how often the test split was opened, by which models and what for.

    Of a run in a study, these are all openings of that study: the split is the same for all of its
    models, and an opening does not become undone when its model is deleted.
    """
    place = study_of(run) or run
    entries = [entry for entry in openings(place) if entry.get("split", "test") == "test"]
    if not entries:
        return "The test split has never been opened."
    times = "once" if len(entries) == 1 else f"{len(entries)} times"
    listed = "; ".join(_said(entry, place, run) for entry in entries)
    return f"The test split was opened {times}: {listed}."


def elsewhere_sentence(study: Path) -> str | None:
    """Say how often other studies opened the test split of a study, None if none did."""
    entries = [
        entry
        for entry in openings(study)
        if "elsewhere" in entry and entry.get("split", "test") == "test"
    ]
    if not entries:
        return None
    times = "once" if len(entries) == 1 else f"{len(entries)} times"
    listed = "; ".join(_said(entry, study, study) for entry in entries)
    return f"The test split of these scans was opened {times} by other studies: {listed}."


def _said(entry: dict[str, Any], place: Path, run: Path) -> str:
    """Return when, by which model and why, of one opening."""
    time, name = entry["time"] or "at a time unknown", entry.get("run")
    if not isinstance(name, str):
        return f"{time} ({entry['why']})"
    return f"{time} by {name}{gone(entry, place, run)} ({entry['why']})"


def gone(entry: Mapping[str, Any], place: Path, run: Path | None = None) -> str:
    """Return words on an opening whose model is not there (any more), '' if it is.

    Args:
        entry: The opening.
        place: Folder of the study, or of the run.
        run: The run, where it lies in no study.

    Of an opening by another study, they say which it is.
    """
    if "elsewhere" in entry:
        return f", {where(entry)}"
    folder = place / "runs" / str(entry.get("run"))
    if not folder.is_dir() and run is not None and run.resolve().name == entry.get("run"):
        folder = run
    digest = entry.get("model_digest")
    return "" if digest is None or model_digest(folder) == digest else ", a model since deleted"


def where(entry: Mapping[str, Any]) -> str:
    """Return in which other study a test split was opened, and how much of it that was."""
    shared = entry.get("shared", 1.0)
    part = "" if shared == 1 else f", which has {shared:.0%} of these test scans"
    if not entry["elsewhere"]:
        return "in another study of this table"
    return f"in the study {entry['elsewhere']}{part}"


def model_digest(run: Path) -> str | None:
    """Return 16 hex digits over the files of the run's saved model, None if there is none."""
    files = sorted(path for path in (run / "model").rglob("*") if path.is_file())
    if not files:
        return None
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(run).as_posix().encode() + b"\0")
        with path.open("rb") as content:
            while block := content.read(2**20):
                digest.update(block)
    return digest.hexdigest()[:16]


def _copy_into(run: Path, study: Path) -> None:
    """Bring the copy in a run up to date with the lines of the study on models of its name."""
    there = {_as_written(entry) for entry in _read(run / LEDGER)}
    for entry in _read(study / LEDGER):
        if entry.get("run") == run.resolve().name and _as_written(entry) not in there:
            _append(run / LEDGER, json.dumps(entry, ensure_ascii=False))


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the entries of one file, in its order."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [_entry(line) for line in lines if line.strip()]


def _dated(ledgers: Iterable[list[dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Give every entry a time; one without has that of the entry before it in its ledger."""
    dated: list[tuple[str, dict[str, Any]]] = []
    for entries in ledgers:
        latest = ""
        for entry in entries:
            latest = str(entry["time"] or latest)
            dated.append((latest, entry))
    return dated


def _in_order(dated: list[tuple[str, dict[str, Any]]], study: Path) -> list[dict[str, Any]]:
    """Join entries with those of the table's ledger, by time; each line of ours stands in both."""
    known = [_as_written(entry) for _, entry in dated]
    further = []
    for path in _table_ledgers(study):
        for time, entry in _dated([_read(path)]):
            if _as_written(entry) in known:
                known.remove(_as_written(entry))
            else:
                further.append((time, {**entry, "elsewhere": str(entry.get("study") or "")}))
    return [entry for _, entry in sorted([*dated, *further], key=lambda one: one[0])]


def _as_written(entry: Mapping[str, Any]) -> str:
    """Return the line of an entry, without what was found out when it was read."""
    said = {key: entry[key] for key in entry if key not in ("elsewhere", "shared")}
    return json.dumps(said, sort_keys=True)


def _beside(study: Path) -> list[list[dict[str, Any]]]:
    """Return the openings of the test split by studies that lie beside one, of the same scans."""
    study = study.resolve()
    mine = _test_scans(study)
    found: list[list[dict[str, Any]]] = []
    if mine is None:
        return found
    for path in sorted(study.parent.glob(f"*/{LEDGER}")):
        theirs = _test_scans(path.parent)
        if path.parent == study or theirs is None or not (shared := mine.share_in(theirs)):
            continue
        about = {"elsewhere": path.parent.name, "shared": shared}
        entries = [entry for entry in _read(path) if entry.get("split", "test") == "test"]
        found.append([{**entry, **about} for entry in entries])
    return found


def _test_scans(study: Path) -> TestScans | None:
    """Return which scans the test split of a study holds, None if it does not say."""
    try:
        about = read_json(study / ABOUT)
    except (OctoscopeError, OSError):
        return None
    return TestScans.from_dict(about.get("test_scans")) if isinstance(about, dict) else None


def table_ledger(table: Path) -> Path:
    """Return the ledger beside a table of scans, ``TABLE.ledger.jsonl``."""
    return table.with_name(f"{table.stem}.{LEDGER}")


def begin_table_ledger(table: Path) -> None:
    """Lay an empty ledger beside a table of scans, unless there is one."""
    path = table_ledger(table)
    with explained_disk_errors(path):
        path.touch()


def _table_ledgers(place: Path) -> list[Path]:
    """Return the ledger beside the table that a study is of, if there is one."""
    study = study_of(place) or place
    try:
        about = read_json(study / ABOUT)
        path = table_ledger(Path(about["root"]) / Path(about["config"]["data"]).name)
    except (OctoscopeError, KeyError, TypeError, ValueError):
        return []
    return [path] if path.is_file() else []


def _entry(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        entry = None
    if isinstance(entry, dict) and {"time", "why"} <= entry.keys():
        return entry
    return {"time": None, "split": "test", "why": "unreadable entry", "model_digest": None}


def _append(path: Path, line: str) -> None:
    """Append one line under an exclusive lock, after closing a line that a kill left torn."""
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX)  # released when the handle closes
        size = os.fstat(handle).st_size
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        os.write(handle, (("\n" if torn else "") + line + "\n").encode())
        os.fsync(handle)
    finally:
        os.close(handle)
