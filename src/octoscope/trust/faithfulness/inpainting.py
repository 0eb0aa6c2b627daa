"""A B-scan without its particulars: what its own tissue looks like at every depth.

Every A-scan is laid out by depth: the vitreous by its distance from the ILM, the retina by its
relative depth between ILM and RPE, the choroid by its distance from the RPE. The lateral median
at every depth is the ordinary look of the scan; each A-scan gets it back at its own depths. The
layers stay where they are, and what less than half of the scan shows at a depth is gone. What stays
is the course of ILM and RPE: a lesion that lifts them leaves its outline.

Shapes: images (B, C, H, W), rows `first` and `last` of the retina (B, W).
"""

from __future__ import annotations

import torch
from torch import Tensor

from octoscope.errors import OctoscopeError

Retina = Tensor | tuple[Tensor, Tensor]
"""Where the retina is: (B, H, W) bool, or the rows of ILM and RPE, (B, W) each."""
DEPTHS = 64
"""Relative depths between ILM and RPE at which the median is taken."""


def surfaces_of(retina: Retina, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the last row of the retina in every column, first > last without one.

    Args:
        retina: A mask (B, H, W), of which the outermost rows count; or the rows of ILM and RPE as
            `RetinaLayers` holds them, (B, W) each: pixels with ILM <= row < RPE are retina.
        images: (B, C, H, W).

    Returns:
        Two (B, W) int64 on the device of the images.

    Raises:
        OctoscopeError: If the images are volumes or the shapes do not fit.
    """
    if images.ndim != 4:
        raise OctoscopeError(
            f'baseline="retina" is for B-scans (B, C, H, W), not images of shape '
            f'{tuple(images.shape)}; use "blur"'
        )
    batch, _, height, width = images.shape
    if not isinstance(retina, tuple):
        if tuple(retina.shape) != (batch, height, width):
            raise OctoscopeError(
                f"a retina of shape {tuple(retina.shape)} does not fit images of shape "
                f"{tuple(images.shape)}; give a mask (B, H, W)"
            )
        inside = torch.as_tensor(retina).to(images.device) != 0
        row = torch.arange(height, device=images.device)[:, None]
        first = row.where(inside, height).amin(1)
        return first, row.where(inside, -1).amax(1)
    rows = [torch.as_tensor(surface).to(images.device) for surface in retina]
    for surface in rows:
        if tuple(surface.shape) != (batch, width):
            raise OctoscopeError(
                f"surfaces of shape {tuple(surface.shape)} do not fit images of shape "
                f"{tuple(images.shape)}; give a row of ILM and RPE for each column, (B, W)"
            )
    ilm, rpe = (surface.double().nan_to_num(nan=-1.0) for surface in rows)
    known = rows[0].isfinite() & rows[1].isfinite()
    first = ilm.ceil().clamp(0, height).long()
    last = (rpe.ceil() - 1).clamp(-1, height - 1).long()
    return first.where(known, height), last.where(known, -1)


def inpainted(images: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Return images whose every pixel looks as its scan does at that depth.

    Args:
        images: (B, C, H, W).
        first: (B, W) first row of the retina.
        last: (B, W) its last row; below `first` where the column has none.

    Returns:
        (B, C, H, W). A column without retina is filled with its own mean, per channel.
    """
    height = images.shape[2]
    has = (first <= last)[:, None, None]  # (B, 1, 1, W)
    top, end = first[:, None, None], last[:, None, None]
    step = torch.arange(height, device=images.device)[:, None]  # (H, 1)
    row = step.expand(height, images.shape[3])

    above = _median(_picked(images, top - 1 - step, has))  # by distance from the ILM, (B, C, H)
    below = _median(_picked(images, end + 1 + step, has))
    thickness = (end - top + 1).clamp(min=1)
    middle = (torch.arange(DEPTHS, device=images.device)[:, None] + 0.5) / DEPTHS
    sought = (top + middle * thickness - 0.5).clamp(min=top, max=end)  # (B, 1, D, W)
    inner = _median(_between(images, sought, has))  # (B, C, D)

    depth = (row - top + 0.5) / thickness * DEPTHS - 0.5
    outside = torch.where(row < top, _spread(above, top - 1 - row), _spread(below, row - end - 1))
    low = depth.floor()
    part = (depth - low).to(images)
    within = _spread(inner, low.long()) * (1 - part) + _spread(inner, low.long() + 1) * part
    found = torch.where((row >= top) & (row <= end), within, outside)
    return torch.where(has, found, images.mean(2, keepdim=True))


def _picked(images: Tensor, rows: Tensor, has: Tensor) -> Tensor:
    """Return the pixels at rows (B, 1, R, W), NaN outside of the frame: (B, C, R, W)."""
    inside = (rows >= 0) & (rows < images.shape[2]) & has
    at = rows.clamp(0, images.shape[2] - 1).expand(-1, images.shape[1], -1, -1)
    return images.gather(2, at).where(inside, torch.nan)


def _between(images: Tensor, rows: Tensor, has: Tensor) -> Tensor:
    """Return the pixels at rows (B, 1, R, W) with fractions, of the two nearest: (B, C, R, W)."""
    low = rows.floor()
    part = (rows - low).to(images)
    upper = _picked(images, low.long(), has)
    lower = _picked(images, rows.ceil().long(), has)
    return upper * (1 - part) + lower * part


def _median(laid_out: Tensor) -> Tensor:
    """Return the lateral median of (B, C, R, W) at every depth, (B, C, R); NaN where none is."""
    return laid_out.nanmedian(3).values


def _spread(profile: Tensor, depth: Tensor) -> Tensor:
    """Return the profile (B, C, R) at depths (B, 1, H, W), the nearest end beyond: (B, C, H, W)."""
    batch, channels, length = profile.shape
    at = depth.clamp(0, length - 1).expand(batch, channels, -1, -1)
    return profile.gather(2, at.flatten(2)).view(at.shape)
