"""Small square pictures of scans, for the search of copies: of the frame, and of what is in it."""

from __future__ import annotations

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
STEADY = 2.0
"""Standard deviation over the scans, in grey levels, up to which a pixel is surround."""
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


def content_of_group(pictures: np.ndarray) -> np.ndarray:
    """Cut what is the same in all pictures of one frame size off their sides: a screen's surround.

    Args:
        pictures: ``(N, SIDE, SIDE)`` uint8 thumbnails of scans that differ.

    Returns:
        ``(N, SIDE, SIDE)`` uint8: what varies, enlarged to the whole thumbnail; `pictures`
        themselves where there are too few of them to tell, or (nearly) everything varies.
    """
    if len(pictures) < FEWEST:
        return pictures
    some = pictures[np.linspace(0, len(pictures) - 1, MOST).astype(int)]
    some = some if len(pictures) > MOST else pictures
    varying = some.std(axis=0) > STEADY  # (SIDE, SIDE)
    rows = np.flatnonzero(varying.mean(axis=1) > 0.1)
    columns = np.flatnonzero(varying.mean(axis=0) > 0.1)
    if not len(rows) or not len(columns):
        return pictures
    height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    if min(height, width) < LEAST or height * width > MOST_LEFT * SIDE * SIDE:
        return pictures
    inside = pictures[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.stack([_resized(picture) for picture in inside])


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
