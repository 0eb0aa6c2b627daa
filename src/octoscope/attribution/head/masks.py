"""Masks over the positions of a layer, one per position."""

from __future__ import annotations

import torch
from torch import Tensor

from octoscope.models.layout import Grid, TargetLayer

SIDE = 0.5
"""Weight of a neighbour along an axis, relative to the centre's."""


def position_masks(grid: Grid, numbers: Tensor, *, gaussian: bool) -> Tensor:
    """Return masks that keep one position each.

    Args:
        grid: *s, n positions in all.
        numbers: (m,) of 0 to n - 1, in raster order.
        gaussian: Whether the neighbours are kept in part: along every axis by (1/4, 1/2, 1/4), so
            that in a plane the centre weighs 1/4, a side 1/8 and a corner 1/16. What would lie
            beyond the border is left out.

    Returns:
        (m, *s): 1 at the position and 0 elsewhere, or the Gaussian.
    """
    masks = torch.ones(len(numbers), device=numbers.device)
    left = numbers
    for length in reversed(grid):  # the product over the axes, the last axis first
        place, left = left % length, left.div(length, rounding_mode="floor")
        away = (torch.arange(length, device=numbers.device) - place[:, None]).abs()  # (m, length)
        along = (away == 0).float()
        if gaussian:
            along = 0.5 * (along + SIDE * (away == 1))
        masks = along.reshape(len(numbers), length, *[1] * (masks.ndim - 1)) * masks[:, None]
    return masks


def in_layout(masks: Tensor, layer: TargetLayer) -> Tensor:
    """Shape masks (m, *s) so that they multiply a layer's output; other tokens are kept whole."""
    if layer.kind == "nchw":
        return masks.unsqueeze(1)
    if layer.kind == "nhwc":
        return masks.unsqueeze(-1)
    patches = masks.flatten(1)
    prefix = patches.new_ones(len(patches), layer.prefix_tokens)
    if layer.places is None:
        suffix = patches.new_ones(len(patches), layer.suffix_tokens)
        return torch.cat([prefix, patches, suffix], 1).unsqueeze(-1)
    tokens = patches.new_ones(len(patches), layer.tokens)
    tokens[:, list(layer.places)] = patches
    return tokens.unsqueeze(-1)
