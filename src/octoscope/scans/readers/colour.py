"""Colour to grey: scans are grey, whatever clothes their files put on them."""

from __future__ import annotations

import numpy as np

from octoscope.scans.scan import Scan

LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue, ITU-R BT.601, the same as in JPEG."""


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
