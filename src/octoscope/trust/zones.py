"""Where in the anatomy a map lies: the share of its positive part in each zone of the scan.

The zones are those of `octoscope.scans.geometry.zones`. As everywhere the positive part is the
evidence for the class; a map without one, and a scan whose retina was not found, are NaN, and
counted. What a constant map would put into a zone is the zone's area.

A high share outside the retina is first of all a word about the model: a method that is true to a
model that reads the corner of the picture puts its mass there. So null maps are no floor here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from octoscope.errors import OctoscopeError
from octoscope.evaluation.bootstrap import resample_patients
from octoscope.evaluation.intervals import interval
from octoscope.scans.geometry.zones import RETINA, TITLES, UNKNOWN, ZONES
from octoscope.trust.lesions import Readable
from octoscope.trust.localisation import Array, in_blocks, says_something
from octoscope.trust.metric import Metric
from octoscope.trust.scores import (
    check_scores,
    grouped_means,
    groups_of,
    shares,
    summarise,
    verdict,
)

OUTSIDE, AREA = "outside_retina", "outside_retina_area"
ALL = "all"  # classes together
BEYOND = [number for number, name in enumerate(ZONES) if name not in RETINA]


def _row(name: str, title: str, sentence: str, **more: Any) -> Metric:
    """Return a share of mass as a row of the registry."""
    row: dict[str, Any] = {"higher_is_better": None, "range": "0…1", "nulls": False, **more}
    return Metric(name=name, title=title, family="zones", sentence=sentence, **row)


MASS = "Energy-based pointing game (Wang et al., Score-CAM, CVPRW 2020, section 4.3) on a zone"

ROWS: tuple[Metric, ...] = (
    _row(
        OUTSIDE,
        "Mass outside the retina",
        "Share of the evidence that lies outside the retina: in the vitreous, the choroid, the "
        "border, the corners or the padding.",
        source=f"{MASS}; outside is all that does not lie between ILM and RPE band",
        higher_is_better=False,
        headline=True,
    ),
    _row(
        AREA,
        "Area outside the retina",
        "Share of the frame that is not retina: what a constant map puts outside of it.",
        source="Area of the zones",
    ),
    *(
        _row(
            f"zone_{name}",
            f"Mass in the zone: {TITLES[name]}",
            f"Share of the evidence that lies in the zone: {TITLES[name]}.",
            source=MASS,
        )
        for name in ZONES
    ),
)


def zone_shares(maps: Array, zones: Array) -> Tensor:
    """Return the share of a map's positive part that lies in each zone.

    share_z = sum_{i in zone z} max(M_i, 0) / sum_i max(M_i, 0)

    Args:
        maps: ``(..., B, *S)``.
        zones: ``(B, *S)`` positions in `ZONES`, or `UNKNOWN`.

    Returns:
        ``(..., B, Z)`` float64, sums to 1 over the zones; NaN where a map has no positive part or
        is not finite, and where a pixel of the scan is `UNKNOWN`.

    Raises:
        OctoscopeError: If the shapes do not fit.
    """
    maps, zones = torch.as_tensor(maps), torch.as_tensor(zones)
    if zones.ndim < 2 or maps.shape[-zones.ndim :] != zones.shape:
        raise OctoscopeError(
            f"maps of shape {tuple(maps.shape)} do not fit zones of shape {tuple(zones.shape)}; "
            "read the maps at the size of the scans, one zone map per scan"
        )
    axis = maps.ndim - zones.ndim + 1
    maps, zones = maps.flatten(axis).double(), zones.flatten(1).to(maps.device)
    positive = maps.clamp(min=0)
    positive = positive / positive.amax(-1, keepdim=True)  # so that no sum overflows
    mass = torch.stack([positive.where(zones == z, 0).sum(-1) for z in range(len(ZONES))], -1)
    known = says_something(maps) & (zones != UNKNOWN).all(-1)
    return (mass / mass.sum(-1, keepdim=True)).where(known[..., None], torch.nan)


def outside_retina(maps: Array, zones: Array) -> Tensor:
    """Return the share of a map's positive part outside the retina, ``(..., B)``."""
    return zone_shares(maps, zones)[..., BEYOND].sum(-1)


