"""Heat maps with the number in every cell: how alike the maps of methods, or of models, are."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from octoscope.report.figures.lettering import fitted, width_of
from octoscope.report.figures.style import INK, bare, style, svg_of

WIDTH = 7.2
"""Of the figure, in inches: it is never wider."""
NAMES = 1.9
"""Most of it that the names of the rows take."""
HEADS = 1.7
"""Longest name of a column."""
LEAST_NAMES = 1.6
"""Of the width that names of rows and columns take at the least."""
CELLS = (0.25, 0.62)
"""Least and largest side of a cell."""
TURNED = 0.77
"""Of a name's width lies along the axis when it is turned by 40°."""


def heat_map(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    low: float = -1.0,
    high: float = 1.0,
) -> bytes:
    """Draw a table of numbers in colour; a cell without a number stays white and empty.

    Args:
        values: ``(R, C)``, NaN where not known.
        rows: R names.
        columns: C names.
        low: Value of one end of the colours; below zero they diverge from white at zero.
        high: Value of the other end.

    Returns:
        SVG.
    """
    values = np.asarray(values, dtype=float)
    count_r, count_c = values.shape
    smallest, largest = CELLS
    size = 8.5 if count_c <= 10 else 7.0
    smallest = min(smallest, (WIDTH - LEAST_NAMES) / count_c)
    room = WIDTH - smallest * count_c  # of all names, also where there are many columns
    names = [fitted(name, min(NAMES, 0.6 * room - 0.15), size) for name in rows]
    slanted = (0.4 * room - 0.15 + smallest) / TURNED
    heads = [fitted(name, min(HEADS, slanted), size) for name in columns]
    left = max((width_of(name, size) for name in names), default=0) + 0.15
    widths = [width_of(name, size) * TURNED for name in heads]
    # how far the turned names reach beyond the last column, at the least
    spare = max((w - smallest * (count_c - place) for place, w in enumerate(widths)), default=0)
    spare = max(0.1, spare + 0.15)
    side = float(np.clip((WIDTH - left - spare) / count_c, smallest, largest))
    tall = min(side, 0.34) if count_c <= 12 else side
    top = max((width_of(name, size) for name in heads), default=0) * 0.75 + 0.2
    palette = matplotlib.colormaps["PuOr_r" if low < 0 else "YlGnBu"]
    with style():
        extent = (left + side * count_c + spare, top + tall * count_r + 0.1)
        figure = Figure(figsize=extent)
        axes = figure.add_axes(
            (left / extent[0], 0.06 / extent[1],
             side * count_c / extent[0], tall * count_r / extent[1])
        )  # fmt: skip
        axes.pcolormesh(np.ma.masked_invalid(values), cmap=palette, vmin=low, vmax=high,
                        edgecolors="white", linewidth=0.8)  # fmt: skip
        axes.invert_yaxis()
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                shade = palette((value - low) / (high - low))
                axes.text(column + 0.5, row + 0.5, _short(value, side), ha="center", va="center",
                          fontsize=8 if side > 0.36 else 6.5,
                          color=INK if _luminance(shade) > 0.45 else "white")  # fmt: skip
        axes.xaxis.tick_top()
        axes.set_xticks(np.arange(count_c) + 0.5, heads, rotation=40, ha="left",
                        rotation_mode="anchor", fontsize=size)  # fmt: skip
        axes.set_yticks(np.arange(count_r) + 0.5, names, fontsize=size)
        axes.tick_params(length=0, labelcolor=INK)
        bare(axes)
        return svg_of(figure)


def _short(value: float, side: float) -> str:
    """Return a number that fits its cell: 0.93, or .93 where cells are small."""
    text = f"{value:.2f}".replace("-", "−")
    if text == "−0.00":
        text = "0.00"
    if side > 0.36:
        return text
    return text.removesuffix(".00") if text.endswith("1.00") else text.replace("0.", ".", 1)


def _luminance(shade: tuple[float, float, float, float]) -> float:
    """Return how bright a colour is, 0…1 (Rec. 709)."""
    red, green, blue, _ = shade
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
