"""ROC curves: each class against the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from octoscope.evaluation.metrics import roc_curve
from octoscope.report.figures.style import FAINT, colour, shorten, style, svg_of


def roc_curves(probabilities: np.ndarray, targets: np.ndarray, classes: Sequence[str]) -> bytes:
    """Draw a ROC curve for every class that has scans, against the rest.

    Args:
        probabilities: ``(N, K)``.
        targets: True class index, ``(N,)``.
        classes: K names.

    Returns:
        SVG.
    """
    with style():
        figure = Figure(figsize=(3.3, 3.4), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=FAINT, linestyle=":", linewidth=1)
        for k, name in enumerate(classes):
            positive = targets == k
            if positive.any() and not positive.all():
                false, true = roc_curve(probabilities[:, k], positive)
                axes.plot(false, true, color=colour(k), label=shorten(name, 16))
        axes.set_xlabel("1 − specificity")
        axes.set_ylabel("sensitivity")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_aspect("equal")
        axes.legend(loc="lower right")
        return svg_of(figure)
