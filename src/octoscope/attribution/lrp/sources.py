"""What they are functions of."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from octoscope.attribution.lrp.attnlrp import RuledPass
from octoscope.attribution.lrp.recording import Recording, record
from octoscope.attribution.sizing import Sizing
from octoscope.attribution.source import Batch, Source


def attnlrp_inputs(batch: Batch) -> Tensor:
    """Return what the transformer is fed, (b, C, H, W)."""
    return batch["attnlrp_pass"].inputs


def attnlrp_gradients(batch: Batch) -> Tensor:
    """Return the gradient of y_c by the rules of AttnLRP, (b, C, H, W)."""
    return batch["attnlrp_pass"].gradients(batch.classes)


def lrp_recording(batch: Batch) -> Recording:
    """Return what the layers of a vision transformer saw."""
    return record(batch.module, batch.images)


def logit_relevance(batch: Batch) -> Tensor:
    """Return the relevance of the transformer's logits, (b, K): 1 at the class explained."""
    recording: Recording = batch["lrp_recording"]
    return recording.seed(batch.classes)


def _passes(count: float) -> Callable[[Sizing], float]:
    return lambda _sizing: count


SOURCES: tuple[Source, ...] = (
    Source("attnlrp_pass", RuledPass, "one forward by the rules of AttnLRP"),
    Source(
        "attnlrp_inputs",
        attnlrp_inputs,
        "one forward by the rules of AttnLRP, keeping its graph",
        cost=_passes(1),
    ),
    Source(
        "attnlrp_gradients",
        attnlrp_gradients,
        "one backward by the rules of AttnLRP",
        per_class=True,
        cost=_passes(1),
    ),
    # The positive products of every layer are as two more forwards; propagating them is two again.
    Source(
        "lrp_recording",
        lrp_recording,
        "one forward that keeps what layers see, and their positive products",
        cost=_passes(3),
    ),
    Source(
        "logit_relevance",
        logit_relevance,
        "relevance propagated from the logit to every attention",
        per_class=True,
        cost=_passes(2),
    ),
)
