"""A map as a translucent picture to lay over its scan.

Every map is divided by its own largest magnitude; zero stays zero. Maps without negative values
run through *inferno*; maps with some through *berlin*, red for and blue against the class. Both
are perceptually even and grow brighter away from zero. What is near zero is transparent, so that
the scan shows where the map says nothing.
"""

from __future__ import annotations

import io

import matplotlib
import numpy as np
from PIL import Image

from octoscope.attribution.resize import resize

LEVELS = 255
"""Of the palette; odd, so that zero has a level of its own in the middle of a signed map."""

PER_CELL = 8
"""Pixels per cell of the map and axis; the browser interpolates the rest, and cannot be told from
a map interpolated first."""

OPAQUE_FROM = 0.5
"""Share of the largest magnitude from which the colours cover fully (times the slider)."""


def overlay_png(values: np.ndarray, size: tuple[int, int], *, signed: bool) -> bytes:
    """Return a map as PNG with transparency.

    Args:
        values: Native map ``(h, w)``, finite.
        size: ``(H, W)`` of the frame; the picture is never finer than that.
        signed: Whether the colours are centred on zero.
    """
    shape = [min(full, PER_CELL * cells) for full, cells in zip(size, values.shape, strict=True)]
    fine = resize(values.astype(np.float32), shape)
    largest = float(np.abs(values).max())
    scaled = fine / largest if largest > 0 else fine  # [-1, 1] or [0, 1]
    unit = (scaled + 1) / 2 if signed else scaled
    index = np.clip(np.rint(unit * (LEVELS - 1)), 0, LEVELS - 1).astype(np.uint8)
    colours = palette(signed)
    image = Image.fromarray(index)
    image.putpalette(colours[:, :3].tobytes())  # makes it a palette image
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True, transparency=colours[:, 3].tobytes())
    return out.getvalue()


def gradient(signed: bool, stops: int = 33) -> str:
    """Return the colours, with their transparency, as stops of a CSS gradient."""
    colours = palette(signed)
    chosen = colours[np.linspace(0, LEVELS - 1, stops).round().astype(int)]
    return ", ".join(f"rgba({r},{g},{b},{a / 255:.2f})" for r, g, b, a in chosen.tolist())


def palette(signed: bool) -> np.ndarray:
    """Return ``(LEVELS, 4)`` uint8 RGBA."""
    unit = np.linspace(0, 1, LEVELS)
    rgba = matplotlib.colormaps["berlin" if signed else "inferno"](unit)
    magnitude = np.abs(2 * unit - 1) if signed else unit
    rgba[:, 3] = np.minimum(magnitude / OPAQUE_FROM, 1)
    return np.rint(255 * rgba).astype(np.uint8)


def scan_jpeg(image: np.ndarray, widest: int = 512) -> tuple[bytes, tuple[int, int]]:
    """Return a grey scan ``(H, W)`` uint8 as JPEG of at most `widest` pixels, and its size."""
    picture = Image.fromarray(np.asarray(image))
    if picture.width > widest:
        picture = picture.resize((widest, max(1, round(picture.height * widest / picture.width))))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90, optimize=True)
    return out.getvalue(), picture.size
