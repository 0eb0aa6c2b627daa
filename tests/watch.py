"""What the interpreter does while a test looks: an audit hook that can be switched on and off."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

RUNS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn",
        "socket.connect", "socket.getaddrinfo", "urllib.Request", "ctypes.dlopen")  # fmt: skip
NAMES = ("import", "open", "exec", "compile", "os.listdir", "os.scandir", "glob.glob",
         "marshal.loads", "pickle.find_class")  # fmt: skip

DRIVER = "('libnvidia-ml.so.1',)"
"""torch looks for a graphics card by loading this library, whatever any file says."""

_listeners: list[list[tuple[str, str]]] = []
_installed = False


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _listeners and (event in RUNS or event in NAMES):
        for seen in _listeners:
            seen.append((event, repr(arguments)))


@contextmanager
def watched() -> Iterator[list[tuple[str, str]]]:
    """Give a list to which every event of `RUNS` and `NAMES` is added, with its arguments."""
    global _installed
    if not _installed:
        sys.addaudithook(_hook)
        _installed = True
    seen: list[tuple[str, str]] = []
    _listeners.append(seen)
    try:
        yield seen
    finally:
        _listeners.remove(seen)


def offences(seen: list[tuple[str, str]], word: str, opens: bool = False) -> list[tuple[str, str]]:
    """Return what ran anything, or touched what `word` names; `opens`: opening it is allowed."""
    allowed = ("open", "os.listdir", "os.scandir", "glob.glob") if opens else ()
    return [
        (event, arguments)
        for event, arguments in seen
        if (event in RUNS and arguments != DRIVER) or (word in arguments and event not in allowed)
    ]
