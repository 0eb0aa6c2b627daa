"""`segment_retina`: both surfaces of the retina in one B-scan."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from octoscope.scans.borders import as_grey8, frame_border
from octoscope.scans.geometry.coarse import brightness, coarse_surfaces
from octoscope.scans.geometry.fine import fine_surfaces
from octoscope.scans.geometry.layers import RetinaLayers
from octoscope.scans.geometry.opinion import agreement, second_surfaces

SURE_CONTRAST = 0.2
"""Contrast of a surface, relative to the brightest band, from which it is trusted fully."""
LEAST_CONFIDENCE = 0.7
"""Mean confidence of the columns under which no retina counts as found: set on phantoms of even
seeds with planted borders, hyaloids, exudates and cuts, see benchmarks/geometry_error.py."""
EDGE = 3.0
"""Pixels from the frame's edge, or from a seam, within which a surface was not seen but cut off."""
LEAST_STANDING_OUT = 0.25
"""By how much more the retina must be lit than the vitreous. Real scans have 0.31 and more (median
0.85), noise has 0.01 and smooth clouds with equal confidence 0.10."""

MOST_CUT = 0.25
"""Part of the columns that may be cut off so in a scan whose retina counts as found."""
SEAM_BRIGHTEST = 0.35
"""How bright a scan is continued into its borders at most, as a part of its range."""
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
    ilm, rpe, light = (
        np.interp(across, at, s) for s in (small_ilm * step, small_rpe * step, small_light)
    )
    ilm, rpe, contrast = fine_surfaces(filled, ilm, rpe, light, 2 * step, seen)
    agreed = agreement(np.stack([small_ilm, small_rpe]), np.stack(second_surfaces(seen)))
    confidence = np.clip(contrast.min(axis=0) / SURE_CONTRAST, 0, 1)
    cut = _cut_off(ilm, rpe, shown) & valid
    confidence *= np.interp(across, at, agreed) * valid * ~cut
    found = (
        valid.any()
        and cut.sum() <= MOST_CUT * valid.sum()
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


def _cut_off(ilm: np.ndarray, rpe: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Return the columns in which a surface runs along the frame's edge or a seam, ``(W,)``."""
    first, last = _extent(shown)
    return np.asarray((ilm <= first + EDGE) | (rpe >= last + 1 - EDGE))


def _extent(shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last row of each column that show the scan, both ``(W,)``."""
    return shown.argmax(axis=0), len(shown) - 1 - shown[::-1].argmax(axis=0)


def _without_borders(grey: np.ndarray, shown: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Continue the scan into its borders with the mean grey value beside the seam.

    So a seam is no step, and a border above the retina is as dark as the vitreous; where the seam
    cuts the retina, it is continued no brighter than `SEAM_BRIGHTEST`, so that the surface follows
    the seam and leaves neither for the edge. Columns without any scan pixel take those of the
    nearest column that has some.
    """
    height = len(grey)
    columns = np.flatnonzero(~shown.all(axis=0) & valid)
    if not valid.any() or (valid.all() and not len(columns)):
        return grey
    filled = grey.copy()
    part = shown[:, columns]
    first, last = _extent(part)
    beside = np.arange(SEAM_ROWS)[:, None]
    dark, bright = np.percentile(grey[shown], [10, 99])
    brightest = dark + SEAM_BRIGHTEST * (bright - dark)
    above = grey[np.minimum(first + beside, last), columns].mean(axis=0)
    below = grey[np.maximum(last - beside, first), columns].mean(axis=0)
    above, below = (
        np.minimum(ndimage.uniform_filter1d(v, SEAM_COLUMNS), brightest) for v in (above, below)
    )
    row = np.arange(height)[:, None]
    continued = np.where(row < first, above, np.where(row > last, below, grey[:, columns]))
    filled[:, columns] = continued.astype(np.uint8)
    full, empty = np.flatnonzero(valid), np.flatnonzero(~valid)
    if len(empty):
        nearest = full[np.abs(full[None, :] - empty[:, None]).argmin(axis=1)]
        filled[:, empty] = filled[:, nearest]
    return filled
