"""Cells in rows and columns on one page, measured in inches so that nothing is clipped."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from octoscope.report.figures.blend import colour_bar
from octoscope.report.figures.cells import Bars, Cell, Picture, Words
from octoscope.report.figures.lettering import fitted, width_of, wrapped
from octoscope.report.figures.outline import Outline, lesion_outlines
from octoscope.report.figures.paper import CAPTION, GUTTER, HEADER, HEADING, LEGEND, MARGIN, Paper
from octoscope.report.figures.style import FAINT, INK, RULE, bare, colour, style

TITLE_SIZE, CAPTION_SIZE, SMALL = 11.0, 8.0, 6.5
DPI, MOST_PIXELS = 120, 12_000
NARROWEST = 1.5
"""A picture is at least so wide, or its title could not be read."""
BOX = "#ffffff"


@dataclass(frozen=True)
class Strip:
    """A row of cells.

    Attributes:
        cells: From the left; None for an empty place.
        heading: Line above the row, '' for none.
    """

    cells: Sequence[Cell | None]
    heading: str = ""


def sheet_png(strips: Sequence[Strip], *, title: str, note: str = "", widest: float = 3.0) -> bytes:
    """Draw rows of cells.

    Args:
        strips: The rows.
        title: What the figure shows.
        note: How to read it, below the title.
        widest: Width of a picture in inches; tall ones are narrower.

    Returns:
        PNG.
    """
    cells = [cell for strip in strips for cell in strip.cells if cell is not None]
    columns = max(len(strip.cells) for strip in strips)
    picture = _picture_width(cells, widest)
    room = columns * (picture + GUTTER)
    notes = wrapped(note, room, CAPTION_SIZE).splitlines() if note else []
    legend = _legend_lines(_lesions(cells), room)
    paper = Paper(
        columns,
        picture,
        tuple(min(picture * _ratio(strip.cells), 1.5 * widest) for strip in strips),
        tuple(bool(strip.heading) for strip in strips),
        len(notes),
        len(legend),
    )
    with style():
        page = _Page(paper)
        page.write(MARGIN, MARGIN, title, TITLE_SIZE, room, weight="bold")
        for place, line in enumerate(notes):
            page.write(MARGIN, MARGIN + HEADER + (place - 0.35) * LEGEND, line, CAPTION_SIZE, room,
                       colour=FAINT)  # fmt: skip
        for row, strip in enumerate(strips):
            if strip.heading:
                top = paper.box(row, 0)[1] - CAPTION - HEADING + 0.06
                page.write(MARGIN, top, strip.heading, 9.5, room, weight="bold")
            for column, cell in enumerate(strip.cells):
                if cell is not None:
                    page.draw(cell, paper.box(row, column))
        page.key(legend)
        return page.png()


def _ratio(cells: Sequence[Cell | None]) -> float:
    """Return how many times taller than wide the tallest picture is."""
    shapes = [cell.pixels.shape for cell in cells if isinstance(cell, Picture)]
    return max((shape[0] / shape[1] for shape in shapes), default=0.6)


def _picture_width(cells: Sequence[Cell], widest: float) -> float:
    """Return a width at which no picture is much taller than wide ones are wide."""
    return max(min(widest, 1.25 * widest / _ratio(cells)), min(NARROWEST, widest))


def _lesions(cells: Sequence[Cell]) -> dict[str, str]:
    """Return the colour of every kind of lesion that is outlined."""
    drawn = [o for cell in cells if isinstance(cell, Picture) for o in cell.outlines]
    return {outline.name: outline.colour for outline in drawn}


def _legend_lines(lesions: dict[str, str], room: float) -> list[list[tuple[str, str, float]]]:
    """Break the legend into lines of (name, colour, left)."""
    lines: list[list[tuple[str, str, float]]] = []
    left = room
    for name, hue in lesions.items():
        needed = 0.35 + width_of(name, CAPTION_SIZE) + 0.2
        if left + needed > room:
            lines.append([])
            left = 0.0
        lines[-1].append((name, hue, left))
        left += needed
    return lines


@dataclass(eq=False)
class _Page:
    """A figure addressed in inches from its upper left corner."""

    paper: Paper
    figure: Figure = field(init=False)

    def __post_init__(self) -> None:
        self.figure = Figure(figsize=(self.paper.width, self.paper.height), facecolor="white")

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Return new axes in a box."""
        across, down = self.paper.width, self.paper.height
        box = (left / across, 1 - (top + height) / down, width / across, height / down)
        return self.figure.add_axes(box)

    def write(
        self,
        left: float,
        top: float,
        text: str,
        size: float,
        room: float,
        *,
        weight: str = "normal",
        colour: str = INK,
    ) -> None:
        """Write a line whose upper left corner is here, cut where the room ends."""
        self.figure.text(
            left / self.paper.width,
            1 - top / self.paper.height,
            fitted(text, room, size, weight),
            size=size,
            weight=weight,
            color=colour,
            va="top",
        )

    def draw(self, cell: Cell, box: tuple[float, float, float, float]) -> None:
        """Draw one cell with its two lines above."""
        left, top, width, _ = box
        room = width + 0.9 * GUTTER
        self.write(left, top - CAPTION + 0.03, cell.title, CAPTION_SIZE, room, weight="bold")
        self.write(left, top - CAPTION + 0.18, cell.claim, CAPTION_SIZE - 0.5, room, colour=FAINT)
        if isinstance(cell, Bars):
            self._bars(cell, box)
        elif isinstance(cell, Words):
            self._words(cell, box)
        else:
            self._picture(cell, box)

    def _picture(self, cell: Picture, box: tuple[float, float, float, float]) -> None:
        left, top, width, height = box
        rows, columns = cell.pixels.shape[:2]
        scale = min(width / columns, height / rows)  # inches per pixel, the same along both axes
        width, height = columns * scale, rows * scale
        axes = self.axes(left, top, width, height)
        axes.imshow(
            cell.pixels, cmap="gray", vmin=0, vmax=255, extent=(0, columns, rows, 0), aspect="auto"
        )
        for outline in cell.outlines:
            self._outline(axes, outline)
        if cell.contour is not None:
            for outline in lesion_outlines(cell.contour.astype(np.uint8), {}):
                lines = LineCollection(outline.lines, colors="#ffffff", linewidths=0.8)
                axes.add_collection(lines)
        if cell.box is not None:
            y, x, tall, wide = cell.box
            for hue, thick in (("#000000", 2.6), (BOX, 1.4)):
                axes.add_patch(Rectangle((x, y), wide, tall, fill=False, ec=hue, lw=thick))
        if cell.words:
            self._across(axes, cell.words, width)
        axes.set_xlim(0, columns)
        axes.set_ylim(rows, 0)
        _empty(axes)
        if cell.bar is not None:
            beside = self.axes(left + width + 0.05, top, 0.09, height)
            beside.imshow(colour_bar(cell.bar.signed), aspect="auto", origin="lower",
                          extent=(0, 1, 0, 1))  # fmt: skip
            _empty(beside)
            for place, text in cell.bar.ticks:
                align = {0.0: "bottom", 1.0: "top"}.get(place, "center")
                beside.text(1.4, place, text, size=SMALL, va=align, color=FAINT)

    @staticmethod
    def _outline(axes: Axes, outline: Outline) -> None:
        """Draw a lesion's outline with a dark rim, so that it is seen on any colour."""
        axes.add_collection(LineCollection(outline.lines, colors="#000000", linewidths=1.7))
        axes.add_collection(LineCollection(outline.lines, colors=outline.colour, linewidths=0.9))

    @staticmethod
    def _across(axes: Axes, words: str, width: float) -> None:
        axes.text(
            0.5,
            0.04,
            wrapped(words, 0.9 * width, CAPTION_SIZE - 0.5),
            size=CAPTION_SIZE - 0.5,
            ha="center",
            va="bottom",
            transform=axes.transAxes,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2},
        )

    def _words(self, cell: Words, box: tuple[float, float, float, float]) -> None:
        axes = self.axes(*box)
        axes.set_facecolor("#f3f5f7")
        _empty(axes)
        room = 0.9 * box[2]
        lines = wrapped(cell.words, room, CAPTION_SIZE - 0.5).splitlines()
        most = max(1, int(box[3] / 0.16))
        if len(lines) > most:
            lines = [*lines[: most - 1], fitted(f"{lines[most - 1]} …", room, CAPTION_SIZE - 0.5)]
        axes.text(0.5, 0.5, "\n".join(lines), size=CAPTION_SIZE - 0.5, color=FAINT,
                  ha="center", va="center", transform=axes.transAxes)  # fmt: skip

    def _bars(self, cell: Bars, box: tuple[float, float, float, float]) -> None:
        """Draw the values of classes, each with its number."""
        left, top, width, height = box
        shown = cell.shown
        names = [fitted(name, 0.42 * width, CAPTION_SIZE - 0.5) for name in shown]
        label = max(width_of(name, CAPTION_SIZE - 0.5) for name in names) + 0.1
        number = 0.42
        axes = self.axes(left + label, top + 0.02, width - label - number, height - 0.26)
        hues = [colour(1) if name == cell.explained else colour(0) for name in shown]
        places = range(len(shown))
        axes.barh(places, list(shown.values()), color=hues, height=0.7)
        axes.set_xlim(*cell.limits)
        axes.set_ylim(max(len(shown), 3) - 0.5, -0.5)
        axes.set_yticks(list(places), labels=names, size=CAPTION_SIZE - 0.5)
        axes.tick_params(axis="both", length=0, labelsize=CAPTION_SIZE - 0.5)
        axes.tick_params(axis="x", labelsize=SMALL)
        axes.grid(False, axis="y")
        axes.axvline(0, color=FAINT, linewidth=0.8)
        for spine in ("left", "bottom"):
            axes.spines[spine].set_color(RULE)
        for place, value in zip(places, shown.values(), strict=True):
            text = f"{value:+.2f}".replace("-", "−") if cell.signed else f"{value:.2f}"
            axes.annotate(text, (1, place), xycoords=("axes fraction", "data"), xytext=(4, 0),
                          textcoords="offset points", va="center",
                          size=CAPTION_SIZE - 0.5)  # fmt: skip

    def key(self, lines: Sequence[Sequence[tuple[str, str, float]]]) -> None:
        """Draw the legend of the lesions below everything."""
        top = self.paper.height - MARGIN - len(lines) * LEGEND
        for place, line in enumerate(lines):
            for name, hue, left in line:
                swatch = self.axes(MARGIN + left, top + place * LEGEND + 0.04, 0.25, 0.1)
                swatch.axhline(0, color="#000000", linewidth=3.4)
                swatch.axhline(0, color=hue, linewidth=2)
                swatch.set_ylim(-1, 1)
                _empty(swatch)
                swatch.set_facecolor("none")
                start = MARGIN + left + 0.32
                self.write(start, top + place * LEGEND + 0.02, name, CAPTION_SIZE,
                           self.paper.width - start)  # fmt: skip

    def png(self) -> bytes:
        """Return the page as PNG."""
        dpi = min(DPI, MOST_PIXELS / max(self.paper.width, self.paper.height))
        out = io.BytesIO()
        self.figure.savefig(out, format="png", dpi=dpi)
        return out.getvalue()


def _empty(axes: Axes) -> None:
    """Take ticks, grid and frame from axes."""
    axes.set_xticks([])
    axes.set_yticks([])
    bare(axes)
