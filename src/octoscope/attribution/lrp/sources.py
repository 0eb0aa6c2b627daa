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
    """Return what the layers saw, and the attention of every block."""
    return record(batch.module, batch.images, batch.evidence.activations)


def lrp_gradients(batch: Batch) -> dict[str, Tensor]:
    """Return ∇A = dy_c/dA of every block by name, each (b, heads, N, N)."""
    assert batch.attention is not None
    names = [layer.name for layer in batch.attention.layers]
    return batch.evidence.gradients(batch.classes, names)


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
    Source(
        "lrp_recording",
        lrp_recording,
        "one forward that keeps what layers see, and its positive part",
        captures=frozenset({"attention"}),
        cost=_passes(3),
    ),
    Source(
        "lrp_gradients",
        lrp_gradients,
        "one backward and one propagation of relevance to every attention",
        per_class=True,
        captures=frozenset({"attention", "attention gradient"}),
        cost=_passes(3),
    ),
)
