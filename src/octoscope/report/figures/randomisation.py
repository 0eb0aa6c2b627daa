"""Parameter randomisation: how alike a map stays while the weights are replaced by chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from octoscope.report.figures.roles import Role, draw_line, legend_below
from octoscope.report.figures.style import FAINT, shorten, style, svg_of


def randomisation_lines(
    stages: Sequence[str],
    similarities: Mapping[str, Mapping[str, Sequence[float]]],
    drawn_as: Mapping[str, Role],
) -> bytes:
    """Draw the similarity to the map of the trained model against the stages of randomisation.

    Args:
        stages: The layers in the order in which they lose their weights, from the head down.
        similarities: Name of the similarity → method → one value per stage.
        drawn_as: Method → its line; also the order of the legend.

    Returns:
        SVG.
    """
    there = {name for lines in similarities.values() for name in lines}
    shown = [role for name, role in drawn_as.items() if name in there]
    places = list(range(len(stages)))
    with style():
        height = 2.9 + 0.2 * (1 + len(shown) // 3)
        figure = Figure(figsize=(7.2, height), layout="constrained")
        grid = figure.subplots(1, len(similarities), squeeze=False).ravel()
        for axes, (title, lines) in zip(grid, similarities.items(), strict=True):
            for name, role in drawn_as.items():
                if name in lines:
                    draw_line(axes, role, places, lines[name], marker="o")
            axes.axhline(0, color=FAINT, linewidth=0.8)
            axes.set_title(title)
            axes.set_xticks(places, [shorten(stage, 16) for stage in stages], rotation=35,
                            ha="right", rotation_mode="anchor")  # fmt: skip
            axes.set_ylim(top=1.05)
            axes.margins(x=0.04)
            axes.set_xlabel("randomised down to")
        legend_below(figure, shown)
        return svg_of(figure)
