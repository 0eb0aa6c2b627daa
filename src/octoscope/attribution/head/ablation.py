"""Ablation-CAM: channels weighted by what the logit loses without them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from octoscope.attribution.head.affine import AffineHead
from octoscope.attribution.head.suffix import Suffix
from octoscope.models.layout import TargetLayer

NEAR_ZERO = 1e-6
"""A logit closer to zero than this, relative to the largest drop, does not set the scale."""

Drops = Callable[[Tensor], Tensor]
"""Classes (b,) to (b, C): y_c - y_c^{A_k=0} for every channel k."""


def ablationcam(activations: Tensor, ablated: Drops, logits: Tensor, classes: Tensor) -> Tensor:
    """Ablation-CAM: M = Σ_k a_k A_k with a_k = (y_c - y_c^{A_k=0}) / y_c.

    Desai & Ramaswamy, WACV 2020, equations 3-4. The paper's map is ReLU(M). y_c only scales the
    map of an image, but with its sign: where the logit is negative, the paper's map is the evidence
    *against* the class, as here. A logit nearer to 0 than 1e-6 of the largest drop is kept at that
    bound with its sign. A channel is set to zero wherever the layer gives it: at every position
    and, of a transformer, in its prefix tokens too.

    Args:
        activations: A, (b, C, *s).
        ablated: Gives the drops of the classes.
        logits: (b, K).
        classes: (b,).

    Returns:
        (b, *s), signed.
    """
    drops = ablated(classes)  # (b, C)
    logit = logits.gather(1, classes[:, None])  # (b, 1)
    bound = NEAR_ZERO * drops.abs().amax(1, keepdim=True)
    near = torch.where(logit < 0, -bound, bound).masked_fill(bound == 0, 1)
    scale = torch.where(logit.abs() > bound, logit, near)
    return torch.einsum("bc,bc...->b...", drops / scale, activations)


def drops_of_affine_head(head: AffineHead, activations: Tensor) -> Drops:
    """Return the drops in closed form: y_c - y_c^{A_k=0} = w_ck · mean(A_k)."""
    means = activations.flatten(2).mean(2)  # (b, C)
    return lambda classes: head.weight[classes] * means


def drops_by_suffix(suffix: Suffix, target: TargetLayer) -> Drops:
    """Return the drops from one replay per channel, which serves all classes.

    The logits with all channels are replayed too, so that rounding below the layer cancels.
    """
    raw = suffix.activations
    axis = 1 if target.kind == "nchw" else raw.ndim - 1
    channels = torch.arange(raw.shape[axis], device=raw.device)

    def without(own: Tensor, piece: Tensor) -> Tensor:
        """Return A (1, …) once for every channel of a piece, with that channel zero: (m, …)."""
        changed = own.expand(len(piece), *own.shape[1:]).clone()
        changed.movedim(axis, 1)[torch.arange(len(piece), device=piece.device), piece] = 0
        return changed

    rows = range(len(raw))
    whole = torch.stack([suffix(row, raw[row : row + 1]) for row in rows])  # (b, 1, K)
    drops = whole - torch.stack([suffix.each(row, channels, without) for row in rows])  # (b, C, K)
    return lambda classes: drops.take_along_dim(classes[:, None, None], 2)[..., 0]
