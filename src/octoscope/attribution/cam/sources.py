"""What class activation maps are functions of."""

from __future__ import annotations

from torch import Tensor

from octoscope.attribution.cam.finer import comparison
from octoscope.attribution.cam.fullgrad import full_gradients
from octoscope.attribution.cam.score import channel_scores, one_per_channel
from octoscope.attribution.sizing import Sizing
from octoscope.attribution.source import Batch, Source
from octoscope.errors import OctoscopeError


def activations(batch: Batch) -> Tensor:
    """Return A, (b, C, *s)."""
    assert batch.target is not None
    return batch.target.maps(batch.evidence.activations[batch.target.name])


def gradients(batch: Batch) -> Tensor:
    """Return g = dy_c/dA, (b, C, *s)."""
    return gradients_of(batch, batch.classes)


def gradients_of(batch: Batch, wanted: Tensor) -> Tensor:
    """Return the gradient of any score, as `Evidence.gradients` takes it, (b, C, *s).

    Raises:
        OctoscopeError: If only the prefix tokens of the layer matter to the logits.
    """
    target = batch.target
    assert target is not None
    raw = batch.evidence.gradients(wanted, [target.name])[target.name]
    maps = target.maps(raw)
    if target.other_tokens and not bool(maps.any()) and bool(raw.any()):
        raise OctoscopeError(
            f"the logits depend on no patch token of layer {target.name}, only on its class token; "
            "pass layer= one before the last attention, such as the last block's norm1"
        )
    return maps


def finer_gradients(batch: Batch) -> Tensor:
    """Return the gradient of Finer-CAM's score with respect to A, (b, C, *s)."""
    settings = batch.settings["finercam"]
    return gradients_of(batch, comparison(batch.evidence.logits, batch.classes, settings))


def one_full_pass(_sizing: Sizing) -> float:
    """Cost one forward that keeps the whole graph, and one backward of about the same work."""
    return 2.0


SOURCES = (
    Source("activations", activations, "activations of the layer", captures=frozenset({"target"})),
    Source(
        "gradients",
        gradients,
        "one backward from the logit to the layer",
        per_class=True,
        captures=frozenset({"target", "target gradient"}),
    ),
    Source(
        "finer_gradients",
        finer_gradients,
        "one backward from the difference of logits to the layer",
        per_class=True,
        captures=frozenset({"target", "target gradient"}),
    ),
    Source(
        "channel_scores",
        channel_scores,
        "one forward per channel of the layer, on the image seen through it",
        captures=frozenset({"target"}),
        cost=one_per_channel,
    ),
    Source(
        "full_gradients",
        full_gradients,
        "one forward with the whole graph, one backward to the image",
        per_class=True,
        cost=one_full_pass,
    ),
)
