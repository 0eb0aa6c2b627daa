"""Maps of several layers made one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from octoscope.attribution.display import normalise, upsample
from octoscope.errors import OctoscopeError, did_you_mean

Fusion = Literal["mean", "max", "product"]


def fused(maps: Sequence[Tensor], axes: int, how: Fusion) -> Tensor:
    """Combine the maps that one method gives of several layers.

    Magnitudes of different layers cannot be compared, so each map is divided by its own largest
    magnitude; all are interpolated to the finest grid. ``"max"`` is the fusion of LayerCAM (Jiang
    et al., TIP 2021, section III-C); ``"product"`` keeps what all layers show.

    Args:
        maps: One (..., *s) per layer, of any grids.
        axes: Number of spatial axes.
        how: ``"mean"``, ``"max"`` (of values, by magnitude) or ``"product"``.

    Returns:
        (..., *s) on the finest grid, in [-1, 1].

    Raises:
        OctoscopeError: If `how` is no fusion.
    """
    if how not in get_args(Fusion):
        known = get_args(Fusion)
        raise OctoscopeError(
            f'fuse="{how}" is no way to fuse layers{did_you_mean(str(how), known)}; '
            f"known are {', '.join(known)}"
        )
    finest = max((m.shape[m.ndim - axes :] for m in maps), key=lambda grid: grid.numel())
    stack = torch.stack([upsample(normalise(m, axes, signed=True), finest) for m in maps])
    if how == "mean":
        return stack.mean(0)
    if how == "max":
        return stack.gather(0, stack.abs().argmax(0, keepdim=True)).squeeze(0)
    # Where all layers speak against the class, the product is against it too, however many.
    agree = (stack > 0).all(0).float() - (stack < 0).all(0).float()
    return agree * stack.abs().prod(0)
