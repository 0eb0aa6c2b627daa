"""Scans that show the same picture as others in another file, found in the model's own frame.

They were saved anew in another format or size, or are neighbours in a dense volume. Neither says
anything of scans that a model has not met.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

THUMBNAIL = (16, 24)
"""Rows and columns of the means by which pairs are looked for."""
NEAR = 6.0
"""Root mean square difference of two thumbnails, in grey levels, that is worth a closer look."""
MOST_COMPARED = 8
"""Pairs of one scan whose pixels are compared, the nearest first."""
ALIKE = 3.0
"""Mean absolute difference of two scans in the model's frame, in grey levels, of one picture.

Set on the 259 training scans of the Kermany lesion data in a frame of 96 × 192: copies saved as
PNG, as JPEG of quality 90 to 30, and at 1.5 times the size differ by 1.6 at most, those at half the
size by 0.4 in the median (4.7 at most, where a border fell), and the two most alike of all scans
that are no copies by 5.6. Neighbours in a volume, 30 µm apart and averaged, come as near as 1.4.
"""
CORRELATED = 0.99
"""Correlation of their pixels above which two scans are one picture, for those full of speckle,
which a JPEG changes more; on the same data 0.973 at most between scans that are no copies.
"""
LEAST_CONTRAST = 2.0
"""Standard deviation of a scan that can be told from another, in grey levels."""
CHUNK = 1024


def find_copies(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which scans show the same picture as one of others.

    Args:
        images: ``(N, H, W)`` uint8 in the model's frame.
        others: ``(M, H, W)`` uint8 in the same frame; may be mapped from a file.

    Returns:
        ``(N,)`` bool.
    """
    found = np.zeros(len(images), dtype=bool)
    if not len(images) or not len(others):
        return found
    small, small_others = _thumbnails(images), _thumbnails(others)
    squares = (small_others**2).sum(axis=1)
    for start in range(0, len(images), CHUNK):
        part = small[start : start + CHUNK]
        distance = (part**2).sum(axis=1)[:, None] + squares - 2 * part @ small_others.T  # (n, M)
        limit = NEAR**2 * part.shape[1]
        for place in np.flatnonzero((distance <= limit).any(axis=1)):
            nearest = np.argsort(distance[place], kind="stable")[:MOST_COMPARED]
            near = nearest[distance[place][nearest] <= limit]
            found[start + place] = _is_copy(images[start + place], others, near)
    return found


def _is_copy(image: np.ndarray, others: np.ndarray, near: np.ndarray) -> bool:
    """Compare the pixels of a scan with those of a few others."""
    if image.std() < LEAST_CONTRAST:
        return False
    pixels = image.astype(np.float32)
    for one in near:
        other = np.asarray(others[one], dtype=np.float32)
        if np.abs(pixels - other).mean() <= ALIKE:
            return True
        if other.std() and np.corrcoef(pixels.ravel(), other.ravel())[0, 1] >= CORRELATED:
            return True
    return False


def _thumbnails(images: np.ndarray) -> np.ndarray:
    """Return the means of blocks of every scan, ``(N, 384)`` float64."""
    rows, columns = THUMBNAIL
    out = np.empty((len(images), rows * columns))
    for place, image in enumerate(images):
        small = Image.fromarray(image).resize((columns, rows), Image.Resampling.BOX)
        out[place] = np.asarray(small, dtype=np.float64).ravel()
    return out
