"""How a method is drawn wherever many share one figure: the same line in each of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from octoscope.report.figures.lettering import fitted
from octoscope.report.figures.style import COLOURS, FAINT

OTHER = "#a9b8c6"
"""Colour of methods that are neither among the best nor null maps."""

BANDS = 3
"""Of the best methods that have a band beside the null maps; of more, none could be seen."""

Dash = str | tuple[int, tuple[int, ...]]

_DASHES: tuple[Dash, ...] = ("-", (0, (6, 2)))


@dataclass(frozen=True)
class Role:
    """How a method is drawn.

    Attributes:
        title: Its name in the legend.
        tint: Colour of its line.
        dash: Its dashes, as matplotlib takes them.
        width: Of the line, in points.
        band: Whether its interval is drawn as a band.
        above: Drawing order; the best lie on top.
        named: Whether the legend names it, or counts it among the others.
    """

    title: str
    tint: str
    dash: Dash
    width: float
    band: bool
    above: float
    named: bool


def roles(
    order: Sequence[str], nulls: Collection[str], titles: Mapping[str, str]
) -> dict[str, Role]:
    """Give every method its line: the best in colour, null maps in dotted grey, the rest pale.

    Args:
        order: Methods, best first.
        nulls: Those that know no model.
        titles: Method → name.
    """
    out = {}
    best = [name for name in order if name not in nulls][: len(COLOURS) - 1]
    for name in order:
        title = titles.get(name, name)
        if name in nulls:
            out[name] = Role(title, FAINT, ":", 1.4, True, 2.2, True)
        elif name in best:
            place = best.index(name)
            # the last colours are lighter or close to the first: dashes tell them apart
            dash = _DASHES[place >= 4]
            band = place < BANDS
            out[name] = Role(title, COLOURS[place], dash, 1.7, band, 3 - place / 100, True)
        else:
            out[name] = Role(title, OTHER, "-", 1.0, False, 2.1, False)
    return out


def draw_line(
    axes: Axes,
    role: Role,
    places: Sequence[float],
    mean: Sequence[float],
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
    *,
    marker: str = "",
) -> None:
    """Draw a method's line and, if it has one, its band."""
    axes.plot(places, mean, color=role.tint, linestyle=role.dash, linewidth=role.width,
              zorder=role.above, marker=marker, ms=3)  # fmt: skip
    if role.band and low is not None and high is not None:
        axes.fill_between(places, low, high, color=role.tint, alpha=0.13, linewidth=0,
                          zorder=role.above - 1)  # fmt: skip


def legend_below(figure: Figure, shown: Sequence[Role], columns: int = 3) -> None:
    """Name the lines below the figure; those without a name of their own are counted."""
    axes = figure.axes[0]
    handles, labels = [], []
    for role in shown:
        if role.named:
            handles += axes.plot([], [], color=role.tint, linestyle=role.dash, linewidth=role.width)
            labels.append(fitted(role.title, 1.85, 8))
    others = [role for role in shown if not role.named]
    if others:
        handles += axes.plot([], [], color=OTHER, linewidth=others[0].width)
        labels.append(f"{len(others)} other method{'s' if len(others) > 1 else ''}")
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, handlelength=2.4,
                  columnspacing=1.2)  # fmt: skip
