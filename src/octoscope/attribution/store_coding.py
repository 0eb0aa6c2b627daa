"""How a map's numbers are kept: exact, in half precision, or in one byte each."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from octoscope.errors import OctoscopeError, did_you_mean

Precision = Literal["float32", "float16", "uint8"]
"""What maps are stored as; the last two relative to the largest magnitude of each map."""

LEVELS = 127
"""Steps of a byte from zero to the largest magnitude, on either side."""

MIDDLE = 128
"""The byte of zero, so that zero stays exactly zero. Byte 0 is left over: it means nan."""

FILL: dict[Precision, float] = {"float32": float("nan"), "float16": float("nan"), "uint8": 0}
"""What stands where nothing is written."""


def require_precision(precision: str) -> None:
    """Refuse what is no precision.

    Raises:
        OctoscopeError: Naming those there are.
    """
    known = get_args(Precision)
    if precision not in known:
        raise OctoscopeError(
            f'precision "{precision}" is not known{did_you_mean(str(precision), known)}; '
            f"choose one of {', '.join(known)}"
        )


def encode(values: np.ndarray, leading: int, precision: Precision) -> tuple[np.ndarray, np.ndarray]:
    """Return maps as they are stored, and the scale of each.

    Args:
        values: (..., *s) float32 maps.
        leading: Number of axes before *s.
        precision: ``"float32"``: unchanged, scale 1. ``"float16"``: v / scale, where the scale is
            the largest magnitude of the map (error at most 0.05 % of it). ``"uint8"``:
            128 + round(127 v / scale), symmetric around zero (error at most 0.4 % of it); a nan or
            infinity becomes byte 0, which reads as nan.

    Returns:
        (..., *s) in that type, and (...) float32.
    """
    if precision == "float32":
        return values, np.ones(values.shape[:leading], dtype=np.float32)
    finite = np.isfinite(values)
    magnitudes = np.where(finite, np.abs(values), 0)
    largest = magnitudes.reshape(*values.shape[:leading], -1).max(axis=-1)
    scale = np.where(largest > 0, largest, 1).astype(np.float32)
    relative = values / _beside(scale, values)
    if precision == "float16":
        return relative.astype(np.float16), scale
    steps = np.rint(np.where(finite, relative, 0) * LEVELS)  # in [-127, 127]
    return np.where(finite, steps + MIDDLE, 0).astype(np.uint8), scale


def decode(stored: np.ndarray, scale: Any, precision: Precision) -> np.ndarray:
    """Return the maps (..., *s) float32 that `encode` was given, up to its error.

    Args:
        stored: (..., *s) as stored.
        scale: (...) of each map.
        precision: What they are stored as.
    """
    values = stored.astype(np.float32)
    if precision == "uint8":
        values = np.where(stored == 0, np.float32("nan"), (values - MIDDLE) / np.float32(LEVELS))
    return values * _beside(np.asarray(scale, dtype=np.float32), values)


def _beside(scale: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return scales (...) with axes of length 1 for the positions of values (..., *s)."""
    return scale.reshape(*scale.shape, *[1] * (values.ndim - scale.ndim))
