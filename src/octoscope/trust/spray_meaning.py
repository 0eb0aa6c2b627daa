"""What clusters of maps go with: class, place in the scan, and artefacts of its acquisition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from octoscope.errors import OctoscopeError
from octoscope.scans.geometry.zones import TITLES, ZONES
from octoscope.trust.lesions import Readable
from octoscope.trust.localisation import Array, in_blocks, relevance_mass
from octoscope.trust.scores import LEAST_PATIENTS
from octoscope.trust.spray import LEAST_SCANS, Clusters, find_clusters, small_maps
from octoscope.trust.spray_associations import association_words, cluster_associations
from octoscope.trust.zones import zone_shares

EXAMPLES = 6
CLASS = "class"
CORNERS = ("upper left corner", "upper right corner", "lower left corner", "lower right corner")


def place_shares(maps: Array, zones: Array) -> pd.DataFrame:
    """Return the share of each map in each zone, the corners one by one; NaN as `zone_shares`.

    Args:
        maps: ``(B, H, W)``.
        zones: ``(B, H, W)`` positions in `ZONES`.

    Returns:
        B rows, one column per place, named as in running text.
    """
    found = zone_shares(maps, zones).numpy(force=True)
    table = pd.DataFrame({TITLES[name]: found[:, i] for i, name in enumerate(ZONES)})
    corners = torch.as_tensor(zones) == ZONES.index("corners")
    high = torch.arange(corners.shape[1])[:, None] < corners.shape[1] / 2
    left = torch.arange(corners.shape[2])[None] < corners.shape[2] / 2
    for name, part in zip(CORNERS, (high & left, high & ~left, ~high & left, ~high & ~left),
                          strict=True):  # fmt: skip
        mass = relevance_mass(maps, corners & part.to(corners.device)).numpy(force=True)
        table[name] = np.where(np.isnan(found[:, 0]), np.nan, np.nan_to_num(mass))
    return table.drop(columns=TITLES["corners"])


def describe_clusters(
    clusters: Clusters,
    *,
    labels: Sequence[str],
    patients: Sequence[str],
    rows: Sequence[int],
    title: str,
    places: pd.DataFrame | None = None,
    artefacts: pd.DataFrame | None = None,
    permutations: int = 5000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return what a report says of the clusters of one method, as plain JSON values.

    Args:
        clusters: Of B maps.
        labels: Class of each scan, ``(B,)``.
        patients: Patient of each scan, ``(B,)``.
        rows: Row of each scan in the cache, ``(B,)``.
        title: The method in sentences.
        places: B rows of `place_shares`, to say where a cluster looks.
        artefacts: B rows of measures, numbers or words, to say what it goes with.
        permutations: Of the tests.
        seed: Of the tests.

    Returns:
        ``sentence, number, scans, patients, stability, silhouette, clusters, embedding,
        cluster_of``; each cluster: ``number, scans, patients, share, classes, artefacts
        (sentences), associations, looks_at, examples (rows), sentence``.
    """
    classes, owner = np.asarray(labels).astype(str), np.asarray(patients).astype(str)
    known = pd.DataFrame({CLASS: classes})
    if artefacts is not None:
        known = pd.concat([known, artefacts.reset_index(drop=True)], axis=1)
    goes_with = cluster_associations(
        clusters.of, patients, known, permutations=permutations, seed=seed
    )
    out = []
    for k, associated in goes_with.items():
        member = clusters.of == k
        names, counts = np.unique(classes[member], return_counts=True)
        one: dict[str, Any] = {
            "number": k,
            "scans": int(member.sum()),
            "patients": len(np.unique(owner[member])),
            "share": float(member.sum() / clusters.scans),
            "classes": {str(n): int(c) for n, c in zip(names, counts, strict=True)},
            "associations": associated,
            "artefacts": [association_words(row) for row in associated if row["feature"] != CLASS],
            "looks_at": None if places is None else _place(places, member, clusters.of > 0),
            "examples": [int(rows[i]) for i in _typical(clusters.cells, member, owner)],
        }
        tested = artefacts is not None and clusters.number > 1
        out.append({**one, "sentence": _cluster_sentence(one, tested)})
    return {
        "sentence": _sentence(clusters, title),
        "number": clusters.number,
        "scans": clusters.scans,
        "patients": clusters.patients,
        "stability": clusters.stability,
        "silhouette": clusters.silhouette,
        "clusters": out,
        "embedding": clusters.embedding.tolist(),
        "cluster_of": clusters.of.tolist(),
    }


