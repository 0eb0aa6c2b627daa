"""What all figures share: size, type, colours, and how they become bytes.

Figures are made without pyplot: no global state, no display, and names of classes or models are
never read as mathematical text.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from octoscope.visible import visible

INK, FAINT, RULE = "#1f2933", "#66727f", "#d5dbe1"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#000000")
"""Okabe and Ito's palette, told apart also by the colour-blind."""

_PARAMETERS: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.6,
    "text.parse_math": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "octoscope",  # the same figure gives the same bytes
}


@contextmanager
def style() -> Iterator[None]:
    """Hold the report's style; wrap the drawing *and* the saving of a figure in it."""
    with matplotlib.rc_context(_PARAMETERS):
        yield


def svg_of(figure: Figure) -> bytes:
    """Return a figure as SVG."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def colour(index: int) -> str:
    """Return the colour of the `index`-th class, model or method."""
    return COLOURS[index % len(COLOURS)]


def shorten(name: str, most: int = 24) -> str:
    """Return a name that fits beside an axis, with nothing unseen in it."""
    name = visible(name)
    if name.startswith("_"):  # matplotlib leaves such names out of legends
        name = f"\N{THIN SPACE}{name}"
    return name if len(name) <= most else f"{name[: most - 1]}…"


def bare(axes: Axes) -> None:
    """Take grid and frame from axes."""
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
