"""`segment_retina`: both surfaces of the retina in one B-scan."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from octoscope.scans.borders import as_grey8, frame_border
from octoscope.scans.geometry.coarse import brightness, coarse_surfaces
from octoscope.scans.geometry.fine import fine_surfaces
from octoscope.scans.geometry.layers import RetinaLayers

SURE_CONTRAST = 0.2
"""Contrast of a surface, relative to the brightest band, from which it is trusted fully."""
LEAST_CONFIDENCE = 0.4
"""Mean confidence of the columns under which no retina counts as found."""
LEAST_STANDING_OUT = 0.25
"""By how much more the retina must be lit than the vitreous. Real scans have 0.31 and more (median
0.85), noise has 0.01 and smooth clouds with equal confidence 0.10."""

SEAM_ROWS, SEAM_COLUMNS = 8, 15
"""Pixels over which the grey value beside a border is averaged."""


def segment_retina(image: np.ndarray) -> RetinaLayers:
    """Find the inner and the outer surface of the retina by dynamic programming.

    First both together on a strongly reduced B-scan, their order kept; then each to the pixel in
    a strip along what was found. Registration borders are left out.

    Args:
        image: ``(H, W)`` grey, uint8 or float in [0, 1].

    Raises:
        OctoscopeError: If `image` is not a grey picture.
    """
    grey = as_grey8(image)
    height, width = grey.shape
    shown = frame_border(grey).valid
    valid = np.any(shown, axis=0)
    filled = _without_borders(grey, shown, valid)
    seen = brightness(filled)
    if seen is None:
        nothing = np.zeros(width)
        return RetinaLayers(nothing - 0.5, nothing + height - 0.5, nothing, valid, False)
    rows, columns = seen.values.shape
    step = height / rows
    at, across = (np.arange(columns) + 0.5) * width / columns, np.arange(width) + 0.5
    small_ilm, small_rpe, small_light = coarse_surfaces(seen)
    ilm, rpe = (np.interp(across, at, s * step) for s in (small_ilm, small_rpe))
    light = np.interp(across, at, small_light)
    ilm, rpe, contrast = fine_surfaces(filled, ilm, rpe, light, 2 * step, seen)
    confidence = np.clip(contrast.min(axis=0) / SURE_CONTRAST, 0, 1) * valid
    found = (
        valid.any()
        and confidence[valid].mean() >= LEAST_CONFIDENCE
        and _stands_out(seen.lit, small_ilm, small_rpe) >= LEAST_STANDING_OUT
    )
    return RetinaLayers(ilm - 0.5, rpe - 0.5, confidence, valid, bool(found))


def _stands_out(lit: np.ndarray, ilm: np.ndarray, rpe: np.ndarray) -> float:
    """Return how much more of the retina than of what lies above it is lit, −1 to 1."""
    row = np.arange(len(lit))[:, None]
    retina, vitreous = (row >= ilm) & (row < rpe), row < ilm - 1
    inside, outside = (lit[part].mean() if part.any() else 0.0 for part in (retina, vitreous))
    return float(inside - outside)


def _without_borders(grey: np.ndarray, shown: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Continue the scan into its borders with the mean grey value beside the seam.

    So a seam is no step, and a border above the retina is as dark as the vitreous. Columns
    without any scan pixel take those of the nearest column that has some.
    """
    height = len(grey)
    columns = np.flatnonzero(~shown.all(axis=0) & valid)
    if not valid.any() or (valid.all() and not len(columns)):
        return grey
    filled = grey.copy()
    part = shown[:, columns]
    first, last = part.argmax(axis=0), height - 1 - part[::-1].argmax(axis=0)
    beside = np.arange(SEAM_ROWS)[:, None]
    above = grey[np.minimum(first + beside, last), columns].mean(axis=0)
    below = grey[np.maximum(last - beside, first), columns].mean(axis=0)
    above, below = (ndimage.uniform_filter1d(v, SEAM_COLUMNS) for v in (above, below))
    row = np.arange(height)[:, None]
    continued = np.where(row < first, above, np.where(row > last, below, grey[:, columns]))
    filled[:, columns] = continued.astype(np.uint8)
    full, empty = np.flatnonzero(valid), np.flatnonzero(~valid)
    if len(empty):
        nearest = full[np.abs(full[None, :] - empty[:, None]).argmin(axis=1)]
        filled[:, empty] = filled[:, nearest]
    return filled
