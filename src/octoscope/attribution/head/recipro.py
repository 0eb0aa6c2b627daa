"""Recipro-CAM: what the head says when it sees one position only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from octoscope.attribution.head.affine import AffineHead
from octoscope.attribution.head.last_block import last_block, normalises_tokens
from octoscope.attribution.head.masks import in_layout, position_masks
from octoscope.attribution.head.suffix import Suffix
from octoscope.errors import OctoscopeError
from octoscope.models.layers import find_layer
from octoscope.models.layout import TargetLayer


@dataclass(frozen=True)
class ReciproSettings:
    """What can be set of Recipro-CAM.

    Attributes:
        gaussian: Whether the neighbours of the position are kept in part, by a 3×3 Gaussian
            (1/16, 1/8, 1/4 at the centre), or zeroed like all others.
    """

    gaussian: bool = False


def of_classes(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the map of each image's class, (b, *s), of logits (b, *s, K)."""
    index = classes.reshape(-1, *[1] * (logits.ndim - 1))
    return logits.take_along_dim(index, -1)[..., 0]


def reciprocam(position_logits: Tensor, classes: Tensor) -> Tensor:
    """Recipro-CAM: M_p = y_c(head(A ⊙ mask_p)), mask_p being 1 at position p and 0 elsewhere.

    Byun & Lee, arXiv 2209.14074, equations 3-5. What is returned is the logit itself, before the
    paper's min-max normalisation: it holds what the head says of an empty layer (its bias), so a
    map's zero has no meaning of its own, only its order and differences do.

    Args:
        position_logits: (b, *s, K).
        classes: (b,).

    Returns:
        (b, *s), signed.
    """
    return of_classes(position_logits, classes)


def positions_of_affine_head(head: AffineHead, maps: Tensor, *, gaussian: bool) -> Tensor:
    """Return the logits in closed form: W Σ_q mask_p(q) A_q / n + b.

    Args:
        head: The head.
        maps: A, (b, C, *s).
        gaussian: As in `ReciproSettings`.

    Returns:
        (b, *s, K).
    """
    grid = tuple(maps.shape[2:])
    each = torch.einsum("kc,bcn->bnk", head.weight, maps.flatten(2))  # W A_q
    if gaussian:
        numbers = torch.arange(each.shape[1], device=maps.device)
        masks = position_masks(grid, numbers, gaussian=True).flatten(1).to(each.dtype)  # (n, n)
        each = masks @ each
    return (each / each.shape[1] + head.bias).unflatten(1, grid)


def positions_by_suffix(suffix: Suffix, target: TargetLayer, *, gaussian: bool) -> Tensor:
    """Return the logits from one replay per position, which serves all classes: (b, *s, K)."""
    raw = suffix.activations
    count = target.maps(raw[:1]).flatten(2).shape[2]
    numbers = torch.arange(count, device=raw.device)

    def only(own: Tensor, piece: Tensor) -> Tensor:
        """Return A (1, …) once for every position of a piece, with only that kept: (m, …)."""
        masks = position_masks(target.grid, piece, gaussian=gaussian)
        return own * in_layout(masks, target).to(own.dtype)

    logits = torch.stack([suffix.each(row, numbers, only) for row in range(len(raw))])
    return logits.unflatten(1, target.grid)


REFUSED = (
    "in a transformer of tokens the residual path passes the layer by, so masking the layer alone "
    "leaves every position in the logit; use"
)


def requires_spatial_features(module: nn.Module) -> None:
    """Refuse transformers whose features are tokens in a residual stream.

    Raises:
        OctoscopeError: Naming the method to use instead.
    """
    name, _ = find_layer(module) or ("", module)
    if not normalises_tokens(name):
        return
    try:
        last_block(module)
    except OctoscopeError:
        raise OctoscopeError(f"{REFUSED} gradcam") from None
    raise OctoscopeError(f"{REFUSED} vit_reciprocam")


def require_no_prefix(target: TargetLayer) -> None:
    """Refuse a layer with class or register tokens.

    Raises:
        OctoscopeError: Naming the method to use instead.
    """
    if target.other_tokens:
        raise OctoscopeError(
            f"layer {target.name} has class or register tokens: {REFUSED} vit_reciprocam or gradcam"
        )
