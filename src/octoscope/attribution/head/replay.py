"""Running only what lies above a layer, by letting what lies below return what it gave before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from octoscope.attribution.head.record import Call, Rows, repeated, with_first
from octoscope.models.probe import at_least_float32, logits_of

Kept = Sequence[Sequence[Any]]
"""For each call the leaves of one image; None for a tensor on which the logits do not depend."""


@dataclass(frozen=True)
class How:
    """How to replay.

    Attributes:
        lean: Calls that do not matter return a single row of zeros, and the model is given a
            single image, so that code between modules costs nothing. Otherwise all have m rows.
        copies: Rows have memory of their own, for models that write in place.
    """

    lean: bool
    copies: bool


@dataclass(frozen=True)
class Replay:
    """A pass that goes on from a layer.

    Attributes:
        module: The lent model.
        layer: The layer whose output is given.
        calls: What ended before it, and its own call last, of one image.
        rows: For each call and leaf, where the images lie in it.
        how: How.
    """

    module: nn.Module
    layer: nn.Module
    calls: Sequence[Call]
    rows: Sequence[Sequence[Rows | None]]
    how: How

    @property
    def silent(self) -> set[nn.Module]:
        """The modules that do not run."""
        return {call.module for call in self.calls} - {self.layer}

    def __call__(self, image: Tensor, kept: Kept, activations: Tensor) -> Tensor:
        """Return the logits (m, K).

        Args:
            image: (1, C, *S).
            kept: What was recorded for it; or for several, whose rows are then used as they are.
            activations: (m, …) of the layer, in its own layout.
        """
        count = len(activations)
        queues: dict[nn.Module, list[Any]] = {}
        for call, leaves, rows in zip(self.calls, kept, self.rows, strict=True):
            outputs = self._leaves(call, leaves, rows, count)
            if call.module is self.layer:
                outputs = with_first(outputs, activations)
            queues.setdefault(call.module, []).append(call.output(outputs))
        images = image if self.how.lean else image.expand(count, *image.shape[1:])
        with _instead({part: _Queue(part, outputs) for part, outputs in queues.items()}):
            return at_least_float32(logits_of(self.module(images)))

    def _leaves(
        self, call: Call, kept: Sequence[Any], rows: Sequence[Rows | None], count: int
    ) -> list[Any]:
        """Return a call's output for `count` rows, flat."""
        copies = self.how.copies
        found = []
        for example, leaf, where in zip(call.leaves, kept, rows, strict=True):
            if not isinstance(example, Tensor):
                found.append(example)
            elif where is None:
                found.append(example.clone())
            elif leaf is not None:
                several = leaf.shape[where[0]] != where[1]
                found.append(leaf if several else repeated(leaf, where, count, copies=copies))
            else:
                one = example.new_zeros(()).expand(example.shape)
                found.append(repeated(one, where, 1 if self.how.lean else count, copies=copies))
        return found


class _Queue:
    """A forward that returns given outputs one after the other, and is itself again after them."""

    def __init__(self, part: nn.Module, outputs: Sequence[Any]) -> None:
        self._outputs = list(reversed(outputs))
        self._forward = part.forward

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        return self._outputs.pop() if self._outputs else self._forward(*inputs, **named)


@contextmanager
def _instead(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Give modules another ``forward`` for the length of the context."""
    with ExitStack() as undo:
        for part, forward in forwards.items():
            own = vars(part).get("forward")  # someone else's, which is put back
            if own is None:
                undo.callback(delattr, part, "forward")
            else:
                undo.callback(setattr, part, "forward", own)
            part.forward = forward
        yield
