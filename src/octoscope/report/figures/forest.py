"""Forest plots: values with their intervals, one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from octoscope.report.figures.style import FAINT, colour, shorten, style, svg_of


@dataclass(frozen=True)
class Point:
    """One line of a forest plot; `low` and `high` are None where there is no interval.

    A hollow point is one to compare the others with.
    """

    label: str
    value: float
    low: float | None
    high: float | None
    group: int = 0
    hollow: bool = False


def forest(
    points: Sequence[Point],
    *,
    title: str,
    chance: float | None = None,
    limits: tuple[float, float] | None = None,
    logarithmic: bool = False,
    groups: Sequence[str] = (),
) -> bytes:
    """Draw points with intervals, and chance as a dotted line.

    Args:
        points: From top to bottom.
        title: What the axis shows.
        chance: Where guessing lies.
        limits: Of the axis.
        logarithmic: For ratios: twice and half lie equally far from one.
        groups: Names of the colours, if they mean something.

    Returns:
        SVG.
    """
    with style():
        figure = Figure(figsize=(7.2, 0.75 + 0.27 * len(points)), layout="constrained")
        axes = figure.add_subplot()
        for place, point in enumerate(points):
            tint = colour(point.group)
            if point.low is not None and point.high is not None:
                axes.plot([point.low, point.high], [place, place], color=tint, linewidth=2.4,
                          alpha=0.45, solid_capstyle="butt")  # fmt: skip
            axes.plot([point.value], [place], "o", color=tint, ms=5, mew=1.4,
                      mfc="white" if point.hollow else tint)  # fmt: skip
        axes.set_yticks(range(len(points)), [shorten(point.label, 44) for point in points])
        axes.set_ylim(len(points) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
        if logarithmic:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.3g}×"))
            axes.xaxis.set_minor_locator(NullLocator())
        if limits is not None:
            axes.set_xlim(*limits)
        if chance is not None:
            axes.axvline(chance, color=FAINT, linestyle=":", linewidth=1.2)
            axes.annotate("chance", (chance, 1), xycoords=("data", "axes fraction"), ha="center",
                          va="bottom", fontsize=7, color=FAINT)  # fmt: skip
        axes.set_xlabel(title)
        if len(groups) > 1:
            handles = [
                axes.plot([np.nan], [np.nan], "o", color=colour(g))[0] for g in range(len(groups))
            ]
            axes.legend(handles, [shorten(name) for name in groups], loc="upper left",
                        bbox_to_anchor=(1, 1))  # fmt: skip
        return svg_of(figure)
