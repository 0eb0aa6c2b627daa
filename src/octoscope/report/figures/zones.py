"""Where the mass of maps lies: one bar per method, cut into the zones of the eye and the frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from octoscope.report.figures.lettering import fitted
from octoscope.report.figures.style import FAINT, INK, style, svg_of

TINTS = {
    "vitreous": "#d3dce5", "inner_retina": "#56b4e9", "outer_retina": "#0072b2",
    "rpe_band": "#0b3c5d", "choroid": "#f5c26b", "border": "#d55e00", "corners": "#8c2d04",
    "outside": "#777777",
}  # fmt: skip
"""Zone → colour: the retina in blues, below it sand, the frame in reds, padding in grey."""
SPARE = ("#cc79a7", "#009e73", "#e69f00", "#7a5195")
"""For zones of other names."""
HATCHED = {"border": "///", "corners": "xxx"}
"""Told apart from their neighbours also in print."""
LEAST = 0.06
"""Shares below this have no room for their number."""


def zone_bars(
    bars: Sequence[tuple[str, Sequence[float]]],
    names: Sequence[str],
    titles: Sequence[str],
) -> bytes:
    """Draw stacked bars; a line parts the first bar, the area, from the others.

    Args:
        bars: Label and the share of each of Z zones, NaN where not known; the area first.
        names: Z keys of the zones.
        titles: Z names of the zones.

    Returns:
        SVG.
    """
    spare = iter(SPARE * len(names))
    tints = [TINTS.get(name) or next(spare) for name in names]
    shares = np.array([values for _, values in bars], dtype=float)
    shares = np.nan_to_num(shares)
    starts = np.cumsum(shares, axis=1) - shares
    with style():
        figure = Figure(figsize=(7.2, 0.95 + 0.28 * len(bars)), layout="constrained")
        axes = figure.add_subplot()
        for zone, (name, tint) in enumerate(zip(names, tints, strict=True)):
            axes.barh(range(len(bars)), shares[:, zone], left=starts[:, zone], height=0.78,
                      color=tint, edgecolor="white", linewidth=0.6, hatch=HATCHED.get(name),
                      label=fitted(titles[zone], 1.5, 8))  # fmt: skip
            for place in np.flatnonzero(shares[:, zone] >= LEAST):
                middle = starts[place, zone] + shares[place, zone] / 2
                axes.text(float(middle), float(place), f"{100 * shares[place, zone]:.0f}",
                          ha="center", va="center", fontsize=7.5, color=_ink_on(tint),
                          bbox={"facecolor": tint, "edgecolor": "none", "pad": 0.6}
                          if name in HATCHED else None)  # fmt: skip
        axes.axhline(0.5, color=FAINT, linewidth=1)
        axes.set_yticks(range(len(bars)), [fitted(label, 1.9, 9) for label, _ in bars])
        axes.set_ylim(len(bars) - 0.45, -0.55)
        axes.set_xlim(0, max(1.0, float(shares.sum(axis=1).max())))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(False)
        axes.spines["left"].set_visible(False)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=4,
                      handlelength=1.2, columnspacing=1.2)  # fmt: skip
        return svg_of(figure)


def _ink_on(tint: str) -> str:
    """Return white or ink, whichever is read better on a colour."""
    red, green, blue = (int(tint[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return INK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.5 else "white"
