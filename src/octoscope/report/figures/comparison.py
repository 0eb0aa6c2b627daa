"""Maps beside one another: of several models, or of several methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from octoscope.report.figures.cells import (
    Cell,
    Map,
    Scan,
    Words,
    map_picture,
    scan_picture,
)
from octoscope.report.figures.sheet import Strip, sheet_png

MOST_ACROSS = 6
"""Maps beside one another; more go on below."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What one model makes of a scan.

    Attributes:
        scan: The scan in the model's frame.
        map: The map; or why there is none.
        title: The column, if there is no map to name it.
    """

    scan: Scan
    map: Map | str
    title: str = ""

    @property
    def cell(self) -> Cell:
        """What is drawn."""
        if isinstance(self.map, Map):
            return map_picture(self.scan, self.map)
        return Words(self.title, self.map)


@dataclass(frozen=True, eq=False)
class Row:
    """A row of a comparison: the scan as it is, and maps of it.

    Attributes:
        heading: What the row is called.
        scan: The scan as it is.
        seen: The maps, the same number in every row.
    """

    heading: str
    scan: Scan
    seen: Sequence[Seen]


def comparison_png(rows: Sequence[Row], *, title: str, note: str = "") -> bytes:
    """Draw rows of maps with the scan first: scans × models, or models × methods.

    More than `MOST_ACROSS` maps are broken into blocks, each with all rows and the scan.

    Args:
        rows: Scans, or models.
        title: What is compared.
        note: How to read it.

    Returns:
        PNG.
    """
    strips = []
    for start, stop in blocks(max(len(row.seen) for row in rows), MOST_ACROSS):
        for row in rows:
            first = scan_picture(row.scan, "scan")
            cells = [first, *(seen.cell for seen in row.seen[start:stop])]
            heading = row.heading if start == 0 else f"{row.heading} (continued)"
            strips.append(Strip(cells, heading))
    return sheet_png(strips, title=title, note=note, widest=2.6)


def blocks(count: int, most: int) -> list[tuple[int, int]]:
    """Break `count` things into as few runs of at most `most` as will do, as even as can be."""
    runs = max(1, -(-count // most))
    ends = [-(-count * run // runs) for run in range(runs + 1)]
    return list(pairwise(ends))
