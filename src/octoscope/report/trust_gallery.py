"""Scans to look at: the worst of the best method, and examples of the clusters of its maps."""

from __future__ import annotations

from typing import Any

import numpy as np

from octoscope.report.figures.clusters import cluster_scatter
from octoscope.report.trust_pictures import Album
from octoscope.report.trust_read import (
    Trust,
    entries,
    figure_uri,
    items,
    mapping,
    real,
    reals,
    words,
)
from octoscope.report.trust_scoreboard import written

MOST_WORST = 12
"""Scans of a gallery."""
MOST_EXAMPLES = 4
"""Scans of a cluster."""


def gallery_block(trust: Trust, album: Album) -> dict[str, Any] | None:
    """Return the worst scans of the best method, None if there is no gallery."""
    galleries = trust.rows("gallery")
    own = [g for g in galleries if g.get("method") == trust.best]
    chosen = next((g for g in [*own, *galleries] if entries(g.get("worst"))), None)
    if chosen is None:
        return None
    method, metric = words(chosen.get("method")), words(chosen.get("metric"))
    worst = entries(chosen.get("worst"))
    about = trust.metrics.get(metric, {})
    return {
        "method": trust.title(method),
        "metric": trust.metric_title(metric),
        "sentence": words(about.get("sentence")),
        "scans": [_worst(trust, album, one, method) for one in worst[:MOST_WORST]],
        "more": max(0, len(worst) - MOST_WORST),
    }


def _worst(trust: Trust, album: Album, one: dict[str, Any], method: str) -> dict[str, Any]:
    label, predicted = words(one.get("label")), words(one.get("predicted"))
    return {
        "name": words(one.get("scan")),
        "label": label,
        "predicted": predicted,
        "right": bool(label) and label == predicted,
        "value": written(real(one.get("value")))[0],
        "picture": album.picture(trust, one.get("row"), method, predicted),
    }


def clusters_block(trust: Trust, album: Album) -> list[dict[str, Any]]:
    """Return the clusters of every method whose maps were clustered, the best method first."""
    found = {name: mapping(said) for name, said in trust.block("clusters").items()}
    order = [name for name in trust.order if name in found]
    order += [name for name in found if name not in order]
    order.sort(key=lambda name: name != trust.best)
    return [_clustered(trust, album, name, found[name]) for name in order if found[name]]


def _clustered(trust: Trust, album: Album, method: str, said: dict[str, Any]) -> dict[str, Any]:
    clusters = entries(said.get("clusters"))
    return {
        "method": trust.title(method),
        "sentence": words(said.get("sentence")),
        "figure": _scatter(said, clusters),
        "clusters": [
            {
                "number": words(cluster.get("number")),
                "scans": cluster.get("scans"),
                "share": cluster.get("share"),
                "classes": mapping(cluster.get("classes")),
                "artefacts": [words(name) for name in items(cluster.get("artefacts"))],
                "examples": [
                    picture
                    for row in items(cluster.get("examples"))[:MOST_EXAMPLES]
                    if (picture := album.picture(trust, row, method)) is not None
                ],
            }
            for cluster in clusters
        ],
    }


def _scatter(said: dict[str, Any], clusters: list[dict[str, Any]]) -> str | None:
    """Return the embedding as a data URI, None if it does not fit its clusters."""
    points = [reals(point) for point in items(said.get("embedding"))]
    members = items(said.get("cluster_of"))
    if not points or len(points) != len(members) or any(len(point) != 2 for point in points):
        return None
    numbers = [one.get("number") for one in clusters] or sorted(set(members), key=str)
    scans = {one.get("number"): one.get("scans") for one in clusters}
    names = {
        number: f"cluster {number}" + (f" ({scans[number]} scans)" if scans.get(number) else "")
        for number in numbers
    }
    return figure_uri(cluster_scatter(np.array(points), members, names))
