"""Lesion outlines as SVG paths, in pixels of the frame."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from contourpy import contour_generator

LESION_COLOURS = ("#00e5ff", "#b2ff59", "#ff80ab", "#ffd740", "#b388ff", "#ff9e80", "#ffffff")


def lesion_colour(value: int) -> str:
    """Return the colour of a mask value ≥ 1."""
    return LESION_COLOURS[(value - 1) % len(LESION_COLOURS)]


def lesion_paths(mask: np.ndarray, lesions: Mapping[int, str]) -> list[dict[str, str]]:
    """Return one path per kind of lesion in a mask.

    Args:
        mask: Lesion index ``(H, W)``, 0 for background.
        lesions: Mask value → name; a value without name is called by its number.

    Returns:
        ``{name, colour, path}`` each, ordered by mask value.
    """
    out = []
    for value in np.unique(mask[mask > 0]).tolist():
        padded = np.pad(mask == value, 1).astype(np.float32)  # closes outlines at the frame
        lines = contour_generator(z=padded).lines(0.5)
        path = " ".join(_path(np.asarray(line) - 0.5) for line in lines)
        name = lesions.get(value, f"lesion {value}").replace("_", " ")
        out.append({"name": name, "colour": lesion_colour(value), "path": path})
    return out


def _path(points: np.ndarray) -> str:
    """Return a closed line ``(P, 2)`` of x, y as path data, to a tenth of a pixel."""
    steps = " ".join(f"{x:.1f} {y:.1f}" for x, y in points[:-1].tolist())
    return f"M{steps}Z"
