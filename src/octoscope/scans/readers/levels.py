"""Grey levels: colour to luminance, and any number type to uint8."""

from __future__ import annotations

import numpy as np

from octoscope.scans.scan import Scan

LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue, ITU-R BT.601, the same as in JPEG."""

ROBUST_PERCENTILES = (0.1, 99.9)


def to_grey(scan: Scan) -> np.ndarray:
    """Return the grey image ``(*S)`` of a scan, in its dtype; colour becomes luminance."""
    return luminance(np.moveaxis(scan.array, 0, -1)) if scan.channels else scan.array


def luminance(colour: np.ndarray) -> np.ndarray:
    """Return the luminance ``(*S)`` of a colour array ``(*S, 3)``, in its dtype."""
    grey = colour.astype(np.float32) @ LUMINANCE
    return np.rint(grey).astype(colour.dtype) if colour.dtype.kind in "ui" else grey


def is_grey(colour: np.ndarray) -> bool:
    """Say whether the channels of ``(*S, 3)`` are equal everywhere."""
    first = colour[..., 0]
    return np.array_equal(first, colour[..., 1]) and np.array_equal(first, colour[..., 2])


def to_uint8(array: np.ndarray) -> np.ndarray:
    """Return an array of any shape and number type as uint8, 0 black and 255 white.

    The black level 0 and the ratio of grey levels are kept where the range is known:

    - uint8 passes; bool becomes 0 and 255;
    - other whole numbers from 0 are divided by the full range of 8, 12 or 16 bits, the least that
      holds them (many cameras store 12 bits in 16, many programs 8 bits);
    - fractions within [0, 1] are multiplied by 255, those within [0, 255] rounded.

    Anything else (negative or greater values) has no known range: its 0.1th percentile becomes 0
    and its 99.9th 255. NaN and infinities become 0.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    finite = np.isfinite(array)
    values = np.where(finite, array, 0).astype(np.float64)
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if array.dtype.kind in "ui":
        ranges = [full for full in (255, 4095, 65535) if high <= full]
    else:
        ranges = [full for full in (1, 255) if high <= full]
    if low >= 0 and ranges:
        return np.rint(values * (255 / ranges[0])).astype(np.uint8)
    low, high = np.percentile(values[finite], ROBUST_PERCENTILES)
    scaled = (np.clip(values, low, high) - low) / ((high - low) or 1.0)
    return np.where(finite, np.rint(scaled * 255), 0).astype(np.uint8)
