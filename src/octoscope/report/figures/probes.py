"""Shortcut probes as a forest: every effect on one scale, from harmless to the alarm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from octoscope.report.figures.lettering import fitted, wrapped
from octoscope.report.figures.style import COLOURS, FAINT, INK, style, svg_of

ENDS = (-1.5, 4.0)
"""Of the axis; what lies beyond is drawn at the end, as an arrow."""
FIRED, QUIET = COLOURS[1], COLOURS[0]


@dataclass(frozen=True)
class Effect:
    """One line: an effect with its interval (NaN where there is none).

    Attributes:
        label: Name of the probe.
        value: The effect.
        low: Lower end of its interval.
        high: Upper end.
        harmless: The value that means nothing.
        limit: The value at which the probe fires.
        fires: Whether it does.
        words: The numbers as written beside it.
    """

    label: str
    value: float
    low: float
    high: float
    harmless: float
    limit: float
    fires: bool
    words: str

    def scaled(self, value: float) -> float:
        """Return a value with harmless at 0 and the limit at 1."""
        span = self.limit - self.harmless
        return (value - self.harmless) / span if span else value - self.harmless


def probe_forest(effects: Sequence[Effect]) -> bytes:
    """Draw every effect in units of its own limit: 0 is harmless, 1 is where the probe fires.

    Probes measure different things; only this scale lets them share an axis. The numbers
    themselves stand on the right.

    Args:
        effects: From top to bottom.

    Returns:
        SVG.
    """
    labels = [wrapped(one.label, 2.3, 9) for one in effects]
    lines = sum(label.count("\n") for label in labels)
    with style():
        height = 0.85 + 0.3 * len(effects) + 0.1 * lines
        figure = Figure(figsize=(7.2, height), layout="constrained")
        axes = figure.add_subplot()
        axes.axvspan(1, ENDS[1], color="#fbeee6", zorder=0, linewidth=0)
        axes.axvline(0, color=FAINT, linestyle=":", linewidth=1.2)
        axes.axvline(1, color=FIRED, linestyle="--", linewidth=1.2)
        for place, one in enumerate(effects):
            _draw(axes, place, one)
        axes.set_xlim(*ENDS)
        axes.set_ylim(len(effects) - 0.4, -0.6)
        axes.set_yticks(range(len(effects)), labels)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.xaxis.set_major_locator(FixedLocator([0, 1, 2, 3]))
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda x, _: {0: "harmless", 1: "limit"}.get(int(x), f"{x:g}× limit"))
        )
        axes.grid(False)
        axes.spines["left"].set_visible(False)
        numbers = axes.secondary_yaxis("right")
        numbers.set_yticks(range(len(effects)), [fitted(one.words, 1.7, 8) for one in effects])
        numbers.tick_params(length=0, labelcolor=INK, labelsize=8)
        numbers.spines["right"].set_visible(False)
        return svg_of(figure)


def _draw(axes: Axes, place: int, one: Effect) -> None:
    """Draw one effect: fired ones are full diamonds, the others open circles."""
    tint = FIRED if one.fires else QUIET
    least, most = ENDS
    if isfinite(one.low) and isfinite(one.high):
        ends = sorted(min(max(one.scaled(end), least), most) for end in (one.low, one.high))
        axes.plot(ends, [place, place], color=tint, linewidth=2.4, alpha=0.5,
                  solid_capstyle="butt")  # fmt: skip
    if not isfinite(one.value):
        return
    where = one.scaled(one.value)
    marker = "D" if one.fires else "o"
    if where > most or where < least:
        marker, where = (">", most - 0.06) if where > most else ("<", least + 0.06)
    axes.plot([where], [place], marker, color=tint, mfc=tint if one.fires else "white", ms=6,
              mew=1.6, zorder=3)  # fmt: skip
