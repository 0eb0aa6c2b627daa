"""Means over the rows above and below every boundary of an image, by cumulative sums.

A boundary lies between two rows: an image of R rows has R + 1, numbered from the top edge 0.
"""

from __future__ import annotations

import numpy as np


def cumulative(values: np.ndarray) -> np.ndarray:
    """Return the sum of all rows above each boundary: ``(R, C)`` to ``(R + 1, C)``."""
    total = np.zeros((values.shape[0] + 1, *values.shape[1:]), np.float32)
    np.cumsum(values, axis=0, out=total[1:])
    return total


def means_beside(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of up to `count` rows above and below each boundary, both ``(R + 1, C)``.

    The outermost boundaries have fewer rows, and 0 where there is none.
    """
    total = cumulative(values)
    at = np.arange(len(total))
    first, last = np.maximum(at - count, 0), np.minimum(at + count, len(values))
    above = (total - total[first]) / np.maximum(at - first, 1)[:, None]
    below = (total[last] - total) / np.maximum(last - at, 1)[:, None]
    return above, below
