"""Small square pictures of scans, for the search of copies: of the frame, and of what is in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 128
"""Rows and columns of a thumbnail, whatever the shape of the scan."""
LEVEL = 8
"""Grey levels around the edge's own within which a pixel belongs to a uniform surround (JPEG)."""
PURE = 0.985
"""Share of such pixels from which a whole row or column is surround."""
LEAST = 16
"""A picture within a surround has at least so many rows and columns."""

FEWEST, MOST = 8, 200
"""Scans of a size from which a common surround is told, and scans that are looked at for it."""
LETTERED = 15.0
"""Standard deviation of the greys of a surround in which something stands."""
LIKE_IT = 10.0
"""Mean difference, in grey levels, up to which a picture has the surround of the others."""
STEADY = 3.0
"""Grey levels that the middle three fifths of the scans span, up to which a pixel is surround."""
MOST_LEFT = 0.9
"""Share of the frame above which what varies counts as the whole frame."""

Box = tuple[slice, slice]


def content_box(image: np.ndarray) -> Box:
    """Find the rectangle inside of a uniform surround of any grey.

    Rows and columns are taken off the four sides while (nearly) all of their pixels have the grey
    of the frame's edge. A dark vitreous has noise and stays; where a device has painted it
    black, it goes in the scan and in its copies alike.

    Args:
        image: ``(H, W)`` uint8.

    Returns:
        Rows and columns; the whole frame where there is no surround or nothing is left.
    """
    rows, columns = slice(0, image.shape[0]), slice(0, image.shape[1])
    for _ in range(2):  # the sides again, without the corners of the others
        rows = _trimmed(image[:, columns], rows)
        columns = _trimmed(image[rows].T, columns)
    if rows.stop - rows.start < LEAST or columns.stop - columns.start < LEAST:
        return slice(0, image.shape[0]), slice(0, image.shape[1])
    return rows, columns


def thumbnails(image: np.ndarray) -> np.ndarray:
    """Return the frame and, where it has a uniform surround, what is inside, as thumbnails.

    Args:
        image: ``(H, W)`` uint8.

    Returns:
        ``(1 or 2, SIDE, SIDE)`` uint8, area means.
    """
    box = content_box(image)
    views = [image]
    inside = image[box]
    if inside.shape != image.shape:
        views.append(inside)
    return np.stack([_resized(view) for view in views])


@dataclass(frozen=True, eq=False)
class Surround:
    """What all scans of one frame size share around the part that varies: a screen's surround.

    Attributes:
        typical: ``(SIDE, SIDE)`` the middle grey of each pixel.
        outside: ``(SIDE, SIDE)`` bool, the surround.
        box: Rows and columns of what varies.
    """

    typical: np.ndarray
    outside: np.ndarray
    box: Box

    def removed(self, pictures: np.ndarray) -> np.ndarray:
        """Return pictures (N, SIDE, SIDE), those with this surround enlarged to what is inside."""
        found = pictures.copy()
        for i, picture in enumerate(pictures):
            apart = np.abs(picture[self.outside].astype(np.int16) - self.typical[self.outside])
            if apart.mean() <= LIKE_IT:
                found[i] = _resized(np.ascontiguousarray(picture[self.box]))
        return found


def common_surround(pictures: np.ndarray) -> Surround | None:
    """Find the surround that scans of one frame size share.

    Args:
        pictures: ``(N, SIDE, SIDE)`` uint8 thumbnails of scans that differ.

    Returns:
        None where there are too few of them to tell, nearly everything varies, or nothing stands
        in the surround: a plain one is found picture by picture, and it may be dark vitreous.
    """
    if len(pictures) < FEWEST:
        return None
    some = pictures[np.unique(np.linspace(0, len(pictures) - 1, MOST).astype(int))]
    low, typical, high = np.quantile(some, (0.2, 0.5, 0.8), axis=0)
    varying = high - low > STEADY  # (SIDE, SIDE)
    rows = np.flatnonzero(varying.mean(axis=1) > 0.1)
    columns = np.flatnonzero(varying.mean(axis=0) > 0.1)
    if not len(rows) or not len(columns):
        return None
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    outside = np.ones(varying.shape, bool)
    outside[box] = False
    small = min(side.stop - side.start for side in box) < LEAST
    if small or outside.mean() < 1 - MOST_LEFT or typical[outside].std() < LETTERED:
        return None
    return Surround(typical, outside, box)


def _trimmed(image: np.ndarray, rows: slice) -> slice:
    """Return `rows` without those at both ends that are surround."""
    start, stop = rows.start, rows.stop
    start += _uniform(image[start:stop])
    if start < stop:
        stop -= _uniform(image[start:stop][::-1])
    return slice(start, stop) if start < stop else rows


def _uniform(image: np.ndarray) -> int:
    """Return how many of the first rows of an image (H, W) have one grey."""
    level = int(np.median(image[0]))
    low, high = max(level - LEVEL, 0), min(level + LEVEL, 255)
    for row, values in enumerate(image):
        if np.count_nonzero((values >= low) & (values <= high)) < PURE * len(values):
            return row
    return len(image)


def _resized(image: np.ndarray) -> np.ndarray:
    """Return the area means of an image (H, W) uint8 as a thumbnail, interpolated if small."""
    small = min(image.shape) < 2 * SIDE
    kernel = Image.Resampling.BILINEAR if small else Image.Resampling.BOX
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), kernel))
