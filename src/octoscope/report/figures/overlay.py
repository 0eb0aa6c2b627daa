"""A map as a translucent picture to lay over its scan.

Every map is divided by its own largest magnitude; zero stays zero. The colours are those of
`octoscope.attribution.colours`.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from octoscope.attribution.colours import LEVELS, palette
from octoscope.attribution.resize import resize

PER_CELL = 8
"""Pixels per cell of the map and axis; the browser interpolates the rest, and cannot be told from
a map interpolated first."""


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


def scan_jpeg(image: np.ndarray, widest: int = 512) -> tuple[bytes, tuple[int, int]]:
    """Return a grey scan ``(H, W)`` uint8 as JPEG of at most `widest` pixels, and its size."""
    picture = Image.fromarray(np.asarray(image))
    if picture.width > widest:
        picture = picture.resize((widest, max(1, round(picture.height * widest / picture.width))))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90, optimize=True)
    return out.getvalue(), picture.size
