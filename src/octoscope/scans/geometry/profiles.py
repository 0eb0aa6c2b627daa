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

    Near the ends there are fewer rows; where there are none, the other side's mean stands in, so
    that the end of the image is no step.
    """
    total = cumulative(values)
    at = np.arange(len(total))
    first, last = np.maximum(at - count, 0), np.minimum(at + count, len(values))
    above = (total - total[first]) / np.maximum(at - first, 1)[:, None]
    below = (total[last] - total) / np.maximum(last - at, 1)[:, None]
    above[0], below[-1] = below[0], above[-1]
    return above, below
