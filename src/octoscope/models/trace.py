"""Watching a network run once on noise: what every layer gave, and what the logits come from.

The images to be explained play no part, so that what is found does not depend on which of them
comes first. One forward keeps its graph; one backward tells at which positions the logits depend on
a layer. Whether *everything* goes through a layer, the graph says (`octoscope.models.graph`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.multiprocessing.reductions import StorageWeakRef

from octoscope.models.graph import cuts, most_in_a_row
from octoscope.models.probe import first_tensor, logits_of, with_first

ALIKE = 0.01
"""Deviation of gradients, relative to the largest, that is rounding, of half precision too."""


@dataclass(eq=False)
class Point:
    """A tensor on the way from the images to the logits.

    Attributes:
        edge: Its place in the graph.
        time: When it was made; later ones are larger.
        shape: Its shape; empty if the logits do not depend on it.
        device: Where it lies.
        dtype: Its type.
        by_first: Where the gradient of the logits is not zero, over the axes after the channels, if
            channels come first: (*s).
        by_last: The same if channels come last: the axes between rows and channels.
        alike: Of tokens (1, N, C): whether the gradient is the same wherever it is not zero.
        is_cut: Whether all that the logits have of the images goes through it.
    """

    edge: GradientEdge
    time: int
    shape: tuple[int, ...] = ()
    device: torch.device | None = None
    dtype: torch.dtype = torch.float32
    by_first: Tensor = field(default_factory=lambda: torch.zeros(0))
    by_last: Tensor = field(default_factory=lambda: torch.zeros(0))
    alike: bool = False
    is_cut: bool = False

    def learn(self, gradients: Sequence[Tensor | None]) -> None:
        """Keep of a gradient what is asked later (pre-hook of the node)."""
        gradient = gradients[self.edge.output_nr]
        if gradient is None or gradient.ndim < 3:
            return
        self.shape, self.device, self.dtype = tuple(gradient.shape), gradient.device, gradient.dtype
        used = gradient[:1].ne(0)
        self.by_first, self.by_last = used.any(1)[0], used.any(-1)[0]
        if gradient.ndim == 3 and len(gradient) == 1:
            read = gradient[0][self.by_last]
            apart = (read - read[:1]).abs()
            self.alike = bool(len(read)) and bool(apart.max() <= ALIKE * read.abs().max())


@dataclass(eq=False)
class Call:
    """One run of a module.

    Attributes:
        name: Qualified name in the eager model.
        module: The module.
        point: What it gave.
        entry: Node and number of its first input, if that is in the graph.
    """

    name: str
    module: nn.Module
    point: Point
    entry: tuple[object, int] | None


class Trace:
    """A run of a lent model, with its graph.

    Args:
        module: The lent model.
        noise: (1, C, *S).

    Attributes:
        size: *S.
        calls: Every run of a layer on which the logits depend, in the order in which they end.
        runs: Name of a layer to how often it ran.
        cuts: What everything goes through, from the images to the logits.
        image: The images themselves, where the graph begins.
        blind: Whether the head looks at nothing yet, since its weights are zero.
    """

    def __init__(self, module: nn.Module, noise: Tensor) -> None:
        self.size = tuple(noise.shape[2:])
        self.runs: dict[str, int] = {}
        self.calls: list[Call] = []
        self._starts: list[Tensor] = []
        self._given: dict[int, StorageWeakRef] = {}
        self._entries: dict[nn.Module, list[tuple[object, int] | None]] = {}
        whole = torch.autocast(noise.device.type, enabled=False)
        with torch.inference_mode(False), torch.enable_grad(), whole:
            leaf = noise.clone().requires_grad_()
            logits = self._run(module, leaf)
            ranks = torch.arange(1, logits.shape[1] + 1, device=logits.device)
            self._score = (logits * ranks).sum()  # no two classes cancel
        begun = next((one for one in self._starts if one.shape == leaf.shape), leaf)
        self.image = Point(get_gradient_edge(begun), -1, tuple(leaf.shape))
        self._starts.append(leaf)
        self.cuts = self._cuts()
        self._differentiate()
        self.blind = not any(bool(call.point.by_last.any()) for call in self.calls)

    def gradient(self, of: GradientEdge | None, to: Point, weights: Tensor | None) -> Tensor | None:
        """Differentiate weights · (a tensor), or the score if `of` is None, to another tensor."""
        outputs: Any = self._score if of is None else of
        return torch.autograd.grad(
            [outputs],
            [to.edge],
            grad_outputs=None if weights is None else [weights],
            retain_graph=True,
            allow_unused=True,
        )[0]

    def most_in_a_row(self, after: Point, calls: Iterable[Call]) -> int:
        """Count the most of some calls that follow each other on a path from a tensor on."""
        nodes = [call.point.edge.node for call in calls if call.point.time > after.time]
        end = self._score.grad_fn
        return 0 if end is None else most_in_a_row(end, after.edge.node, nodes)

    def _run(self, module: nn.Module, leaf: Tensor) -> Tensor:
        with ExitStack() as undo:
            for name, part in module.named_modules():
                if name:
                    undo.callback(part.register_forward_pre_hook(self._enter).remove)
                    undo.callback(part.register_forward_hook(partial(self._leave, name)).remove)
            return logits_of(module(leaf.clone()))  # which may be written into

    def _enter(self, part: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        given = next((one for one in inputs if isinstance(one, Tensor)), None)
        again = None
        if given is not None and self._is_cut_off(given):
            given = self._start(given).clone()
            again = with_first(inputs, given)
        entry = None
        if given is not None and given.grad_fn is not None:
            entry = (given.grad_fn, given.output_nr)
        self._entries.setdefault(part, []).append(entry)
        return again

    def _is_cut_off(self, given: Tensor) -> bool:
        """Say whether a tensor is the image, or what a layer gave, taken out of the graph."""
        if given.requires_grad or not given.is_floating_point():
            return False
        return not self._given or given.untyped_storage()._cdata in self._given

    def _start(self, tensor: Tensor) -> Tensor:
        """Begin the graph anew."""
        torch.set_grad_enabled(True)
        self._starts.append(tensor.detach().requires_grad_())
        return self._starts[-1]

    def _leave(self, name: str, part: nn.Module, _inputs: Any, output: Any) -> Any:
        entry = self._entries[part].pop()
        try:
            tensor = first_tensor(output)
        except Exception:  # whatever a layer may give that is no tensor
            return None
        self.runs[name] = self.runs.get(name, 0) + 1
        if not torch.is_grad_enabled() and tensor.is_floating_point():
            tensor = self._start(tensor)  # the model runs its backbone under its own no_grad
        if not tensor.requires_grad:
            return None
        given = tensor.clone()  # what follows may write into it
        memory = given.untyped_storage()
        self._given[memory._cdata] = StorageWeakRef(memory)  # so that the number stays its own
        edge = get_gradient_edge(given)
        self.calls.append(Call(name, part, Point(edge, edge.node._sequence_nr()), entry))
        return with_first(output, given)

    def _cuts(self) -> list[Point]:
        if self._score.grad_fn is None:
            self.calls = []
            return []
        starts = [get_gradient_edge(one).node for one in self._starts]
        uncounted = self.image.shape[1] if any(weighs(call.module) for call in self.calls) else 0
        weighing = [call.point.edge.node for call in self.calls if weighs(call.module)]
        points = {
            (call.point.edge.node, call.point.edge.output_nr): call.point for call in self.calls
        }
        found = []
        for edge in cuts(self._score.grad_fn, starts, weighing, uncounted):
            if edge.node in starts:
                continue
            fresh = Point(edge, edge.node._sequence_nr())
            point = points.get((edge.node, edge.output_nr), fresh)
            point.is_cut = True
            found.append(point)
        return found

    def _differentiate(self) -> None:
        """Let every point learn from one backward."""
        inputs = [get_gradient_edge(one) for one in self._starts]
        points = dict.fromkeys([*(call.point for call in self.calls), *self.cuts])
        with ExitStack() as undo:
            for point in points:
                undo.callback(point.edge.node.register_prehook(point.learn).remove)
            if points:
                torch.autograd.grad(self._score, inputs, retain_graph=True, allow_unused=True)
        self.calls = [call for call in self.calls if call.point.shape]


def weighs(module: nn.Module) -> bool:
    """Say whether a module itself multiplies by a matrix: a convolution, a linear layer."""
    if any(True for _ in module.children()):  # its own parameters may be positions
        return isinstance(module, nn.MultiheadAttention)
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return True
    shapes = (parameter.shape for parameter in module.parameters(recurse=False))
    return any(sum(length > 1 for length in shape) > 1 for shape in shapes)