def zone_area(zones: Array) -> Tensor:
    """Return the share of the frame that each zone fills: what a constant map puts there.

    Args:
        zones: ``(B, *S)``.

    Returns:
        ``(B, Z)`` float64; NaN where a pixel is `UNKNOWN`.
    """
    zones = torch.as_tensor(zones)
    return zone_shares(torch.ones(zones.shape, device=zones.device), zones)


def score_zones(
    maps: Mapping[str, Array | Readable],
    zones: Array,
    *,
    scans: Sequence[str],
    patients: Sequence[str],
    labels: Sequence[str],
    model: str,
    seed: int,
) -> pd.DataFrame:
    """Score the maps of several methods by zone; they are read block by block.

    Args:
        maps: Method → ``(B, *S)`` maps, or anything of length B that gives those at positions.
        zones: ``(B, *S)`` positions in `ZONES`.
        scans: Name of each scan, ``(B,)``.
        patients: Patient of each scan, ``(B,)``.
        labels: Class of each scan, ``(B,)``.
        model: Name of the model.
        seed: Seed of the model.

    Returns:
        A score table (see `scores`) with the further column ``label`` and the metrics `ROWS`.
    """
    zones = torch.as_tensor(zones)
    identity = pd.DataFrame({"scan": scans, "patient": patients, "label": labels}, dtype=object)
    if len(identity) != len(zones):
        raise OctoscopeError(
            f"{len(identity)} scans are named, but there are zones of {len(zones)}; name each once"
        )
    blocks = in_blocks(np.arange(len(zones)))
    area = torch.cat([zone_area(zones[block]) for block in blocks])[:, BEYOND].sum(-1)
    parts = []
    for method, drawn in maps.items():
        found = torch.cat([zone_shares(torch.as_tensor(drawn[b]), zones[b]).cpu() for b in blocks])
        columns = {OUTSIDE: found[:, BEYOND].sum(-1), AREA: area}
        columns |= {f"zone_{name}": found[:, number] for number, name in enumerate(ZONES)}
        parts += [
            identity.assign(method=method, metric=name, value=column.numpy(force=True))
            for name, column in columns.items()
        ]
    table = pd.concat(parts, ignore_index=True).assign(model=model, seed=int(seed))
    directions = {row.name: row.higher_is_better for row in ROWS}
    table["higher_is_better"] = table["metric"].map(directions).astype("boolean")
    return table[
        ["scan", "patient", "label", "model", "seed", "method", "metric", "value",
         "higher_is_better"]
    ]  # fmt: skip


