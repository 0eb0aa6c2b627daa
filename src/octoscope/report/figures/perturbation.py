"""Perturbation curves: what the model still says while pixels are taken away or put back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from octoscope.report.figures.lettering import fitted
from octoscope.report.figures.roles import Role, draw_line, legend_below
from octoscope.report.figures.style import FAINT, style, svg_of

ACROSS = 2
"""Panels beside one another."""


@dataclass(frozen=True)
class Curve:
    """The mean curve of a method over scans, with its interval; NaN where it is not known."""

    mean: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class Curves:
    """One panel.

    Attributes:
        title: What is done to the scan.
        better: What a good map does here, '' if nothing is to be said.
        axis: What the horizontal axis shows.
        fractions: Shares of pixels, (F,).
        methods: Method → curve of F values.
    """

    title: str
    better: str
    axis: str
    fractions: Sequence[float]
    methods: Mapping[str, Curve]


def perturbation_curves(panels: Sequence[Curves], drawn_as: Mapping[str, Role]) -> bytes:
    """Draw panels of curves, two beside one another, with one legend.

    Args:
        panels: At least one.
        drawn_as: Method → its line; also the order of the legend.

    Returns:
        SVG.
    """
    rows = -(-len(panels) // ACROSS)
    shown = [role for name, role in drawn_as.items() if any(name in p.methods for p in panels)]
    with style():
        height = 2.45 * rows + 0.2 * (1 + len(shown) // 3)
        figure = Figure(figsize=(7.2, height), layout="constrained")
        grid = figure.subplots(rows, ACROSS, squeeze=False).ravel()
        for axes, panel in zip(grid, panels, strict=False):
            for name, role in drawn_as.items():
                if name in panel.methods:
                    curve = panel.methods[name]
                    draw_line(axes, role, panel.fractions, curve.mean, curve.low, curve.high)
            axes.set_title(fitted(panel.title, 3.1, 10, "bold"), pad=18 if panel.better else None)
            if panel.better:
                axes.annotate(fitted(panel.better, 3.1, 8), (0, 1), xycoords="axes fraction",
                              xytext=(0, 5), textcoords="offset points", fontsize=8,
                              color=FAINT)  # fmt: skip
            axes.set_xlabel(fitted(panel.axis, 3.1, 9))
            axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
            axes.margins(x=0.01)
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        legend_below(figure, shown)
        return svg_of(figure)
