"""The ledger of a run: who looks at the test split more than once can fool himself.

Models, checkpoints, thresholds and methods are chosen on validation. Each time the test split is
opened, one line of JSON is appended to ``ledger.jsonl`` in the run's folder. Lines are never
changed or removed, and a line that was torn by a kill still counts as an opening.
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from octoscope.errors import OctoscopeError
from octoscope.files import explained_disk_errors

try:
    import fcntl
except ImportError:  # not a POSIX system: a single append of one short line is all we have
    fcntl = None  # type: ignore[assignment]

LEDGER = "ledger.jsonl"


def open_test_split(run: Path, *, why: str, **facts: Any) -> dict[str, Any]:
    """Record that the test split is about to be opened with the model of a run.

    Call it *before* the split is read: an opening that then fails is still an opening.

    Args:
        run: Folder of the run.
        why: What for, in words.
        **facts: Anything else to keep with it (digest of the table, number of scans); JSON.

    Returns:
        The entry: ``time`` (UTC), ``run``, ``split``, ``why``, ``model_digest`` and `facts`.

    Raises:
        OctoscopeError: If the run does not exist, `why` is empty, or the disk refuses.
    """
    if not run.is_dir():
        raise OctoscopeError(f"{run}: no such run; the test split stays closed")
    if not why.strip():
        raise OctoscopeError("say why the test split is opened (it is kept in the run's ledger)")
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": run.name,
        "split": "test",
        "why": why.strip(),
        "model_digest": model_digest(run),
        **facts,
    }
    with explained_disk_errors(run / LEDGER):
        _append(run / LEDGER, json.dumps(entry, ensure_ascii=False))
    return entry


def openings(run: Path) -> list[dict[str, Any]]:
    """Return every recorded opening of the test split, oldest first.

    A line that is not JSON is kept as ``{"time": None, "why": "unreadable entry", …}``.
    """
    path = run / LEDGER
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [_entry(line) for line in lines if line.strip()]


def ledger_sentence(run: Path) -> str:
    """Say how often the test split was opened with the model of a run."""
    entries = openings(run)
    if not entries:
        return "The test split has never been opened."
    times = "once" if len(entries) == 1 else f"{len(entries)} times"
    return f"The test split was opened {times} (last: {entries[-1]['time'] or 'time unknown'})."


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
