"""The measures of a page of cells, in inches: where each picture lies, how large the page is."""

from __future__ import annotations

from dataclasses import dataclass

MARGIN, GUTTER = 0.15, 0.66
"""Around the page; and right of every picture, for its colour bar and the bar's numbers."""
HEADER, HEADING, CAPTION, GAP, LEGEND = 0.36, 0.32, 0.36, 0.12, 0.22
"""Heights: the page's title, a row's heading, a picture's two lines, below it, a line of legend."""


@dataclass(frozen=True)
class Paper:
    """The measures of a page, in inches.

    Attributes:
        columns: Cells of the widest row.
        picture: Width of a picture.
        heights: Height of the pictures of each row.
        headings: Whether each row has a heading.
        notes: Lines below the title.
        legend: Lines of the legend.
    """

    columns: int
    picture: float
    heights: tuple[float, ...]
    headings: tuple[bool, ...]
    notes: int = 0
    legend: int = 0

    @property
    def width(self) -> float:
        """Of the page."""
        return 2 * MARGIN + self.columns * (self.picture + GUTTER)

    @property
    def height(self) -> float:
        """Of the page."""
        return self._top(len(self.headings)) + self.legend * LEGEND + MARGIN

    def box(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Return left, top, width and height of a picture, from the page's upper left corner."""
        heading = HEADING if self.headings[row] else 0
        left = MARGIN + column * (self.picture + GUTTER)
        return left, self._top(row) + heading + CAPTION, self.picture, self.heights[row]

    def _top(self, row: int) -> float:
        """Return where a row begins, below all before it."""
        above = sum(self.headings[:row]) * HEADING + sum(self.heights[:row])
        return MARGIN + HEADER + self.notes * LEGEND + above + row * (CAPTION + GAP)