def outside_summary(
    scores: pd.DataFrame,
    by: Sequence[str] = ("model", "method"),
    *,
    titles: Mapping[str, str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Say how much of their mass the maps put outside the retina, beside what chance would.

    Args:
        scores: A score table of `score_zones`.
        by: Columns whose values make a group; add ``label`` to split by class.
        titles: Method → its name in sentences.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        One row per group: the columns of `by`, ``value, low, high, chance, scans, patients, scored,
        undefined, verdict, sentence``. Chance is the mean area over the same scans; the verdict
        rests on the paired difference. Empty if the table has no zones.
    """
    check_scores(scores)
    kept = scores[scores["metric"].isin([OUTSIDE, AREA])]
    if kept.empty:
        return pd.DataFrame()
    identity = [*dict.fromkeys(["scan", "patient", "seed", *by])]
    wide = kept.pivot(index=identity, columns="metric", values="value").reset_index()
    weights = resample_patients(wide["patient"], resamples, seed)
    groups, number = groups_of(wide, by)
    known = wide[OUTSIDE].notna().to_numpy()
    found = list(
        grouped_means(
            wide[[OUTSIDE, AREA]].to_numpy(), np.where(known, number, -1), len(groups), weights
        )
    )
    rows: list[dict[str, Any]] = []
    for key in kept[list(by)].drop_duplicates().itertuples(index=False, name=None):
        member = number == groups[key]
        there = member & known
        group = wide[there]
        patients = group["patient"].nunique()
        (mass, chance), drawn = found[groups[key]]
        gap = interval(mass - chance, drawn[:, 0] - drawn[:, 1], patients)
        row: dict[str, Any] = {
            **dict(zip(by, key, strict=True)),
            **interval(mass, drawn[:, 0], patients),
            "chance": float(chance),
            "scans": group["scan"].nunique(),
            "patients": patients,
            "scored": int(there.sum()),
            "undefined": int(member.sum() - there.sum()),
            "verdict": verdict(gap["low"], gap["high"], patients, chance=0),
        }
        rows.append({**row, "sentence": outside_sentence(row, titles)})
    return pd.DataFrame(rows)


def outside_sentence(row: Mapping[str, Any], titles: Mapping[str, str] | None = None) -> str:
    """Return one row of `outside_summary` in words: who puts what share, and what chance would."""
    named = {**row, "method": (titles or {}).get(row.get("method", ""), row.get("method"))}
    who = " of ".join(str(named[part]) for part in ("method", "model") if part in row) or "The map"
    on = f" of {row['label']}" if "label" in row else ""
    if not np.isfinite(row["value"]):
        return f"{who}: no scan{on} has both a map and a retina, so nothing can be said."
    value, low, high, chance = shares(row["value"], row["low"], row["high"], row["chance"])
    mass = f"{value} % [{low}, {high}]" if np.isfinite(row["low"]) else f"{value} %"
    said = {"no interval": "of one patient, so without an interval",
            "too few patients": f"of {row['patients']} patients: too few to tell",
            "below chance": ""}.get(row["verdict"], row["verdict"])  # fmt: skip
    ending = f" ({said})" if said else ""
    where = f" on scans{on}" if on else ""
    left, of = row.get("undefined", 0), row.get("undefined", 0) + row.get("scored", 0)
    left_out = f" {left} of {of} left out: no retina found, or an empty map." if left else ""
    return (
        f"{who} puts {mass} of its mass outside the retina{where}; a constant map would put "
        f"{chance} % there{ending}.{left_out}"
    )


def zones_block(
    scores: pd.DataFrame,
    zones: Array,
    labels: Sequence[str],
    *,
    titles: Mapping[str, str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return what a report shows of the zones, as plain JSON values (NaN where undefined).

    Args:
        scores: The table of `score_zones`, of one model.
        zones: ``(B, *S)`` of the scans it was made of.
        labels: Class of each of these scans, ``(B,)``.
        titles: Method → its name in sentences.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        ``names, titles, no_retina`` (scans without zones), ``area`` (class or "all" → share per
        zone), ``shares`` (method → class or "all" → ``{value, low, high}`` per zone),
        ``outside_retina`` (method → row of `outside_summary`) and ``chance_outside_retina``.
    """
    area, classes = zone_area(zones).numpy(force=True), np.asarray(labels).astype(str)
    settings: dict[str, Any] = {"resamples": resamples, "seed": seed}
    alone = scores[scores["metric"].str.startswith("zone_")]
    split = [
        summarise(alone.assign(label=ALL), ("method", "label", "metric"), **settings),
        summarise(alone, ("method", "label", "metric"), **settings),
    ]
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for row in pd.concat(split).to_dict("records"):  # zones come in the order of ZONES
        one = {key: float(row[key]) for key in ("value", "low", "high")}
        found.setdefault(row["method"], {}).setdefault(row["label"], []).append(one)
    outside = outside_summary(scores, titles=titles, **settings).to_dict("records")
    told = ("value", "low", "high", "chance", "patients", "undefined", "verdict", "sentence")
    return {
        "names": list(ZONES),
        "titles": dict(TITLES),
        "no_retina": int(np.isnan(area[:, 0]).sum()),
        "area": {
            name: _mean(area[(classes == name) | (name == ALL)]).tolist()
            for name in (ALL, *dict.fromkeys(classes.tolist()))
        },
        "shares": found,
        OUTSIDE: {row["method"]: {key: row[key] for key in told} for row in outside},
        "chance_outside_retina": float(_mean(area)[BEYOND].sum()),
    }


def _mean(area: np.ndarray) -> np.ndarray:
    """Return the mean over the scans that have zones ``(B, Z)``; NaN if none has."""
    there = area[~np.isnan(area[:, 0])]
    return there.mean(axis=0) if len(there) else np.full(area.shape[1], np.nan)
