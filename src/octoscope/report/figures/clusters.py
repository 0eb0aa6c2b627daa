"""Clusters of maps: every scan a point, near the scans whose maps look alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from octoscope.report.figures.style import bare, colour, shorten, style, svg_of

MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""A shape per cluster, so that they are told apart without colour."""


def cluster_scatter(
    points: np.ndarray, cluster_of: Sequence[Any], names: Mapping[Any, str]
) -> bytes:
    """Draw the embedding with one colour and shape per cluster.

    Args:
        points: ``(N, 2)``.
        cluster_of: Number of each point's cluster, (N,).
        names: Number → what the legend says, in its order.

    Returns:
        SVG.
    """
    members = np.asarray(cluster_of)
    with style():
        figure = Figure(figsize=(5.0, 2.5), layout="constrained")
        axes = figure.add_subplot()
        for place, (number, name) in enumerate(names.items()):
            own = points[members == number]
            axes.scatter(own[:, 0], own[:, 1], s=22, color=colour(place), label=shorten(name, 40),
                         marker=MARKS[place % len(MARKS)], edgecolor="white",
                         linewidth=0.5)  # fmt: skip
        bare(axes)
        axes.set_facecolor("#f5f7fa")
        axes.margins(0.08)
        axes.set_xticks([])
        axes.set_yticks([])
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
        return svg_of(figure)
