"""What methods of the head are functions of."""

from __future__ import annotations

from torch import Tensor

from octoscope.attribution.head.ablation import Drops, drops_by_suffix, drops_of_affine_head
from octoscope.attribution.head.affine import AffineHead
from octoscope.attribution.head.affine import affine_head as find_affine_head
from octoscope.attribution.head.cost import ablation_cost, position_cost, sequence_cost
from octoscope.attribution.head.last_block import last_block
from octoscope.attribution.head.recipro import (
    positions_by_suffix,
    positions_of_affine_head,
    require_no_prefix,
)
from octoscope.attribution.head.suffix import Suffix
from octoscope.attribution.head.trial import equal
from octoscope.attribution.head.vit_recipro import MaskedSequences
from octoscope.attribution.source import Batch, Captured, Source
from octoscope.models.layers import layout_of

_STREAM: frozenset[Captured] = frozenset({"target", "residual"})
NEARLY = 0.05
"""Deviation of the logits of an affine head from the model's, relative to the largest: the shared
pass may have been in lower precision."""


def suffix(batch: Batch) -> Suffix:
    """Return what lies above the target layer."""
    return Suffix.of(batch)


def affine_head(batch: Batch) -> AffineHead | None:
    """Return W and b of a head that is mean and linear layer, None of any other."""
    assert batch.target is not None
    head = find_affine_head(batch.module, batch.target, batch["suffix"])
    if head is None or not equal(head(batch["activations"]), batch.evidence.logits, NEARLY):
        return None  # changed behind PyTorch's back since it was tried
    return head


def ablated(batch: Batch) -> Drops:
    """Return what every class loses with every channel."""
    assert batch.target is not None
    head: AffineHead | None = batch["affine_head"]
    if head is not None:
        return drops_of_affine_head(head, batch["activations"])
    return drops_by_suffix(batch["suffix"], batch.target)


def position_logits(batch: Batch) -> Tensor:
    """Return the logits of every position alone, (b, *s, K)."""
    assert batch.target is not None
    require_no_prefix(batch.target)
    gaussian = batch.settings["reciprocam"].gaussian
    head: AffineHead | None = batch["affine_head"]
    if head is not None:
        return positions_of_affine_head(head, batch["activations"], gaussian=gaussian)
    return positions_by_suffix(batch["suffix"], batch.target, gaussian=gaussian)


def masked_sequences(batch: Batch) -> Tensor:
    """Return the logits of every patch alone in the last block, (b, *s, K)."""
    last = last_block(batch.module)
    if batch.target is not None and batch.target.module is last.norm:
        layer, above = batch.target, batch["suffix"]
    else:
        above = Suffix(batch.module, last.norm, batch.images, batch.forward)
        shape = above.activations.shape
        layer = layout_of(batch.module, last.norm_name, last.norm, shape, batch.images)
    gaussian = batch.settings["vit_reciprocam"].gaussian
    return MaskedSequences(above, layer, last, gaussian=gaussian)()


SOURCES: tuple[Source, ...] = (
    Source("suffix", suffix, "the layers above the target layer", captures=_STREAM),
    Source("affine_head", affine_head, "weights of the head, if it is affine", captures=_STREAM),
    Source(
        "ablated",
        ablated,
        "the layers above the target layer without each channel (nothing if the head is affine)",
        captures=_STREAM,
        cost=ablation_cost,
    ),
    Source(
        "position_logits",
        position_logits,
        "the layers above the target layer with each position (nothing if the head is affine)",
        captures=_STREAM,
        cost=position_cost,
    ),
    Source(
        "masked_sequences",
        masked_sequences,
        "the last block with each patch",
        captures=_STREAM,
        cost=sequence_cost,
    ),
)
