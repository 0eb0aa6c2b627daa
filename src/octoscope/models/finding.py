"""What one run on noise showed of a model, remembered as long as the model is built as it was."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from octoscope.errors import OctoscopeError
from octoscope.models.borrow import borrowed
from octoscope.models.choice import Choice
from octoscope.models.layout import Patches
from octoscope.models.output import is_read
from octoscope.models.probe import as_the_model_takes, noise_like, refusal_of
from octoscope.models.structure import parts_of
from octoscope.models.trace import Trace
from octoscope.models.view import origin

MOST_SHAPES = 16
"""Shapes of images of which is kept what one model showed."""


@dataclass(frozen=True)
class Seen:
    """What a run showed of one layer.

    Attributes:
        shape: Of its output.
        is_cut: Whether everything goes through it.
        read: Of tokens: which the logits depend on, (N,).
        alike: Of tokens: whether they depend on all of those in the same way.
    """

    shape: tuple[int, ...]
    is_cut: bool
    read: Tensor
    alike: bool


@dataclass(frozen=True)
class Finding:
    """What a run on noise showed of a model, for images of one shape; it holds no module.

    Attributes:
        layer: Qualified name of the layer to explain; empty if there is none.
        reason: Why there is none.
        patches: Number of tokens to where the patches are among them.
        runs: Name of a layer to how often it ran.
        layers: Name of each layer that ran once, and on which the logits depend, to what it showed.
    """

    layer: str
    reason: str
    patches: dict[int, Patches]
    runs: dict[str, int]
    layers: dict[str, Seen]


_FOUND: WeakKeyDictionary[nn.Module, tuple[Hashable, dict[Hashable, Finding]]] = WeakKeyDictionary()


def found_in(model: nn.Module, images: Tensor) -> Finding:
    """Run a model once on noise of the shape of images, or remember what that showed.

    It is run anew when modules or settings of the model have changed.

    Args:
        model: Any classifier.
        images: (B, C, *S), of which only shape, dtype and device matter.
    """
    with borrowed(model) as module:
        # A view lives as long as a call, and what it gives may be read in its own way.
        own = module if is_read(module) else origin(module)
        parts = parts_of(own)
        before = _FOUND.get(own)
        if before is None or before[0] != parts:
            _FOUND[own] = before = (parts, {})
        image = as_the_model_takes(module, images[:1])
        topic = (tuple(image.shape), image.dtype, image.device)
        if topic not in before[1]:
            if len(before[1]) >= MOST_SHAPES:
                before[1].clear()
            before[1][topic] = _finding(module, image)
        return before[1][topic]


def _finding(module: nn.Module, image: Tensor) -> Finding:
    try:
        trace = Trace(module, noise_like(image))
    except (RuntimeError, AssertionError) as error:
        if (reason := refusal_of(module, image, error)) is None:
            raise
        raise OctoscopeError(reason) from error
    choice = Choice(module, trace)
    try:
        layer, reason = choice.made().name, ""
    except OctoscopeError as error:
        layer, reason = "", str(error)
    layers = {}
    for call in trace.calls:
        if trace.runs[call.name] == 1:
            point = call.point
            layers[call.name] = Seen(point.shape, point.is_cut, point.by_last.cpu(), point.alike)
    return Finding(layer, reason, choice.patches, trace.runs, layers)
