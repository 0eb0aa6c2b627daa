"""Columns in which a surface of the retina was not seen but cut off by the frame or a seam."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from octoscope.scans.geometry.continued import extent

EDGE = 0.03
"""Distance from the frame's edge, or from a seam, as a part of the usual thickness of the retina,
within which a surface was not seen but cut off; at least one pixel."""
NEAR_END, DIM = 0.6, 0.75
"""Distance of the RPE from the lower edge, as a part of the thickness, and its brightness, as a
part of that of the brightest band, below which it is likely another layer."""
ROOM, THIN = 0.5, 0.75
"""Rows of the reduced B-scan at its lower edge in which the RPE has left it; and thickness, as a
part of that where it has, below which another layer is taken for an RPE the frame cannot hold."""


def at_an_edge(ilm: np.ndarray, rpe: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Return the columns in which a surface runs along the frame's edge or a seam, ``(W,)``."""
    first, last = extent(shown)
    edge = max(1.0, EDGE * float(np.median(rpe - ilm)))
    return np.asarray((ilm <= first + edge) | (rpe >= last + 1 - edge))


def below_the_frame(values: np.ndarray, ilm: np.ndarray, rpe: np.ndarray) -> np.ndarray:
    """Return the columns whose RPE is likely below the frame, of a reduced B-scan, ``(C,)``."""
    return _dim_near_the_end(values, ilm, rpe) | _without_room(len(values), ilm, rpe)


def _dim_near_the_end(values: np.ndarray, ilm: np.ndarray, rpe: np.ndarray) -> np.ndarray:
    """Return where the RPE lies near the lower edge, dimmer than another band of the retina."""
    row, column = np.arange(len(values))[:, None], np.arange(len(ilm))
    band = ndimage.uniform_filter1d(values, 3, axis=0, mode="nearest")
    brightest = np.where(row >= ilm, band, 0).max(axis=0)
    here = band[(rpe.astype(int) - 2).clip(0, len(values) - 1), column]
    near = len(values) - rpe < NEAR_END * (rpe - ilm)
    return np.asarray(near & (here < DIM * brightest))


def _without_room(rows: int, ilm: np.ndarray, rpe: np.ndarray) -> np.ndarray:
    """Return where a retina as thick as where it leaves the frame would leave it too, but is thin.

    Beside the columns in which the RPE runs along the lower edge the search may jump to a layer
    above it, which the frame still shows.
    """
    thickness, left = rpe - ilm, rpe >= rows - ROOM
    if not left.any():
        return np.zeros(len(rpe), bool)
    usual = float(np.median(thickness[left]))
    return np.asarray((ilm + usual >= rows - ROOM) & (thickness < THIN * usual))
