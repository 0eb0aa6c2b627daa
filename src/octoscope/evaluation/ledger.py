"""The ledger of a study: who looks at the test split more than once can fool himself.

Models, checkpoints, thresholds and methods are chosen on validation. Each time the test split is
opened, one line of JSON is appended to ``ledger.jsonl`` in the *study's* folder, so that it stays
when a run is deleted and trained anew. Lines are never changed or removed, and a line that was torn
by a kill still counts as an opening.

A run that lies in no study (not in ``STUDY/runs/NAME``) keeps a ledger of its own. Earlier versions
kept one in every run; those lines are read too. A table that `check --write` wrote has a ledger
beside it (``TABLE.ledger.jsonl``), which every study of the table adds to and reads.
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
from octoscope.files import explained_disk_errors, read_json
from octoscope.progress import console

try:
    import fcntl
except ImportError:  # not a POSIX system: a single append of one short line is all we have
    fcntl = None  # type: ignore[assignment]

LEDGER = "ledger.jsonl"


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
        The entry: ``time`` (UTC), ``run``, ``split``, ``why``, ``model_digest``, ``data`` where
        given, and `facts`.

    Raises:
        OctoscopeError: If the run does not exist, `why` is empty, or the disk refuses.
    """
    if not run.is_dir():
        raise OctoscopeError(f"{run}: no such run; the test split stays closed")
    if not why.strip():
        raise OctoscopeError("say why the test split is opened (it is kept in the study's ledger)")
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
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
    for every run.

    Args:
        place: Folder of a study, or of a run. A run's include those of models of its name that
            have been deleted since.
    """
    study = study_of(place)
    if study is None:  # a study's folder, or a run in no study
        return _in_order(
            [_read(place / LEDGER), *map(_read, place.glob(f"runs/*/{LEDGER}"))], place
        )
    mine = [entry for entry in openings(study) if entry.get("run") in (None, place.resolve().name)]
    return mine


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
    """
    if entry.get("elsewhere"):
        return ", in another study of this table"
    folder = place / "runs" / str(entry.get("run"))
    if not folder.is_dir() and run is not None and run.resolve().name == entry.get("run"):
        folder = run
    digest = entry.get("model_digest")
    return "" if digest is None or model_digest(folder) == digest else ", a model since deleted"


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


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the entries of one file, in its order."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [_entry(line) for line in lines if line.strip()]


def _in_order(ledgers: Iterable[list[dict[str, Any]]], study: Path) -> list[dict[str, Any]]:
    """Join ledgers by time; one without a time stays where its own ledger has it."""
    dated: list[tuple[str, dict[str, Any]]] = []
    for entries in ledgers:
        latest = ""
        for entry in entries:
            latest = str(entry["time"] or latest)
            dated.append((latest, entry))
    known = [json.dumps(entry, sort_keys=True) for _, entry in dated]
    for path in _table_ledgers(study):
        for entry in _read(path):
            text = json.dumps(entry, sort_keys=True)
            if text in known:
                known.remove(text)  # each line of ours stands in both
            else:
                dated.append((str(entry["time"] or ""), {**entry, "elsewhere": True}))
    return [entry for _, entry in sorted(dated, key=lambda one: one[0])]


def table_ledger(table: Path) -> Path:
    """Return the ledger beside a table of scans, ``TABLE.ledger.jsonl``."""
    return table.with_name(f"{table.stem}.{LEDGER}")


def _table_ledgers(place: Path) -> list[Path]:
    """Return the ledger beside the table that a study is of, if there is one."""
    study = study_of(place) or place
    try:
        about = read_json(study / "study.json")
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
