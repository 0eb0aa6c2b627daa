"""Learning curves: losses and accuracies of all seeds of a model over its epochs."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from octoscope.report.figures.style import FAINT, colour, style, svg_of

LEFT = {"train_loss": "training", "val_loss": "validation"}
RIGHT = {"train_accuracy": "training accuracy", "val_balanced_accuracy": "validation, balanced"}


def learning_curves(
    logs: Sequence[pd.DataFrame], best_epochs: Sequence[int | None], chance: float | None
) -> bytes:
    """Draw loss (left) and accuracy (right) of one model, a line per seed.

    Args:
        logs: ``log.csv`` of every seed.
        best_epochs: The epoch that was kept, per seed.
        chance: Accuracy of guessing, drawn dotted; None leaves it out.

    Returns:
        SVG.
    """
    with style():
        figure = Figure(figsize=(7.2, 2.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        _lines(left, logs, LEFT)
        _lines(right, logs, RIGHT)
        left.set_title("Loss")
        left.set_ylim(bottom=0)
        right.set_title("Accuracy")
        right.set_ylim(0, 1.02)
        if chance is not None:
            right.axhline(chance, color=FAINT, linestyle=":", linewidth=1)
            right.annotate("chance", (0.99, chance), xycoords=("axes fraction", "data"),
                           ha="right", va="bottom", fontsize=7, color=FAINT)  # fmt: skip
        for log, best in zip(logs, best_epochs, strict=True):
            kept = log[log["epoch"] == best]
            if len(kept) and "val_balanced_accuracy" in kept:
                right.plot(kept["epoch"], kept["val_balanced_accuracy"], "o", mfc="white",
                           mec=colour(1), ms=6, label="kept", zorder=3)  # fmt: skip
        for axes in (left, right):
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            _legend(axes)
        return svg_of(figure)


def _lines(axes: Axes, logs: Sequence[pd.DataFrame], columns: dict[str, str]) -> None:
    """Draw the columns of every log; the seeds of one column share its colour."""
    for place, (column, label) in enumerate(columns.items()):
        for log in logs:
            if column in log:
                marker = "o" if len(log) == 1 else None
                axes.plot(log["epoch"], log[column], color=colour(place), label=label,
                          marker=marker, alpha=1 if len(logs) == 1 else 0.7)  # fmt: skip


def _legend(axes: Axes) -> None:
    """Name each kind of line once."""
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    if once:
        axes.legend(once.values(), once.keys(), loc="best")
