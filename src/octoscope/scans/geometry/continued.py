"""A B-scan continued into its registration borders, so that their seams are no surfaces."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SEAM_BRIGHTEST = 0.35
"""How bright a scan is continued upwards at most, as a part of its range."""
SEAM_ROWS, SEAM_COLUMNS = 8, 15
"""Pixels over which the grey value beside a border is averaged."""


def without_borders(grey: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
    upright = np.where(row < extent(shown)[0], np.minimum(upright, brightest), upright)
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
    first, last = extent(shown)
    inwards, columns = np.arange(SEAM_ROWS)[:, None], np.arange(width)
    above = grey[np.minimum(first + inwards, last), columns].mean(axis=0)
    below = grey[np.maximum(last - inwards, first), columns].mean(axis=0)
    above, below = (ndimage.uniform_filter1d(v, smooth).astype(np.float32) for v in (above, below))
    row = np.arange(height)[:, None]
    away = np.maximum(first - row, row - last)
    away = np.where((away > 0) & shown.any(axis=0), away, height)
    return np.where(row < first, above, below), away


def extent(shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last row of each column that show the scan, both ``(W,)``."""
    return shown.argmax(axis=0), len(shown) - 1 - shown[::-1].argmax(axis=0)
