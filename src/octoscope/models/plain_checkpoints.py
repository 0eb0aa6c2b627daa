"""Running what models checkpoint (``torch.utils.checkpoint``) as it is, in one thread.

A checkpointed segment is run anew when it is differentiated, in which neither the hooks nor the cut
of a capture would take part; one kind refuses `torch.autograd.grad` outright. Models call it from
their own code, whatever their flags say, so it is turned off where it is implemented. Other threads
checkpoint as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, local
from typing import Any

from torch.utils import checkpoint

_HERE = local()
"""How many contexts this thread is in."""
_LOCK = Lock()
_BEFORE: dict[str, Any] = {}
"""What stood in `torch.utils.checkpoint`, while it is replaced."""
_inside = 0  # contexts of all threads

GENERATORS = (
    "_checkpoint_without_reentrant_generator_impl",
    "_checkpoint_without_reentrant_generator",
)
"""What stands around a segment that is not reentrant, by the names of several versions."""


@contextmanager
def plain_checkpoints() -> Iterator[None]:
    """Run checkpointed segments plainly, in this thread and for the length of the context."""
    _enter()
    _HERE.depth = getattr(_HERE, "depth", 0) + 1
    try:
        yield
    finally:
        _HERE.depth -= 1
        _leave()


def _plain() -> bool:
    return getattr(_HERE, "depth", 0) > 0


def _enter() -> None:
    global _inside
    with _LOCK:
        _inside += 1
        if _inside > 1:
            return
        _BEFORE["CheckpointFunction"] = checkpoint.CheckpointFunction
        setattr(checkpoint, "CheckpointFunction", _Reentrant(checkpoint.CheckpointFunction))  # noqa: B010
        for name in GENERATORS:
            if hasattr(checkpoint, name):
                _BEFORE[name] = getattr(checkpoint, name)
                setattr(checkpoint, name, _around(_BEFORE[name]))


def _leave() -> None:
    global _inside
    with _LOCK:
        _inside -= 1
        if not _inside:
            for name, before in _BEFORE.items():
                setattr(checkpoint, name, before)
            _BEFORE.clear()


class _Reentrant:
    """Stands for the autograd function of reentrant checkpoints."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def apply(self, run: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        return run(*args) if _plain() else self._function.apply(run, preserve_rng_state, *args)


def _around(generator: Callable[..., Iterator[None]]) -> Callable[..., Iterator[None]]:
    """Return what stands around a segment: nothing in a context, else as ever."""

    def around(*args: Any, **kwargs: Any) -> Iterator[None]:
        return _nothing() if _plain() else generator(*args, **kwargs)

    return around


def _nothing() -> Iterator[None]:
    yield
