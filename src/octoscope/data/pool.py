"""Working through many scans on all cores, in order and with bounded memory."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import TypeVar

from octoscope.errors import OctoscopeError
from octoscope.partial import ending, leave_with_parent

T = TypeVar("T")
R = TypeVar("R")

WINDOW = 4
"""Chunks of work per worker that are handed in ahead of the one that is waited for."""


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(
    work: Callable[[Sequence[T]], list[R]],
    items: Iterable[T],
    *,
    workers: int,
    processes: bool = False,
    chunk: int = 8,
) -> Generator[R, None, None]:
    """Map `work` over chunks of `items` in a pool and give the results in order.

    Unlike `Executor.map` only a window of the work is handed in ahead, so that memory stays
    bounded when the caller is the slower one. Work that is not yet begun is dropped when the
    caller stops, so that an interruption takes effect at once.

    Args:
        work: Maps a list of items to the list of their results.
        items: What to work on.
        workers: How many work at a time.
        processes: Use processes, for work that holds Python's lock; `work` is pickled then.
        chunk: Items per call.

    Raises:
        OctoscopeError: If a process was killed.
    """
    source = iter(items)
    window: deque[Future[list[R]]] = deque()
    pool: Executor = ThreadPoolExecutor(workers)
    if processes:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=leave_with_parent)
    try:
        with ending(pool):
            while True:
                with _main_hidden() if processes else nullcontext():
                    while len(window) < WINDOW * workers and (
                        some := list(itertools.islice(source, chunk))
                    ):
                        window.append(pool.submit(work, some))
                if not window:
                    return
                yield from window.popleft().result()
    except BrokenProcessPool as error:
        raise OctoscopeError(
            "a process that reads scans was killed, most likely for want of memory; "
            "use fewer workers"
        ) from error


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Hide the user's script from processes that start meanwhile.

    Python runs the main script once more in every process it spawns, in case the work is defined
    there. Ours is not, and a script without ``if __name__ == "__main__"`` would start over.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
