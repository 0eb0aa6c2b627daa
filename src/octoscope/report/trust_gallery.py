"""Scans to look at: the worst of the best method, and examples of the clusters of its maps."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np

from octoscope.report.figures.clusters import cluster_scatter
from octoscope.report.html import percent
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
MOST_EXAMPLES = 5
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


def clusters_block(trust: Trust, album: Album, drawn: bool = True) -> list[dict[str, Any]]:
    """Return the clusters of every method whose maps were clustered, the best method first.

    Args:
        trust: The run.
        album: Where pictures go.
        drawn: Whether to draw the embedding.
    """
    found = {name: mapping(said) for name, said in trust.block("clusters").items()}
    order = [name for name in trust.order if name in found]
    order += [name for name in found if name not in order]
    order.sort(key=lambda name: name != trust.best)
    return [_clustered(trust, album, name, found[name], drawn) for name in order if found[name]]


def _clustered(
    trust: Trust, album: Album, method: str, said: dict[str, Any], drawn: bool
) -> dict[str, Any]:
    clusters = entries(said.get("clusters"))
    rows = _members(trust, said, clusters)
    by_class = mapping(said.get("by_class"))
    return {
        "method": trust.title(method),
        "sentence": words(said.get("sentence")),
        "by_class": [
            sentence
            for one in by_class.values()
            if (sentence := words(mapping(one).get("sentence")))
        ],
        "figure": _scatter(said, clusters) if drawn and len(clusters) != 1 else None,
        "clusters": [
            {
                "number": words(cluster.get("number")),
                "scans": cluster.get("scans"),
                "share": cluster.get("share"),
                "classes": mapping(cluster.get("classes")),
                "looks_at": _place(mapping(cluster.get("looks_at")), len(clusters)),
                "mean": album.mean(trust, rows[number], method)
                if (number := words(cluster.get("number"))) in rows
                else None,
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


def _place(said: dict[str, Any], clusters: int) -> str:
    """Say where the maps of a cluster lie more than those of the others, '' if it is not known."""
    place, share, elsewhere = (
        words(said.get("place")),
        real(said.get("share")),
        said.get("elsewhere"),
    )
    if not place or not isfinite(share):
        return ""
    text = f"{percent(share)} of the mass in the {place}"
    return f"{text}, {percent(elsewhere)} in the other maps" if clusters > 1 else text


def _members(
    trust: Trust, said: dict[str, Any], clusters: list[dict[str, Any]]
) -> dict[str, np.ndarray]:
    """Return the rows of the scans of every cluster; none where the file does not fit the cache.

    The file tells of every scan of its split the cluster, in the order of the cache.
    """
    members = items(said.get("cluster_of"))
    if trust.study.cache is None or not members:
        return {}
    split = trust.study.cache.table.frame["split"].to_numpy()
    rows = np.flatnonzero(split == words(trust.said.get("split")))
    if len(rows) != len(members):
        return {}
    of = np.array([words(member) for member in members])
    out = {number: rows[of == number] for one in clusters if (number := words(one.get("number")))}
    told = {words(one.get("number")): items(one.get("examples")) for one in clusters}
    fits = all(set(told[number]) <= set(found.tolist()) for number, found in out.items())
    return out if fits else {}


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
