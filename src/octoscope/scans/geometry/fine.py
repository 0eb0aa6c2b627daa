"""Surfaces to the pixel: a second search in narrow strips along the coarse ones."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from octoscope.scans.geometry.coarse import Brightness
from octoscope.scans.geometry.path import cheapest_path
from octoscope.scans.geometry.profiles import cumulative, means_beside

NORMAL_THICKNESS = 75.0
"""Pixels of retina in a Spectralis frame of 496 rows; contrast windows scale with the thickness."""
COLUMN_STEP = 3
"""Pixels across that are averaged into one column of a strip."""
STEP_COST = (0.08 * np.abs(np.arange(-2, 3))).astype(np.float32)
BRIGHTEST = 1.3
"""Brightness of the RPE band, relative to that of a middling column, that counts."""
LIT_COST = 0.01
"""Cost of one bright pixel above the ILM."""


def fine_surfaces(
    grey: np.ndarray,
    ilm: np.ndarray,
    rpe: np.ndarray,
    light: np.ndarray,
    reach: float,
    seen: Brightness,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Move both surfaces to where the contrast is greatest.

    Args:
        grey: ``(H, W)`` uint8.
        ilm: ``(W,)`` boundary, coarse.
        rpe: ``(W,)`` boundary, coarse.
        light: ``(W,)`` in [0, 1], how much what is seen of the RPE counts.
        reach: How far they may move, pixels.
        seen: The scale of brightness.

    Returns:
        ILM, RPE ``(W,)`` as boundaries, and the contrasts ``(2, W)`` at them, on that scale.
    """
    height, width = grey.shape
    scale = float(np.clip(np.median(rpe - ilm) / NORMAL_THICKNESS, 0.4, 2.0))
    columns = max(1, round(width / COLUMN_STEP))
    narrow = Image.fromarray(grey).resize((columns, height), Image.Resampling.BOX)
    values = np.clip((np.asarray(narrow, dtype=np.float32) - seen.dark) / seen.span, 0, 1.2)
    at = (np.arange(columns) + 0.5) * width / columns
    start = np.round([np.interp(at, np.arange(width) + 0.5, s) for s in (ilm, rpe)]).astype(int)

    window = max(2, round(6 * scale))
    half = round(reach) + window
    rows = start[:, None, :] + np.arange(-half, half)[None, :, None]  # (2, S, C)
    strips = np.take_along_axis(values[None], rows.clip(0, height - 1), axis=1)
    strips[rows < 0] = 0  # what the frame cuts off above is taken for vitreous
    # Averaging along the strip follows the surface, so it costs no sharpness across it.
    strips = ndimage.gaussian_filter1d(strips, 1.0, axis=2)

    rise = _rise(strips[0], max(2, round(5 * scale)))
    fall = -_rise(strips[1], window)
    band, _ = means_beside(strips[1], max(2, round(7 * scale)))
    lit = cumulative(np.clip(strips[0] / 0.3, 0, 1))
    ilm_cost = LIT_COST * lit - rise / _typical(rise)
    # The base of a druse or a detachment is an edge too, but no bright band ends there.
    # What is brighter than the band is an exudate, and attracts no more than the band.
    rpe_cost = -fall / _typical(fall) - np.minimum(band / _typical(band), BRIGHTEST)
    rpe_cost *= np.interp(at, np.arange(width) + 0.5, light)
    cost = np.stack([ilm_cost, rpe_cost])
    path = cheapest_path(cost[:, window:-window], STEP_COST) + window
    surfaces = start - half + path
    surfaces = ndimage.gaussian_filter1d(surfaces.astype(float), 1.0, axis=1)
    contrast = np.take_along_axis(np.stack([rise, fall]), path[:, None], axis=1)[:, 0]

    across = np.arange(width) + 0.5
    ilm, rpe = (np.interp(across, at, s).clip(0, height) for s in surfaces)
    return ilm, np.maximum(rpe, ilm), np.stack([np.interp(across, at, c) for c in contrast])


def _rise(values: np.ndarray, count: int) -> np.ndarray:
    """Return the mean of `count` rows below each boundary less that above, ``(S + 1, C)``."""
    above, below = means_beside(values, count)
    return below - above


def _typical(values: np.ndarray) -> float:
    """Return what a middling column reaches at its best row."""
    return max(float(np.median(values.max(axis=0))), 0.02)
