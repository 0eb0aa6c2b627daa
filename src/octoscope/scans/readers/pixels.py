"""From an opened Pillow image, or decoded planes, to the array of a `Scan`."""

from __future__ import annotations

import numpy as np
from PIL import Image

from octoscope.scans.readers.colour import is_grey, luminance
from octoscope.scans.readers.registry import Source
from octoscope.scans.scan import Scan


def decode(image: Image.Image, source: Source) -> np.ndarray:
    """Return the pixels of the current page: ``(H, W)`` grey or ``(H, W, 3)`` colour."""
    if image.mode == "1":
        bits = np.asarray(image).astype(np.uint8)
        return bits if source.indices else bits * np.uint8(255)
    if image.mode == "P" and source.indices:
        return np.asarray(image)
    if image.mode in ("L", "I", "F") or image.mode.startswith("I;16"):
        array = np.asarray(image)
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if image.mode in ("LA", "La"):
        return np.asarray(image)[..., 0]
    if image.mode in ("RGB", "RGBA", "RGBX"):
        return np.asarray(image)[..., :3]
    return np.asarray(image.convert("RGB"))


def grey_or_colour(array: np.ndarray, source: Source, name: str, *, colour: bool) -> Scan:
    """Make a scan of ``(*S)``, or of ``(*S, 3)`` if `colour`, which turns grey where it can."""
    if colour and is_grey(array):
        array, colour = array[..., 0], False
    elif colour and source.grey:
        array, colour = luminance(array), False
    elif colour:
        array = np.moveaxis(array, -1, 0)
    return Scan(np.ascontiguousarray(array), source.path, name, channels=3 if colour else 0)


def still(image: Image.Image, source: Source, name: str) -> Scan:
    """Read the one image of a Pillow file that has been opened but not yet decoded."""
    width, height = image.size
    source.require_size(height, width, planes=len(image.getbands()), itemsize=4)
    array = decode(image, source)
    return grey_or_colour(array, source, name, colour=array.ndim == 3)
