"""What is asked for, and where in the model it is to be looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from octoscope.attribution.capture import Capture, Evidence
from octoscope.attribution.fusion import Fusion
from octoscope.attribution.head.residual import block_before
from octoscope.attribution.method import Method
from octoscope.attribution.plan import captures_of
from octoscope.attribution.refusals import plainly
from octoscope.attribution.registry import SOURCES
from octoscope.errors import OctoscopeError
from octoscope.models.attention import AttentionStack, confirmed, find_attention
from octoscope.models.borrow import borrowed, eager, own_device
from octoscope.models.finding import found_in
from octoscope.models.layers import choose_layer, layout_of
from octoscope.models.layout import TargetLayer
from octoscope.models.view import counterpart

Layer = str | nn.Module | TargetLayer
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Request:
    """Everything asked for but the images and classes."""

    model: nn.Module
    methods: tuple[Method, ...]
    settings: Mapping[str, Any]
    layers: tuple[Layer | None, ...]
    fuse: Fusion
    autocast: torch.dtype | None
    batch_size: int | None
    rectify: bool
    progress: bool
    optional: frozenset[str] = frozenset()
    """Names of the methods that may be left out, because a family or "all" stands for them."""

    def without_layers(self) -> Request | None:
        """Return the request of the methods that need nothing of a layer; None if it is none.

        It is none where no method would be left, or one was asked for that would be left out.
        """
        kept = tuple(one for one in self.methods if not captures_of([one], SOURCES))
        lost = {one.name for one in self.methods if one not in kept}
        if not kept or not lost or not lost <= self.optional or any(self.layers):
            return None
        return replace(self, methods=kept)


@dataclass
class Scene:
    """What is looked at in the model; the layouts become known with the first pass."""

    capture: Capture
    layers: list[tuple[str, nn.Module]]
    layouts: dict[str, TargetLayer]
    attention: AttentionStack | None
    refused: dict[str, str] = field(default_factory=dict)
    """Methods left out while running → why."""

    @property
    def targets(self) -> list[TargetLayer]:
        """The target layers, as far as their layouts are known."""
        return [self.layouts[name] for name, _ in self.layers if name in self.layouts]


def several(layer: Layer | Sequence[Layer] | None) -> tuple[Layer | None, ...]:
    """Read ``layer=`` of `explain`: one layer, several, or None for the model's own.

    Raises:
        OctoscopeError: If the list is empty.
    """
    if isinstance(layer, list | tuple):
        if not layer:
            raise OctoscopeError("layer=[] names no layer; leave it out for the default one")
        return tuple(layer)
    return (layer,)  # type: ignore[return-value]


def autocast_dtype(precision: str) -> torch.dtype | None:
    """Read ``precision=`` of `explain`; None is float32.

    Raises:
        OctoscopeError: If it is neither.
    """
    known: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16}
    if precision not in known:
        raise OctoscopeError(f'precision="{precision}" is neither float32 nor bfloat16')
    return known[precision]


@contextmanager
def lent(request: Request) -> Iterator[Request]:
    """Borrow the model of a request; yield the same request of the view that is lent."""
    with borrowed(request.model) as view, plainly(view), own_device(view):

        def within(layer: Layer | None) -> Layer | None:
            if isinstance(layer, TargetLayer):
                return replace(layer, module=counterpart(view, layer.module))
            return counterpart(view, layer) if isinstance(layer, nn.Module) else layer

        yield replace(request, model=view, layers=tuple(map(within, request.layers)))


def look_at(request: Request, images: Tensor) -> Scene:
    """Find the layers that the methods need; an unknown network is probed by one pass."""
    model, kept = request.model, captures_of(request.methods, SOURCES)
    layers: list[tuple[str, nn.Module]] = []
    stated: dict[str, TargetLayer] = {}
    for layer in request.layers if "target" in kept else ():
        if isinstance(layer, TargetLayer):
            layers.append((layer.name, layer.module))
            stated[layer.name] = layer
        else:
            layers.append(choose_layer(model, images, layer))
    attention = None
    if kept & {"attention", "blocks"}:
        attention = confirmed(find_attention(model), found_in(model, images))
    watched = dict(layers)
    if "residual" in kept:
        for name, _ in layers:
            watched |= dict(filter(None, [block_before(eager(model), name)]))
    differentiate = {name for name, _ in layers if "target gradient" in kept}
    if attention is not None:
        if "attention" in kept:
            watched |= {one.name: one.matrix for one in attention.layers}
        if "blocks" in kept:
            watched |= {one.block_name: one.block for one in attention.layers}
        if "attention gradient" in kept:
            differentiate |= {one.name for one in attention.layers}
    switches = attention.switches if attention is not None and "attention" in kept else ()
    capture = Capture(model, watched, switches, differentiate)
    return Scene(capture, layers, stated, attention)


def read_layouts(scene: Scene, model: nn.Module, evidence: Evidence, images: Tensor) -> None:
    """Read the layouts of the target layers from what they gave for images (b, C, *S), once."""
    for name, module in scene.layers:
        if name not in scene.layouts:
            shape = evidence.activations[name].shape
            scene.layouts[name] = layout_of(model, name, module, shape, images)
