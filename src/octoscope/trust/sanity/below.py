"""Not running what lies below the lowest randomised stage again: it gives what it gave before.

While a stage and those above it are randomised, every module that ended before the stage began
still gives the same for the same images. So its output is recorded once, in one pass of the
untouched model, and returned instead of computed. Of a chain, only what the last of these modules
gave matters. Whether the others matter is not read from the code but tried: they return nan, and
the logits must still be the same.

A pass takes this shortcut only if nothing can tell the difference: it is given the very images
that were recorded, without a gradient to the pixels, and nobody listens to or changes a module
that would not run. Any other pass runs the whole model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from octoscope.models.borrow import borrowed, eager
from octoscope.models.probe import as_the_model_takes, logits_of
from octoscope.trust.sanity.stages import Stage

Call = tuple[nn.Module, int]
"""A module, and which of its calls in the pass, from 0."""
Given = dict[Call, Any]
"""What calls gave; those that do not matter gave nan."""


@dataclass(frozen=True)
class Below:
    """What has ended when a stage begins.

    Attributes:
        calls: The largest modules that ended, in order.
        around: Modules that had begun and not ended, but for the model itself.
        needed: Those of the calls whose output matters.
    """

    calls: tuple[Call, ...]
    around: tuple[nn.Module, ...]
    needed: frozenset[Call]


class Shortcuts:
    """The passes of a model that may begin at its stages.

    Args:
        model: A lent classifier (`octoscope.models.borrow.borrowed`), untouched.
        images: (B, C, *S) as the model takes them; the first is run.
        order: Its stages, from the output down.
    """

    def __init__(self, model: nn.Module, images: Tensor, order: Sequence[Stage]) -> None:
        self._model = model
        firsts = [stage.first for stage in order]
        with borrowed(model) as module, torch.inference_mode(False), torch.no_grad():
            image = as_the_model_takes(module, images[:1])
            found = _ended_before(module, image, firsts)
            self.below = [
                None if below is None or _touched(below, order[: place + 1]) else below
                for place, below in enumerate(found)
            ]
            self.below = [below and _tried(module, image, below) for below in self.below]

    def recorded(self, images: Tensor) -> Given:
        """Run the untouched model once on images (b, C, *S) and keep what the shortcuts need."""
        several = [below for below in self.below if below is not None]
        needed = {call for below in several for call in below.needed}
        calls = {call for below in several for call in below.calls}
        if not calls:
            return {}
        with borrowed(self._model) as module, torch.inference_mode(False), torch.no_grad():
            return _record(module, as_the_model_takes(module, images), calls, needed)

    @contextmanager
    def taken(self, place: int, images: Tensor, given: Given) -> Iterator[None]:
        """Let passes of `images`, from which `given` was recorded, begin at stage `place`."""
        below = self.below[place]
        if below is None or not below.calls:
            yield
            return
        module = eager(self._model)
        images = as_the_model_takes(module, images)
        with _replaying(module, images, below, given):
            yield


def _touched(below: Below, randomised: Sequence[Stage]) -> bool:
    """Say whether a module below holds a tensor that is randomised, because it is shared."""
    changed = {
        id(tensor)
        for stage in randomised
        for module in stage.modules
        for tensor in (*module._parameters.values(), *module._buffers.values())
        if tensor is not None
    }
    return any(
        id(tensor) in changed
        for part, _ in below.calls
        for tensor in (*part.parameters(), *part.buffers())
    )


def _ended_before(
    module: nn.Module, image: Tensor, firsts: Sequence[nn.Module]
) -> list[Below | None]:
    """Run the model; return what had ended when each of some modules began.

    None for a module that does not run exactly once, and where that is nothing.
    """
    ended: list[Call] = []
    open_: list[tuple[nn.Module, int]] = []
    counts: Counter[nn.Module] = Counter()
    seen: dict[nn.Module, Below] = {}

    def enter(part: nn.Module, _inputs: Any) -> None:
        if part in firsts and part not in seen:
            around = tuple(one for one, _ in open_)
            seen[part] = Below(tuple(ended), around, frozenset(ended))
        open_.append((part, len(ended)))

    def leave(part: nn.Module, _inputs: Any, _output: Any) -> None:
        _, inner = open_.pop()
        del ended[inner:]  # what ran inside ended with it
        ended.append((part, counts[part]))
        counts[part] += 1

    with ExitStack() as undo:
        for part in module.modules():
            if part is not module:
                undo.callback(part.register_forward_pre_hook(enter).remove)
                undo.callback(part.register_forward_hook(leave).remove)
        module(image.clone())
    return [seen[first] if counts[first] == 1 and seen[first].calls else None for first in firsts]


def _tried(module: nn.Module, image: Tensor, below: Below) -> Below | None:
    """Find out whether only the last call matters, or all do; None if the shortcut is none."""
    expected = logits_of(module(image.clone()))
    if not bool(expected.isfinite().all()):
        return None
    for needed in (frozenset(below.calls[-1:]), frozenset(below.calls)):
        candidate = Below(below.calls, below.around, needed)
        given = _record(module, image, set(below.calls), set(needed))
        try:
            with _replaying(module, image, candidate, given):
                found = logits_of(module(image.clone()))
        except RuntimeError:  # such as writing into what does not matter
            continue
        if torch.equal(found, expected):
            return candidate
    return None


def _record(module: nn.Module, images: Tensor, calls: set[Call], needed: set[Call]) -> Given:
    """Run the model; return copies of what the needed calls gave, and nan for the others."""
    given: Given = {}
    counts: Counter[nn.Module] = Counter()

    def leave(part: nn.Module, _inputs: Any, output: Any) -> None:
        call = (part, counts[part])
        counts[part] += 1
        if call in needed or (call in calls and not isinstance(output, Tensor)):
            given[call] = _copied(output)
        elif call in calls:
            given[call] = _blank(output)

    with ExitStack() as undo:
        for part in {part for part, _ in calls}:
            undo.callback(part.register_forward_hook(leave).remove)
        module(images.clone())
    return given


def _copied(output: Any) -> Any:
    return tree_map_only(Tensor, torch.clone, output)


def _blank(output: Tensor) -> Tensor:
    """Return nan (a one of integers) in the shape of an output, in the memory of one number."""
    value = float("nan") if output.is_floating_point() else 1
    return torch.full((), value, dtype=output.dtype, device=output.device).expand(output.shape)


@contextmanager
def _replaying(module: nn.Module, images: Tensor, below: Below, given: Given) -> Iterator[None]:
    """Let the calls below return what was recorded, in passes of the same images."""
    on = False
    counts: Counter[nn.Module] = Counter()
    parts = list(dict.fromkeys(part for part, _ in below.calls))
    ours: dict[nn.Module, Callable[..., Any]] = {}
    # Others may listen to the module whose output is real, and to all that will run.
    quiet = {inner for part in parts for inner in part.modules()} | set(below.around)
    last = below.calls[-1][0]
    once = [part for part, _ in below.calls].count(last) == 1
    heard = quiet - ({last} if once else set())

    def begin(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal on
        counts.clear()
        on = (
            len(inputs) == 1
            and _same(inputs[0], images)
            and not torch.is_autocast_enabled(images.device.type)
            and torch._C._len_torch_function_stack() == 0
            and not any(_listened(part) for part in heard)
            and all(vars(part).get("forward") is ours.get(part) for part in quiet)
        )

    def instead(part: nn.Module, own: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*inputs: Any, **named: Any) -> Any:
            call = (part, counts[part])
            counts[part] += 1
            if not on or call not in given or call not in below.calls:
                return own(*inputs, **named)
            output = given[call]
            return _copied(output) if call in below.needed else output

        return forward

    with ExitStack() as undo:
        undo.callback(module.register_forward_pre_hook(begin, prepend=True).remove)
        for part in parts:
            before = vars(part).get("forward")
            ours[part] = instead(part, part.forward)
            if before is None:
                undo.callback(vars(part).pop, "forward")
            else:
                undo.callback(vars(part).__setitem__, "forward", before)
            vars(part)["forward"] = ours[part]
        yield


def _same(given: Any, images: Tensor) -> bool:
    """Say whether a pass is of the images recorded, and nobody asks for gradients at them."""
    return (
        isinstance(given, Tensor)
        and not given.requires_grad
        and given.shape == images.shape
        and given.dtype == images.dtype
        and given.device == images.device
        and given.is_contiguous() == images.is_contiguous()
        and torch.equal(given, images)
    )


def _listened(part: nn.Module) -> bool:
    """Say whether somebody has a hook on a module."""
    return bool(
        part._forward_hooks
        or part._forward_pre_hooks
        or part._backward_hooks
        or part._backward_pre_hooks
    )
