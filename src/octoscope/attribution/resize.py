"""Interpolating maps without torch, for those who only read a store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def resize(maps: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Interpolate maps (..., *s) linearly to (..., *S): `display.upsample` without torch."""
    for axis, length in zip(range(-len(size), 0), size, strict=True):
        weights = _linear_weights(maps.shape[axis], length)  # (length, cells)
        maps = np.moveaxis(np.tensordot(maps, weights, axes=(axis, 1)), -1, axis)
    return maps.astype(np.float32)


def _linear_weights(cells: int, length: int) -> np.ndarray:
    """Return the matrix (length, cells) of linear interpolation with cell centres aligned."""
    centre = np.clip((np.arange(length) + 0.5) * cells / length - 0.5, 0, cells - 1)
    low = np.floor(centre).astype(int)
    high = np.minimum(low + 1, cells - 1)
    weights = np.zeros((length, cells), dtype=np.float32)
    np.add.at(weights, (np.arange(length), low), 1 - (centre - low))
    np.add.at(weights, (np.arange(length), high), centre - low)
    return weights