def clusters_block(
    maps: Mapping[str, Array | Readable],
    *,
    labels: Sequence[str],
    patients: Sequence[str],
    rows: Sequence[int],
    zones: Array | None = None,
    artefacts: pd.DataFrame | None = None,
    titles: Mapping[str, str] | None = None,
    by_class: bool = True,
    permutations: int = 5000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Cluster the maps of every method, over all scans and within each class.

    Args:
        maps: Method → ``(B, H, W)`` maps, or anything of length B that gives those at positions.
        labels: Class of each scan, ``(B,)``.
        patients: Patient of each scan, ``(B,)``.
        rows: Row of each scan in the cache, ``(B,)``.
        zones: ``(B, H, W)`` positions in `ZONES`, to say where a cluster looks.
        artefacts: B rows of measures of the scans, numbers or words.
        titles: Method → its name in sentences.
        by_class: Whether also within each class, where a class alone cannot make clusters.
        permutations: Of the tests.
        seed: Of everything drawn.

    Returns:
        Method → `describe_clusters` of all scans, and under ``by_class`` class → the same, whose
        ``embedding`` and ``cluster_of`` run over the scans of that class.

    Raises:
        OctoscopeError: If there are not as many artefact rows as scans.
    """
    if artefacts is not None and len(artefacts) != len(labels):
        raise OctoscopeError(
            f"{len(artefacts)} rows of artefacts do not fit {len(labels)} scans; give one per scan"
        )
    classes, out = np.asarray(labels).astype(str), {}
    for method, drawn in maps.items():
        title = (titles or {}).get(method, method)
        cells, places = _read(drawn, zones, len(classes))

        def described(
            part: np.ndarray,
            title: str,
            cells: np.ndarray = cells,
            places: pd.DataFrame | None = places,
        ) -> dict[str, Any]:
            owner = np.asarray(patients)[part]
            return describe_clusters(
                find_clusters(cells[part], owner, seed=seed),
                labels=classes[part].tolist(),
                patients=owner.tolist(),
                rows=np.asarray(rows)[part].tolist(),
                title=title,
                places=None if places is None else places.iloc[part],
                artefacts=None if artefacts is None else artefacts.iloc[part],
                permutations=permutations,
                seed=seed,
            )

        out[method] = described(np.arange(len(classes)), title)
        if by_class:
            out[method]["by_class"] = {
                name: described(np.flatnonzero(classes == name), f"{title} on {name}")
                for name in dict.fromkeys(classes.tolist())
            }
    return out


def _read(
    drawn: Array | Readable, zones: Array | None, count: int
) -> tuple[np.ndarray, pd.DataFrame | None]:
    """Return small maps and, if there are zones, place shares; maps are read block by block."""
    cells, places = [], []
    for block in in_blocks(np.arange(count)):
        maps = torch.as_tensor(drawn[block])
        cells.append(small_maps(maps))
        if zones is not None:
            places.append(place_shares(maps, torch.as_tensor(zones[block])))
    return np.concatenate(cells), pd.concat(places, ignore_index=True) if places else None


def _place(places: pd.DataFrame, member: np.ndarray, known: np.ndarray) -> dict[str, Any] | None:
    """Return the place that a cluster looks at more than the other maps do, with both shares."""
    here, elsewhere = places[member].mean(), places[known & ~member].mean().fillna(0)
    if here.isna().all():
        return None
    place = str((here - elsewhere).idxmax())
    return {"place": place, "share": float(here[place]), "elsewhere": float(elsewhere[place])}


def _typical(cells: np.ndarray, member: np.ndarray, patients: np.ndarray) -> list[int]:
    """Return positions of the maps nearest to their cluster's mean, of many patients first."""
    places = np.flatnonzero(member)
    near = np.square(np.sqrt(cells[places]) - np.sqrt(cells[places].mean(axis=0))).sum(axis=1)
    places = places[np.argsort(near, kind="stable")]
    _, first = np.unique(patients[places], return_index=True)
    repeated = np.setdiff1d(np.arange(len(places)), first)
    return [int(i) for i in places[np.concatenate([np.sort(first), repeated])][:EXAMPLES]]


def _cluster_sentence(one: Mapping[str, Any], tested: bool) -> str:
    """Return one cluster in words."""
    name, count = max(one["classes"].items(), key=lambda item: item[1])
    who = (
        f"Cluster {one['number']} ({one['scans']} scans of {one['patients']} patients, "
        f"{100 * count / one['scans']:.0f} % {name})"
    )
    parts = []
    if one["looks_at"]:
        parts.append(
            f"looks at the {one['looks_at']['place']} ({100 * one['looks_at']['share']:.0f} % of "
            "its mass)"
        )
    if one["artefacts"]:
        parts.append(f"goes with: {'; '.join(one['artefacts'])}")
    elif tested:
        parts.append("goes with no artefact that was measured")
    return f"{who} {' and '.join(parts) or 'look alike'}."


def _sentence(clusters: Clusters, title: str) -> str:
    """Return in words how many clusters there are."""
    basis = f"{clusters.scans} scans of {clusters.patients} patients"
    if clusters.number == 0:
        return (
            f"Maps of {title}: {basis} are too few to look for clusters; "
            f"{LEAST_SCANS} scans and {LEAST_PATIENTS} patients are needed."
        )
    if clusters.number == 1:
        return f"Maps of {title} show no groups: one cluster ({basis})."
    return f"Maps of {title} fall into {clusters.number} clusters ({basis})."
