"""How alike the maps are: of the methods on one model, of one method on several models."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from octoscope.report.figures.heatmap import heat_map
from octoscope.report.files import StudyFiles
from octoscope.report.html import known
from octoscope.report.trust_read import Trust, figure_uri, items, mapping, reals, words

MOST_PAIRS = 10
"""Pairs of models beside one another; of more, each model's mean with the others is shown."""


def agreement_block(trust: Trust) -> dict[str, Any] | None:
    """Return the heat maps between methods as data URIs, None if they were not measured."""
    block = trust.block("agreement")
    methods = [words(name) for name in items(block.get("methods"))]
    titles = [trust.title(name) for name in methods]
    spearman, top = (_square(block.get(key), len(methods)) for key in ("spearman", "top"))
    if spearman is None and top is None:
        return None
    share = block.get("top_share")
    return {
        "spearman": None if spearman is None else figure_uri(heat_map(spearman, titles, titles)),
        "top": None if top is None else figure_uri(heat_map(top, titles, titles, low=0)),
        "top_share": share if known(share) else None,
    }


def agreement_of_models(study: StudyFiles, titles: dict[str, str]) -> dict[str, Any] | None:
    """Return the agreement of models, method by method, from the study's ``trust.json``."""
    methods = mapping(mapping(study.trust.get("agreement")).get("methods"))
    sentences = [words(sentence) for sentence in items(study.trust.get("sentences"))]
    names = list(
        dict.fromkeys(words(m) for a in methods.values() for m in items(mapping(a).get("models")))
    )
    pairs = list(combinations(names, 2))
    if len(pairs) > MOST_PAIRS:
        heads = [f"{name} with the others" for name in names]
    else:
        heads = [f"{one} – {other}" for one, other in pairs]
    figures: dict[str, str | None] = {}
    for key, low in (("spearman", -1.0), ("top", 0.0)):
        rows = {
            titles.get(m, study.title(m)): _row(mapping(about), names, pairs, key)
            for m, about in methods.items()
        }
        rows = {title: row for title, row in rows.items() if np.isfinite(row).any()}
        table = np.array(list(rows.values()))
        figures[key] = figure_uri(heat_map(table, list(rows), heads, low=low)) if rows else None
    if not sentences and not any(figures.values()):
        return None
    return {**figures, "sentences": sentences}


def _row(
    about: dict[str, Any], names: list[str], pairs: list[tuple[str, str]], key: str
) -> list[float]:
    """Return a method's agreement for every pair of models, or every model with the others."""
    own = [words(model) for model in items(about.get("models"))]
    table = _square(about.get(key), len(own))
    if table is None:
        return [float("nan")] * (len(pairs) if len(pairs) <= MOST_PAIRS else len(names))
    place = {name: position for position, name in enumerate(own)}

    def between(one: str, other: str) -> float:
        if one not in place or other not in place:
            return float("nan")
        return float(table[place[one], place[other]])

    if len(pairs) <= MOST_PAIRS:
        return [between(*pair) for pair in pairs]
    return [_mean([between(one, other) for other in names if other != one]) for one in names]


def _mean(values: list[float]) -> float:
    there = [value for value in values if known(value)]
    return sum(there) / len(there) if there else float("nan")


def _square(said: Any, count: int) -> np.ndarray | None:
    """Return a ``(count, count)`` table; None if it is missing, misshapen or holds nothing."""
    rows = [reals(row) for row in items(said)]
    if not count or len(rows) != count or any(len(row) != count for row in rows):
        return None
    table = np.array(rows)
    return table if np.isfinite(table).any() else None
