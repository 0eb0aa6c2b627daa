"""A scan and a map in one picture, for figures that are pixels from the start.

The colours are those of `overlay`: *inferno* for maps without negative values, *berlin* centred on
zero for signed ones, and the scan shows through where the map is near zero.
"""

from __future__ import annotations

import numpy as np

from octoscope.attribution.resize import resize
from octoscope.report.figures.overlay import LEVELS, palette

OPACITY = 0.7
"""Of the largest values; the scan stays visible below them."""

HEAVY_TAIL = 99.5
"""Maps of single pixels can have a few values far above all others, which would leave the rest
dark. Where this percentile of the magnitude is below half of the largest, colours end at it."""

VEIL = (18, 36, 84)
"""Colour of what a mask leaves out."""


def colour_limit(values: np.ndarray) -> tuple[float, bool]:
    """Return the magnitude at which the colours of a map end, and whether values lie beyond it.

    Args:
        values: ``(H, W)``, finite.

    Returns:
        A number > 0 (1 for a map of zeros), and whether it is less than the largest magnitude.
    """
    magnitude = np.abs(values)
    largest = float(magnitude.max())
    if largest == 0:
        return 1.0, False
    bulk = float(np.percentile(magnitude, HEAVY_TAIL))
    return (bulk, True) if 0 < bulk < largest / 2 else (largest, False)


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


def laid(ground: np.ndarray, unit: np.ndarray, *, signed: bool, opacity: float) -> np.ndarray:
    """Colour values in [-1, 1] (signed) or [0, 1], over a grey ground of the same shape.

    Returns:
        ``(…, 3)`` uint8.
    """
    position = (unit + 1) / 2 if signed else np.clip(unit, 0, 1)
    colours = palette(signed)[np.rint(position * (LEVELS - 1)).astype(int)].astype(np.float32)
    cover = opacity * colours[..., 3:] / 255
    mixed = (1 - cover) * ground[..., None].astype(np.float32) + cover * colours[..., :3]
    return np.rint(mixed).astype(np.uint8)


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
