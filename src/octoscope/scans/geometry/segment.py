"""`segment_retina`: both surfaces of the retina in one B-scan."""

from __future__ import annotations

import numpy as np

from octoscope.scans.borders import as_grey8, frame_border
from octoscope.scans.geometry.coarse import brightness, coarse_surfaces
from octoscope.scans.geometry.fine import fine_surfaces
from octoscope.scans.geometry.layers import RetinaLayers


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
    ilm, rpe = (np.interp(across, at, s * step) for s in coarse_surfaces(seen))
    ilm, rpe, contrast = fine_surfaces(filled, ilm, rpe, 2 * step, seen)
    confidence = np.clip(contrast.min(axis=0) / 0.2, 0, 1) * valid
    return RetinaLayers(ilm - 0.5, rpe - 0.5, confidence, valid, True)


def _without_borders(grey: np.ndarray, shown: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Give pixels outside of the scan the value of the nearest scan pixel of their column.

    Columns without any take those of the nearest column that has some.
    """
    height, width = grey.shape
    columns = np.flatnonzero(~shown.all(axis=0))
    if not len(columns) or not valid.any():
        return grey
    part = shown[:, columns]
    first, last = part.argmax(axis=0), height - 1 - part[::-1].argmax(axis=0)
    rows = np.clip(np.arange(height)[:, None], first, last)
    filled = grey.copy()
    filled[:, columns] = grey[rows, columns]
    empty = np.flatnonzero(~valid)
    if len(empty):
        full = np.flatnonzero(valid)
        nearest = full[np.abs(full[None, :] - empty[:, None]).argmin(axis=1)]
        filled[:, empty] = filled[:, nearest]
    return filled
