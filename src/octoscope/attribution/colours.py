"""Colours of maps, without torch: *inferno* for maps without negative values, *berlin* for others.

Both are perceptually even and grow brighter away from zero. Values near zero are transparent, so
that the scan shows where the map says nothing. Signed maps are centred on zero: red speaks for the
class, blue against it.
"""

from __future__ import annotations

import matplotlib
import numpy as np

LEVELS = 255
"""Of the palette; odd, so that zero has a level of its own in the middle of a signed map."""

OPAQUE_FROM = 0.5
"""Share of the largest magnitude from which the colours cover fully."""

OPACITY = 0.7
"""Of the largest values; the scan stays visible below them."""

HEAVY_TAIL = 99.5
"""Maps of single pixels can have a few values far above all others, which would leave the rest
dark. Where this percentile of the magnitude is below half of the largest, colours end at it."""


def palette(signed: bool) -> np.ndarray:
    """Return ``(LEVELS, 4)`` uint8 RGBA."""
    unit = np.linspace(0, 1, LEVELS)
    rgba = matplotlib.colormaps["berlin" if signed else "inferno"](unit)
    magnitude = np.abs(2 * unit - 1) if signed else unit
    rgba[:, 3] = np.minimum(magnitude / OPAQUE_FROM, 1)
    return np.rint(255 * rgba).astype(np.uint8)


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


def laid(ground: np.ndarray, unit: np.ndarray, *, signed: bool, opacity: float) -> np.ndarray:
    """Colour values over a picture.

    Args:
        ground: Grey ``(…)`` or colours ``(…, 3)``, from 0 to 255.
        unit: ``(…)`` in [-1, 1] (signed) or [0, 1].
        signed: Whether the colours are centred on zero.
        opacity: Of the largest values, 0 to 1.

    Returns:
        ``(…, 3)`` uint8.
    """
    position = (unit + 1) / 2 if signed else np.clip(unit, 0, 1)
    colours = palette(signed)[np.rint(position * (LEVELS - 1)).astype(int)].astype(np.float32)
    cover = opacity * colours[..., 3:] / 255
    below = ground[..., None] if ground.ndim == unit.ndim else ground
    mixed = (1 - cover) * below.astype(np.float32) + cover * colours[..., :3]
    return np.rint(mixed).astype(np.uint8)
