"""Perturbation curves and parameter randomisation, drawn with one line per method throughout."""

from __future__ import annotations

from typing import Any

import numpy as np

from octoscope.report.figures.perturbation import Curve, Curves, perturbation_curves
from octoscope.report.figures.randomisation import randomisation_lines
from octoscope.report.figures.roles import Role, roles
from octoscope.report.trust_read import Trust, figure_uri, items, mapping, reals, words

BETTER = {
    "deletion": "the answer should fall fast: lower is better",
    "insertion": "the answer should come back fast: higher is better",
    "positive": "evidence goes first: lower is better",
    "negative": "evidence goes last: higher is better",
    "morf": "evidence goes first: lower is better",
    "lerf": "evidence goes last: higher is better",
    "road_morf": "evidence goes first: lower is better",
    "road_lerf": "evidence goes last: higher is better",
}
"""Kind of curve → what a good map does in it."""

ORDER = ("deletion", "insertion", "positive", "negative", "morf", "road_morf", "lerf", "road_lerf")
"""Of the panels: what takes away stands left of what keeps."""

SIMILARITIES = {"spearman": "Rank correlation", "ssim": "Structural similarity"}


def drawn_as(trust: Trust) -> dict[str, Role]:
    """Return the line of every method, the same in all figures of a card."""
    return roles(trust.order, trust.nulls, trust.titles)


def curves_figure(trust: Trust) -> str | None:
    """Return all kinds of perturbation as a data URI, None if none was measured."""
    panels = []
    found = trust.block("curves")
    for kind in sorted(found, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER)):
        said = found[kind]
        about = mapping(said)
        fractions = reals(about.get("fractions"))
        lines = {
            name: _curve(mapping(curve), len(fractions))
            for name, curve in mapping(about.get("methods")).items()
        }
        drawn = {name: line for name, line in lines.items() if np.isfinite(line.mean).any()}
        if fractions and drawn:
            title = words(about.get("title")) or kind.replace("_", " ")
            axis = words(about.get("x")) or "share of pixels"
            panels.append(Curves(title, BETTER.get(kind, ""), axis, fractions, drawn))
    return figure_uri(perturbation_curves(panels, drawn_as(trust))) if panels else None


def _short(stages: list[str]) -> list[str]:
    """Return names of stages without what all layers begin with: ``network.fc`` is ``fc``."""
    layers = [layer for stage in stages for layer in stage.split("…")]
    first = layers[0].split(".")[0] + "."
    if not all(layer.startswith(first) for layer in layers):
        return stages
    return ["…".join(layer.removeprefix(first) for layer in s.split("…")) for s in stages]


def randomisation_figure(trust: Trust) -> str | None:
    """Return the similarity by randomised stage as a data URI, None if it was not measured."""
    block = trust.block("randomisation")
    stages = [words(stage) for stage in items(block.get("stages"))]
    found: dict[str, dict[str, list[float]]] = {}
    for name, said in mapping(block.get("methods")).items():
        for key, title in SIMILARITIES.items():
            values = _fitted(reals(mapping(said).get(key)), len(stages))
            if np.isfinite(values).any():
                found.setdefault(title, {})[name] = values
    if not stages or not found:
        return None
    ordered = {title: found[title] for title in SIMILARITIES.values() if title in found}
    return figure_uri(randomisation_lines(_short(stages), ordered, drawn_as(trust)))


def _curve(said: dict[str, Any], count: int) -> Curve:
    low, high = (_fitted(reals(said.get(end)), count) for end in ("low", "high"))
    return Curve(_fitted(reals(said.get("mean")), count), low, high)


def _fitted(values: list[float], count: int) -> list[float]:
    """Return so many values, NaN where there are fewer."""
    return (values + [float("nan")] * count)[:count]
