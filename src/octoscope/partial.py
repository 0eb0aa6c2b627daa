"""What is being written, beside where it shall stand; and clearing away what dead processes left.

A file or folder is made whole in a folder of its own, ``.NAME-xxxxxxxxxxxxxxxx.octoscope``, which
its process holds a lock on. The lock goes with the process: a folder of that name that nobody
holds was left by one that was killed, on whatever machine, and is removed by the next that writes
beside it. On file systems without locks nothing is removed.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from multiprocessing import connection
from pathlib import Path
from types import FrameType

from octoscope.naming import cut

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

TRIES = 8
"""At a name that nobody else clears away meanwhile."""

MOST_STEM = 120
"""Bytes of the final name that the name of the folder repeats, for who finds it."""

_OURS = re.compile(r"\..*-[0-9a-f]{16}\.octoscope", re.DOTALL)
_cleared: set[str] = set()


class Terminated(BaseException):
    """SIGTERM came while something was being written."""


@contextmanager
def partial_folder(path: Path, *, always: bool = True) -> Iterator[Path]:
    """Give a new empty folder beside `path` that is removed when the block ends, however it ends.

    On SIGTERM it is removed, and then the process ends as SIGTERM ends it.

    Args:
        path: What is being made; its parent folder is there.
        always: Clear away leftovers beside it each time; if not, once per process and folder.

    Raises:
        OSError: If the disk refuses.
    """
    beside = str(path.parent.resolve())
    if always or beside not in _cleared:
        _cleared.add(beside)
        clear_leftovers(path.parent)
    with _sigterm_raises():
        folder, lock = _locked_folder(path)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if lock is not None:
                os.close(lock)


def clear_leftovers(parent: Path) -> None:
    """Remove the partial folders in a folder that no living process is writing into."""
    if fcntl is None:
        return
    with suppress(OSError), os.scandir(parent) as entries:
        names = [entry.name for entry in entries if _OURS.fullmatch(entry.name)]
        for name in names:
            with suppress(OSError):
                _clear(parent / name)


def _clear(folder: Path) -> None:
    """Remove one partial folder, unless a process holds it.

    Raises:
        OSError: If one does, it is no folder, or there are no locks here.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


def _locked_folder(path: Path) -> tuple[Path, int | None]:
    """Make a folder and lock it; the lock is None where there are none.

    Between making and locking another process may take it for a leftover: then another is made.
    """
    stem = cut(path.name, MOST_STEM)
    for _ in range(TRIES):
        folder = path.parent / f".{stem}-{secrets.token_hex(8)}.octoscope"
        folder.mkdir(mode=0o700)
        if fcntl is None:
            return folder, None
        handle = None
        try:
            handle = os.open(folder, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), folder.stat()):
                return folder, handle
        except (BlockingIOError, FileNotFoundError):
            pass  # another process clears it away
        except OSError:  # no locks on this file system
            if handle is not None:
                os.close(handle)
            return folder, None
        if handle is not None:
            os.close(handle)
    raise OSError("folders that are made here are removed at once by another program")


def leave_with_parent() -> None:
    """Let a worker process end when the process that started it is gone, however that ended.

    The initializer of a pool: killed with SIGKILL, a process cannot stop its workers, and they
    would wait for work for ever.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def ending(pool: Executor) -> Iterator[None]:
    """Shut a pool down when the block ends; if that is by an exception, without waiting for it.

    What its processes are at is worth nothing then, and may take longer than whoever sent SIGTERM
    waits before sending SIGKILL. (Python 3.14 has `ProcessPoolExecutor.terminate_workers`.)
    """
    try:
        yield
    except BaseException:
        for worker in list((getattr(pool, "_processes", None) or {}).values()):
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM end the block as an exception would, and then the process as it does.

    A handler that somebody else has set stays, and so does the default outside the main thread.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def raise_it(number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, raise_it)
    try:
        yield
    except Terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        raise  # where the signal is blocked
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
