"""One scan, what a model says about it, and one map per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from octoscope.report.figures.cells import Bars, Cell, Map, Scan, map_picture, scan_picture
from octoscope.report.figures.sheet import Strip, sheet_png

COLUMNS = {8: 4, 15: 5}
"""Up to so many cells → columns; beyond, `MOST_COLUMNS`."""
MOST_COLUMNS = 6


def panel_png(
    scan: Scan,
    maps: Sequence[Map],
    probabilities: Mapping[str, float],
    *,
    explained: str,
    title: str,
) -> bytes:
    """Draw a scan with its class probabilities and the maps of one class, each with its scale.

    Args:
        scan: The scan as the model sees it.
        maps: One per method.
        probabilities: Class → probability.
        explained: The class that the maps explain.
        title: What the scan is called.

    Returns:
        PNG.
    """
    bars = Bars("class probability", probabilities, f"explained: {explained}", explained)
    cells: list[Cell] = [scan_picture(scan), bars, *(map_picture(scan, seen) for seen in maps)]
    columns = min(len(cells), columns_for(len(cells)))
    rows = [Strip(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    return sheet_png(rows, title=title)


def columns_for(cells: int) -> int:
    """Return how many columns show this many cells well."""
    return next((columns for most, columns in COLUMNS.items() if cells <= most), MOST_COLUMNS)
