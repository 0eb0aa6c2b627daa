"""From raw maps to pictures: resampling to the image, and normalising for display alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from octoscope.errors import OctoscopeError
from octoscope.models.layout import TargetLayer

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def upsample(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate maps linearly to the size of the image, cell centres aligned.

    Args:
        maps: (..., *s), at native resolution.
        size: *S, as many axes as *s.

    Returns:
        (..., *S), the same as ``interpolate(align_corners=False)`` in every dimension.
    """
    axes = len(size)
    if axes not in MODES:
        raise OctoscopeError(f"maps have 1 to 3 spatial axes, not {axes}")
    rows = maps.reshape(-1, 1, *maps.shape[maps.ndim - axes :])
    resized = F.interpolate(rows, size=tuple(size), mode=MODES[axes], align_corners=False)
    return resized.view(*maps.shape[: maps.ndim - axes], *size)


def on_image(maps: Tensor, layer: TargetLayer, size: Sequence[int]) -> Tensor:
    """Interpolate maps on the grid of a layer to the image, heeding what was padded or cut.

    Args:
        maps: (..., *grid).
        layer: The layer, whose grid may span more or less than the image.
        size: *S of the image.

    Returns:
        (..., *S).
    """
    if layer.extent is None or layer.offset is None:
        return upsample(maps, size)
    whole = upsample(maps, layer.extent)
    for axis, (first, length) in enumerate(zip(layer.offset, size, strict=True)):
        along = axis - len(size)
        places = torch.arange(first, first + length, device=maps.device)
        # What lies beyond the grid is in no patch; it shows what the nearest patch shows.
        whole = whole.index_select(along, places.clamp(0, whole.shape[along] - 1))
    return whole


def normalise(maps: Tensor, axes: int = 2, *, signed: bool = False) -> Tensor:
    """Scale each map for display.

    Args:
        maps: (..., *s).
        axes: Number of spatial axes.
        signed: Keep zero where it is, for a diverging colour scale.

    Returns:
        Unsigned: (map - min) / (max - min) in [0, 1]. Signed: map / max |map| in [-1, 1]. A
        constant unsigned map and a signed map of zeros become zeros.
    """
    s = tuple(range(-axes, 0))
    if signed:
        largest = maps.abs().amax(s, keepdim=True)
        return maps / largest.where(largest > 0, 1)
    low, high = maps.amin(s, keepdim=True), maps.amax(s, keepdim=True)
    span = high - low
    return torch.where(span > 0, (maps - low) / span.where(span > 0, 1), 0)
