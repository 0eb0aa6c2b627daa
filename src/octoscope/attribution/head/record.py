"""What the modules below a layer gave in a pass, so that the pass can go on from there again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from octoscope.errors import OctoscopeError


@dataclass(frozen=True)
class Call:
    """One call of a module, and what it gave.

    Attributes:
        module: The module.
        number: Which of its calls in the pass, from 0.
        leaves: Its output, flat: tensors and whatever stands between them, copied.
        spec: How they are nested.
    """

    module: nn.Module
    number: int
    leaves: list[Any]
    spec: TreeSpec

    def output(self, leaves: Sequence[Any]) -> Any:
        """Nest leaves as the module does."""
        return tree_unflatten(list(leaves), self.spec)


@contextmanager
def calls_until(module: nn.Module, layer: nn.Module) -> Iterator[list[Call]]:
    """Record the calls that had ended when a layer began, and the layer's own, in a pass.

    Only the largest are kept: the calls inside a call that ended are dropped. Every pass of
    `module` in the context begins the list anew.

    Args:
        module: The model.
        layer: A part of it that runs once.

    Yields:
        The calls in order, the layer's own last.
    """
    calls: list[Call] = []
    open_: list[int] = []
    counts: Counter[nn.Module] = Counter()
    begun = False

    def start(_module: nn.Module, _inputs: Any) -> None:
        nonlocal begun
        begun = False
        calls.clear()
        open_.clear()
        counts.clear()

    def enter(part: nn.Module, _inputs: Any) -> None:
        nonlocal begun
        begun = begun or part is layer
        if not begun:
            open_.append(len(calls))

    def leave(part: nn.Module, _inputs: Any, output: Any) -> None:
        if part is layer:
            calls.append(_call(part, 0, output))
        elif not begun:
            del calls[open_.pop() :]
            calls.append(_call(part, counts[part], output))
            counts[part] += 1

    with ExitStack() as undo:
        undo.callback(module.register_forward_pre_hook(start).remove)
        for part in module.modules():
            if part is not module:
                undo.callback(part.register_forward_pre_hook(enter).remove)
                undo.callback(part.register_forward_hook(leave).remove)
        yield calls


def _call(part: nn.Module, number: int, output: Any) -> Call:
    leaves, spec = tree_flatten(output)
    copies = [_copy(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    return Call(part, number, copies, spec)


Rows = tuple[int, int]
"""The axis of a tensor along which the images lie, and how many entries of it belong to each."""


def rows_of(one: Any, two: Any) -> Rows | None:
    """Tell where the images lie in a tensor, from a pass of one image and a pass of two.

    Returns:
        The axis and the entries per image; None for what does not depend on the number of images.

    Raises:
        OctoscopeError: If the shapes do not tell.
    """
    if not (isinstance(one, Tensor) and isinstance(two, Tensor)) or one.shape == two.shape:
        return None
    sides = zip(one.shape, two.shape, strict=True)
    differ = [axis for axis, (a, b) in enumerate(sides) if a != b]
    if len(differ) != 1 or two.shape[differ[0]] != 2 * one.shape[differ[0]]:
        raise OctoscopeError(f"shapes {tuple(one.shape)} and {tuple(two.shape)} are no rows")
    return differ[0], one.shape[differ[0]]


Leaf = tuple[nn.Module, int, int]
"""A module, which of its calls, and which leaf of its output."""


@contextmanager
def leaves_kept(module: nn.Module, wanted: Sequence[Leaf]) -> Iterator[list[list[Tensor]]]:
    """Record some leaves in every pass of `module` that ends.

    Yields:
        One list per pass, in the order of `wanted`.
    """
    passes: list[list[Tensor]] = []
    seen: dict[Leaf, Tensor] = {}
    counts: Counter[nn.Module] = Counter()

    def start(_module: nn.Module, _inputs: Any) -> None:
        seen.clear()
        counts.clear()

    def leave(parts: Sequence[tuple[int, int]], part: nn.Module, _inputs: Any, output: Any) -> None:
        leaves, _ = tree_flatten(output)
        for number, place in parts:
            if number == counts[part]:
                seen[part, number, place] = _copy(leaves[place])
        counts[part] += 1

    def end(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        passes.append([seen[leaf] for leaf in wanted])

    watched: dict[nn.Module, list[tuple[int, int]]] = {}
    for part, number, place in wanted:
        watched.setdefault(part, []).append((number, place))
    with ExitStack() as undo:
        undo.callback(module.register_forward_pre_hook(start).remove)
        for part, parts in watched.items():
            undo.callback(part.register_forward_hook(partial(leave, parts)).remove)
        undo.callback(module.register_forward_hook(end).remove)
        yield passes


@contextmanager
def giving(layer: nn.Module, activations: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Change the first tensor that a layer gives, for the length of the context."""

    def change(_layer: nn.Module, _inputs: Any, output: Any) -> Any:
        leaves, spec = tree_flatten(output)
        return tree_unflatten(with_first(leaves, activations(first(leaves))), spec)

    hook = layer.register_forward_hook(change)
    try:
        yield
    finally:
        hook.remove()


def first(leaves: Sequence[Any]) -> Tensor:
    """Return the first tensor of an output's leaves."""
    return next(leaf for leaf in leaves if isinstance(leaf, Tensor))


def with_first(leaves: Sequence[Any], tensor: Tensor) -> list[Any]:
    """Return the leaves with the first tensor replaced, by a copy of the same dtype."""
    changed = list(leaves)
    place = next(i for i, leaf in enumerate(changed) if isinstance(leaf, Tensor))
    changed[place] = _copy(tensor.to(changed[place].dtype))
    return changed


def of_images(tensor: Tensor, rows: Rows, images: slice) -> Tensor:
    """Return what belongs to some images."""
    axis, each = rows
    return tensor.narrow(axis, images.start * each, (images.stop - images.start) * each)


def repeated(tensor: Tensor, rows: Rows, times: int, *, copies: bool) -> Tensor:
    """Return what belongs to one image for several copies of it.

    Args:
        tensor: As `of_images` gives it of one.
        rows: Where the images lie in it.
        times: Number m of copies.
        copies: Whether each has memory of its own, which writing in place needs.
    """
    axis, each = rows
    if each == 1:
        shape = list(tensor.shape)
        shape[axis] = times
        wide = tensor.expand(shape)
    else:
        wide = tensor.movedim(axis, 0)
        wide = wide.expand(times, *wide.shape).flatten(0, 1).movedim(0, axis)
    if copies or times == 1:  # what is written into one copy would change the record itself
        return _copy(wide)
    return wide


def _copy(tensor: Tensor) -> Tensor:
    """Copy a tensor into memory in the order of its axes, in which every view is possible."""
    return tensor.clone(memory_format=torch.contiguous_format)
