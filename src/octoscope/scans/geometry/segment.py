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
LEAST_CONFIDENCE = 0.75
"""Mean confidence of the columns under which no retina counts as found: set on phantoms with
planted borders, hyaloids, exudates, cuts, and on real scans, see benchmarks/geometry_error.py."""
EDGE = 0.03
"""Distance from the frame's edge, or from a seam, as a part of the usual thickness of the retina,
within which a surface was not seen but cut off; at least one pixel."""
LEAST_STANDING_OUT = 0.25
"""By how much more the retina must be lit than the vitreous. Real scans have 0.31 and more (median
0.85), noise has 0.01 and smooth clouds with equal confidence 0.10."""
MOST_CUT = 0.25
"""Part of the columns that may be cut off so in a scan whose retina counts as found."""
NEAR_END, DIM = 0.6, 0.75
"""Distance of the RPE from the lower edge, as a part of the thickness, and its brightness, as a
part of that of the brightest band, below which it is likely another layer."""
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
    whole, width = grey.shape
    shown = frame_border(grey).valid
    valid = np.any(shown, axis=0)
    # Rows without any scan are padding; what remains has edges like those of a tight crop.
    scan = np.flatnonzero(shown.any(axis=1))
    top, bottom = (int(scan[0]), int(scan[-1]) + 1) if len(scan) else (0, whole)
    grey, shown = grey[top:bottom], shown[top:bottom]
    height = bottom - top
    filled, beside = _without_borders(grey, shown)
    seen = brightness(filled)
    if seen is None:
        nothing = np.zeros(width)
        return RetinaLayers(nothing - 0.5, nothing + whole - 0.5, nothing, valid, False)
    rows, columns = seen.values.shape
    step = height / rows
    at, across = (np.arange(columns) + 0.5) * width / columns, np.arange(width) + 0.5
    small_ilm, small_rpe, small_light = coarse_surfaces(seen)
    ilm, rpe, light = (
        np.interp(across, at, s) for s in (small_ilm * step, small_rpe * step, small_light)
    )
    ilm, rpe, contrast = fine_surfaces(filled, ilm, rpe, light, 2 * step, seen)
    middle = (0.5 * (ilm + rpe)).astype(int).clip(0, height - 1)
    valid &= ~beside[middle, np.arange(width)]  # what shows no retina at its height
    agreed = agreement(np.stack([small_ilm, small_rpe]), np.stack(second_surfaces(seen)))
    confidence = np.clip(contrast.min(axis=0) / SURE_CONTRAST, 0, 1)
    dim = np.interp(across, at, _dim_near_the_end(seen.values, small_ilm, small_rpe)) > 0.5
    cut = (_cut_off(ilm, rpe, shown) | dim) & valid
    confidence *= np.interp(across, at, agreed) * valid * ~cut
    found = (
        valid.any()
        and cut.sum() <= MOST_CUT * valid.sum()
        and confidence[valid].mean() >= LEAST_CONFIDENCE
        and _stands_out(seen.lit, small_ilm, small_rpe) >= LEAST_STANDING_OUT
    )
    above = top - 0.5  # boundaries to rows, whose centres are whole numbers
    return RetinaLayers(ilm + above, rpe + above, confidence, valid, bool(found))


def _stands_out(lit: np.ndarray, ilm: np.ndarray, rpe: np.ndarray) -> float:
    """Return how much more of the retina than of what lies above it is lit, −1 to 1."""
    row = np.arange(len(lit))[:, None]
    retina, vitreous = (row >= ilm) & (row < rpe), row < ilm - 1
    inside, outside = (lit[part].mean() if part.any() else 0.0 for part in (retina, vitreous))
    return float(inside - outside)


def _cut_off(ilm: np.ndarray, rpe: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Return the columns in which a surface runs along the frame's edge or a seam, ``(W,)``."""
    first, last = _extent(shown)
    edge = max(1.0, EDGE * float(np.median(rpe - ilm)))
    return np.asarray((ilm <= first + edge) | (rpe >= last + 1 - edge))


def _dim_near_the_end(values: np.ndarray, ilm: np.ndarray, rpe: np.ndarray) -> np.ndarray:
    """Return the columns whose RPE is likely below the frame, of a reduced B-scan, ``(C,)``.

    What was taken for it lies near the lower edge, and is dimmer than another band of the retina.
    """
    row, column = np.arange(len(values))[:, None], np.arange(len(ilm))
    band = ndimage.uniform_filter1d(values, 3, axis=0, mode="nearest")
    brightest = np.where(row >= ilm, band, 0).max(axis=0)
    here = band[(rpe.astype(int) - 2).clip(0, len(values) - 1), column]
    near = len(values) - rpe < NEAR_END * (rpe - ilm)
    return np.asarray(near & (here < DIM * brightest))


def _extent(shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last row of each column that show the scan, both ``(W,)``."""
    return shown.argmax(axis=0), len(shown) - 1 - shown[::-1].argmax(axis=0)


def _without_borders(grey: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Continue the scan into its borders with the mean grey value beside the nearer seam.

    So a seam is no step, and a border above the retina is as dark as the vitreous; where the seam
    cuts the retina, it is continued no brighter than `SEAM_BRIGHTEST`, so that the surface follows
    the seam and does not leave for the edge. Beside the scan its layers go on as they ended.

    Args:
        grey: ``(H, W)`` uint8.
        shown: ``(H, W)`` bool, what is scan; every row has some.

    Returns:
        The scan so continued, and the borders beside it, ``(H, W)`` bool.
    """
    if shown.all() or not shown.any():
        return grey, np.zeros_like(shown)
    upright, below_or_above = _continued(grey, shown, SEAM_COLUMNS)
    across, left_or_right = (v.T for v in _continued(grey.T, shown.T, 1))
    dark, bright = np.percentile(grey[shown], [10, 99])
    brightest = dark + SEAM_BRIGHTEST * (bright - dark)
    row = np.arange(len(grey))[:, None]
    upright = np.where(row < _extent(shown)[0], np.minimum(upright, brightest), upright)
    beside = ~shown & (left_or_right <= below_or_above)
    filled = np.where(shown, grey, np.where(beside, across, upright)).astype(np.uint8)
    return filled, beside


def _continued(grey: np.ndarray, shown: np.ndarray, smooth: int) -> tuple[np.ndarray, np.ndarray]:
    """Continue the columns of a scan upwards and downwards.

    Returns:
        ``(H, W)``: the mean of the last `SEAM_ROWS` grey values, averaged over `smooth` columns,
        and how many rows away they are, which is the height of the frame where there are none.
    """
    height, width = grey.shape
    first, last = _extent(shown)
    inwards, columns = np.arange(SEAM_ROWS)[:, None], np.arange(width)
    above = grey[np.minimum(first + inwards, last), columns].mean(axis=0)
    below = grey[np.maximum(last - inwards, first), columns].mean(axis=0)
    above, below = (ndimage.uniform_filter1d(v, smooth).astype(np.float32) for v in (above, below))
    row = np.arange(height)[:, None]
    away = np.maximum(first - row, row - last)
    away = np.where((away > 0) & shown.any(axis=0), away, height)
    return np.where(row < first, above, below), away
