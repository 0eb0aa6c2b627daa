"""Lesion outlines, in pixels of the frame: as lines, and as SVG paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from contourpy import contour_generator

LESION_COLOURS = ("#00e5ff", "#b2ff59", "#ff80ab", "#ffd740", "#b388ff", "#ff9e80", "#ffffff")


def lesion_colour(value: int) -> str:
    """Return the colour of a mask value ≥ 1."""
    return LESION_COLOURS[(value - 1) % len(LESION_COLOURS)]


@dataclass(frozen=True, eq=False)
class Outline:
    """The outlines of one kind of lesion in one scan.

    Attributes:
        name: What the lesion is called.
        colour: Its colour, the same in every figure.
        lines: Closed lines (P, 2) of x, y; the centre of the first pixel is (0.5, 0.5).
    """

    name: str
    colour: str
    lines: list[np.ndarray]


def lesion_outlines(mask: np.ndarray, lesions: Mapping[int, str]) -> list[Outline]:
    """Return one outline per kind of lesion in a mask.

    Args:
        mask: Lesion index ``(H, W)``, 0 for background.
        lesions: Mask value → name; a value without name is called by its number.

    Returns:
        Outlines ordered by mask value.
    """
    out = []
    for value in np.unique(mask[mask > 0]).tolist():
        padded = np.pad(mask == value, 1).astype(np.float32)  # closes outlines at the frame
        found = contour_generator(z=padded).lines(0.5)
        lines = [np.asarray(line) - 0.5 for line in found]
        name = lesions.get(value, f"lesion {value}").replace("_", " ")
        out.append(Outline(name, lesion_colour(value), lines))
    return out


def lesion_paths(mask: np.ndarray, lesions: Mapping[int, str]) -> list[dict[str, str]]:
    """Return the outlines of a mask as SVG paths, see `lesion_outlines`.

    Returns:
        ``{name, colour, path}`` each, ordered by mask value.
    """
    return [
        {"name": o.name, "colour": o.colour, "path": " ".join(map(_path, o.lines))}
        for o in lesion_outlines(mask, lesions)
    ]


def _path(points: np.ndarray) -> str:
    """Return a closed line ``(P, 2)`` of x, y as path data, to a tenth of a pixel."""
    steps = " ".join(f"{x:.1f} {y:.1f}" for x, y in points[:-1].tolist())
    return f"M{steps}Z"
