"""The reliability curve: how often a confidence came true, before and after scaling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from octoscope.report.figures.style import FAINT, colour, style, svg_of


def reliability_curve(
    before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]] = ()
) -> bytes:
    """Draw accuracy over confidence with intervals, and below it how many scans are where.

    Args:
        before: Bins as in ``metrics.json``.
        after: The same after temperature scaling; may be empty.

    Returns:
        SVG.
    """
    with style():
        figure = Figure(figsize=(3.5, 3.4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        above.plot([0, 1], [0, 1], color=FAINT, linestyle=":", linewidth=1)
        for place, (bins, label) in enumerate(
            ((before, "as trained"), (after, "temperature-scaled"))
        ):
            if not bins:
                continue
            x = np.array([b["confidence"] for b in bins], dtype=float)
            y = np.array([b["accuracy"] for b in bins], dtype=float)
            low = np.array([_or(b.get("accuracy_low"), b["accuracy"]) for b in bins], dtype=float)
            high = np.array([_or(b.get("accuracy_high"), b["accuracy"]) for b in bins], dtype=float)
            above.vlines(x, low, high, color=colour(place), alpha=0.35, linewidth=2.5)
            above.plot(x, y, "o-", color=colour(place), ms=4, label=label)
            width = [b["high"] - b["low"] for b in bins]
            below.bar([b["low"] for b in bins], [b["count"] for b in bins], width, align="edge",
                      color=colour(place), alpha=0.5)  # fmt: skip
        above.set_ylabel("accuracy")
        above.set_ylim(-0.02, 1.02)
        if before:
            above.legend(loc="best")
        below.set_ylabel("scans")
        below.set_xlabel("confidence")
        below.set_xlim(0, 1)
        return svg_of(figure)


def _or(value: float | None, otherwise: float) -> float:
    """Return `otherwise` for a missing value."""
    return otherwise if value is None else value
