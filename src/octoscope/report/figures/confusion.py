"""The confusion matrix: counts, coloured by the share of the true class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from octoscope.report.figures.style import INK, bare, shorten, style, svg_of


def confusion_matrix(counts: np.ndarray, classes: Sequence[str]) -> bytes:
    """Draw a confusion matrix, true class in rows, predicted class in columns.

    Args:
        counts: ``(K, K)`` integers.
        classes: Their names.

    Returns:
        SVG.
    """
    counts = np.asarray(counts)
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    names = [shorten(name, 14) for name in classes]
    side = 1.5 + 0.62 * len(names)
    with style():
        figure = Figure(figsize=(side + 0.4, side - 0.2), layout="constrained")
        axes = figure.add_subplot()
        axes.pcolormesh(share, cmap="Blues", vmin=0, vmax=1)
        axes.invert_yaxis()
        for (row, column), value in np.ndenumerate(counts):
            axes.text(
                column + 0.5, row + 0.5, f"{value}\n{100 * share[row, column]:.0f} %",
                ha="center", va="center", fontsize=8, linespacing=1.3,
                color="white" if share[row, column] > 0.6 else INK,
            )  # fmt: skip
        turned = 35 if max(map(len, names)) > 6 else 0
        middle = np.arange(len(names)) + 0.5
        axes.set_xticks(middle, names, rotation=turned, ha="right" if turned else "center")
        axes.set_yticks(middle, names)
        axes.tick_params(length=0)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        bare(axes)
        return svg_of(figure)
