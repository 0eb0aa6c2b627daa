"""One scan, what a model says about it, and one map per method, side by side."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from octoscope.report.figures.overlay import palette
from octoscope.report.figures.style import bare, colour, shorten, style

COLUMNS = 4
CELL = 3.0
"""Width of a picture, in inches."""


def panel_png(
    image: np.ndarray,
    maps: Mapping[str, np.ndarray],
    probabilities: Mapping[str, float],
    *,
    explained: str,
    title: str,
) -> bytes:
    """Draw a scan with its class probabilities and the maps of one class.

    Args:
        image: ``(H, W)`` uint8, as the model sees it.
        maps: Name of a method → ``(H, W)`` map; those with negative values get diverging colours
            centred on zero. Each has its own colour bar.
        probabilities: Class → probability.
        explained: The class that the maps explain.
        title: What the scan is called.

    Returns:
        PNG.
    """
    cells = 2 + len(maps)
    columns = min(COLUMNS, cells)
    rows = -(-cells // columns)
    height, width = image.shape
    cell_height = 0.82 * CELL * height / width + 0.5
    with style():
        figure = Figure(figsize=(CELL * columns, cell_height * rows + 0.4), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        figure.suptitle(shorten(title, 90), x=0.01, ha="left", weight="bold")
        _scan(axes[0], image)
        axes[0].set_title("scan")
        _bars(axes[1], probabilities, explained)
        axes[1].set_box_aspect(height / width)
        claim = f"for {shorten(explained)}, p = {probabilities[explained]:.2f}"
        for axis, (method, values) in zip(axes[2:], maps.items(), strict=False):
            _scan(axis, image)
            _map(figure, axis, values)
            axis.set_title(f"{method}\n{claim}", fontsize=8)
        for axis in axes[cells:]:
            axis.set_axis_off()
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def _scan(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([])
    bare(axes)


def _bars(axes: Axes, probabilities: Mapping[str, float], explained: str) -> None:
    """Draw the class probabilities, the explained class in colour."""
    names = list(probabilities)
    hues = [colour(1) if name == explained else colour(0) for name in names]
    axes.barh([shorten(name) for name in names], list(probabilities.values()), color=hues)
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_title("class probability")


def _map(figure: Figure, axes: Axes, values: np.ndarray) -> None:
    """Lay one map over its scan, with a colour bar in the map's own units."""
    signed = bool((values < 0).any())
    most = float(np.abs(values).max()) or 1.0
    drawn = axes.imshow(
        values,
        cmap=ListedColormap(palette(signed) / 255),
        norm=Normalize(-most if signed else 0, most),
        alpha=0.6,
    )
    bar = figure.colorbar(drawn, cax=axes.inset_axes((1.02, 0, 0.04, 1)))
    ticks = [-most, 0, most] if signed else [0, most]
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks], fontsize=6)
    bar.outline.set_visible(False)
