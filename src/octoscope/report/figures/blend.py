"""A scan and a map in one picture, for figures that are pixels from the start.

The colours are those of `octoscope.attribution.colours`.
"""

from __future__ import annotations

import numpy as np

from octoscope.attribution.colours import OPACITY, colour_limit, laid
from octoscope.attribution.resize import resize

VEIL = (18, 36, 84)
"""Colour of what a mask leaves out."""


def blended(image: np.ndarray, values: np.ndarray, *, signed: bool) -> np.ndarray:
    """Lay a map over its scan.

    Args:
        image: ``(H, W)`` uint8.
        values: ``(h, w)``, finite, any resolution; interpolated linearly.
        signed: Whether the colours are centred on zero.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    fine = resize(values.astype(np.float32), image.shape)
    most, _ = colour_limit(fine)
    return laid(image, np.clip(fine / most, -1, 1), signed=signed, opacity=OPACITY)


def colour_bar(signed: bool, length: int = 256) -> np.ndarray:
    """Return the colours from the lowest value to the highest, on black, ``(length, 1, 3)``."""
    unit = np.linspace(-1 if signed else 0, 1, length)[:, None]
    return laid(np.zeros((length, 1)), unit, signed=signed, opacity=1.0)


def faded(image: np.ndarray) -> np.ndarray:
    """Return a scan ``(H, W)`` as pale grey ``(H, W, 3)``: the ground of a map to be ignored."""
    pale = np.rint(150 + 0.35 * image.astype(np.float32)).astype(np.uint8)
    return np.repeat(pale[..., None], 3, axis=2)


def spotlit(image: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return a scan ``(H, W)`` as RGB, under a dark veil where the mask `chosen` is not set.

    The veil is blue: the scan's own black stays black where it is chosen.
    """
    grey = np.repeat(image[..., None].astype(np.float32), 3, axis=2)
    veiled = 0.3 * grey + np.array(VEIL, dtype=np.float32)
    return np.rint(np.where(chosen[..., None], grey, veiled)).astype(np.uint8)
