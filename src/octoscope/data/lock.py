"""One process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

from octoscope.progress import console


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[bool]:
    """Hold the lock file `path` while the block runs; wait for other processes that hold it.

    The lock goes with the process, so a killed one leaves none behind. The file stays: removing
    it would let two processes hold "the" lock at once.

    Args:
        path: The lock file, made if need be.
        what: What the other process is doing, for the message to the one who waits.

    Yields:
        Whether the lock is held: not in a read-only folder and on file systems without locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a")
    except OSError:
        yield False
        return
    with handle:
        yield fcntl is not None and _lock(handle.fileno(), what)


def is_held(path: Path) -> bool:
    """Say whether another process holds the lock file `path` now; it is not made."""
    if fcntl is None or not path.is_file():
        return False
    try:
        with path.open("a") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _lock(handle: int, what: str) -> bool:
    """Lock an open file, waiting if need be; say whether the file system can."""
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(f"Another process is {what}; waiting for it.")
            fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        return False
    return True
