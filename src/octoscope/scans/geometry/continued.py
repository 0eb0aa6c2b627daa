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
    row, column = np.nonzero(~shown)
    upright, vertical = _continued(grey, shown, row, column, SEAM_COLUMNS)
    across, horizontal = _continued(grey.T, shown.T, column, row, 1)
    dark, bright = np.percentile(grey[shown], [10, 99])
    brightest = dark + SEAM_BRIGHTEST * (bright - dark)
    over = row < extent(shown)[0][column]
    upright[over] = np.minimum(upright[over], brightest)
    nearer = horizontal <= vertical
    filled, beside = grey.copy(), np.zeros_like(shown)
    filled[row, column] = np.where(nearer, across, upright)
    beside[row, column] = nearer
    return filled, beside


def _continued(
    grey: np.ndarray, shown: np.ndarray, row: np.ndarray, column: np.ndarray, smooth: int
) -> tuple[np.ndarray, np.ndarray]:
    """Continue the columns of a scan upwards and downwards to N pixels.

    Returns:
        ``(N,)``: the mean of the last `SEAM_ROWS` grey values, averaged over `smooth` columns,
        and how many rows away they are, which is the height of the frame where there are none.
    """
    height, width = grey.shape
    first, last = extent(shown)
    inwards, columns = np.arange(SEAM_ROWS)[:, None], np.arange(width)
    above = grey[np.minimum(first + inwards, last), columns].mean(axis=0)
    below = grey[np.maximum(last - inwards, first), columns].mean(axis=0)
    above = ndimage.uniform_filter1d(above, smooth)
    below = ndimage.uniform_filter1d(below, smooth)
    before, after = first[column] - row, row - last[column]
    away = np.where(np.any(shown, axis=0)[column], np.maximum(before, after), height)
    values: np.ndarray = np.where(before > 0, above[column], below[column])
    return values, np.where(away > 0, away, height)


def extent(shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last row of each column that show the scan, both ``(W,)``."""
    return shown.argmax(axis=0), len(shown) - 1 - shown[::-1].argmax(axis=0)
