"""Methods that ask only what lies above the target layer."""

from __future__ import annotations

from torch import nn

from octoscope.attribution.head.ablation import ablationcam
from octoscope.attribution.head.last_block import last_block
from octoscope.attribution.head.recipro import (
    ReciproSettings,
    reciprocam,
    requires_spatial_features,
)
from octoscope.attribution.head.vit_recipro import VitReciproSettings, vit_reciprocam
from octoscope.attribution.method import Method


def requires_last_block(module: nn.Module) -> None:
    """Refuse models without a last transformer block.

    Raises:
        OctoscopeError: Naming the method to use instead.
    """
    last_block(module)


ROWS: tuple[Method, ...] = (
    Method(
        "ablationcam",
        "Ablation-CAM",
        "cam",
        ablationcam,
        ("activations", "ablated", "logits", "classes"),
        "Desai & Ramaswamy, WACV 2020, Eq 3-4",
        rectified=True,
        sentence="Channels weighted by what the logit loses without them.",
    ),
    Method(
        "reciprocam",
        "Recipro-CAM",
        "head",
        reciprocam,
        ("position_logits", "classes"),
        "Byun & Lee, arXiv 2209.14074, Eq 3-5",
        rectified=False,
        sentence="The logit when the head sees one position of the layer only.",
        settings=ReciproSettings,
        requires=requires_spatial_features,
    ),
    Method(
        "vit_reciprocam",
        "ViT-ReciproCAM",
        "head",
        vit_reciprocam,
        ("masked_sequences", "classes"),
        "Byun & Lee, arXiv 2310.02588, section 3",
        rectified=False,
        sentence="The logit when the last block sees one patch only.",
        families=("transformer",),
        own_layer=True,
        settings=VitReciproSettings,
        requires=requires_last_block,
    ),
)
