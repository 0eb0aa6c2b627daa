"""The score table: one row per scan, model, method and metric; and its summary with intervals.

Columns: ``scan, patient, model, seed, method, metric, value, higher_is_better``; localisation
adds ``lesion`` and ``label``. A value that is undefined for a scan is NaN; summaries leave it
out and count it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from octoscope.errors import OctoscopeError
from octoscope.evaluation.bootstrap import Weights, resample_patients
from octoscope.evaluation.intervals import interval
from octoscope.files import atomic_path, read_parquet, write_parquet

COLUMNS = (
    "scan", "patient", "model", "seed", "method", "metric", "value", "higher_is_better",
)  # fmt: skip
KEYS = ("model", "method", "lesion", "metric")
ANY_LESION = "any"

GROUPS = 64
"""Groups of rows that are resampled at once, so that memory stays bounded."""

LEAST_PATIENTS = 5
"""With fewer, no verdict is given: a bootstrap of so few clusters is far too sure of itself."""

TOLERANCE = 15.0
"""Pixels around a lesion in which the pointing game still counts a hit (Zhang et al.): about
half a cell of a 7×7 map at 224 pixels. It stands here for those who read scores without torch."""


def check_scores(scores: pd.DataFrame, source: str = "the scores") -> None:
    """Check a score table.

    Raises:
        OctoscopeError: If a column is missing or a row stands twice. The message names `source`.
    """
    missing = [column for column in COLUMNS if column not in scores.columns]
    if missing:
        raise OctoscopeError(f"{source}: lacks the column {missing[0]}; score the maps again")
    names = ["scan", "model", "seed", "method", "metric"]
    names += ["lesion"] if "lesion" in scores.columns else []
    twice = scores.duplicated(names)
    if twice.any():
        first = ", ".join(str(scores[name][twice].iloc[0]) for name in names)
        raise OctoscopeError(f"{source}: {first} stands twice; score each map once")


def save_scores(scores: pd.DataFrame, path: Path) -> None:
    """Write a score table as Parquet, atomically, after checking it."""
    check_scores(scores, str(path))
    with atomic_path(path) as temporary:
        write_parquet(scores, temporary)


def read_scores(path: Path) -> pd.DataFrame:
    """Read and check a score table.

    Raises:
        OctoscopeError: If it is missing or not a score table.
    """
    if not path.is_file():
        raise OctoscopeError(f"{path}: no such file; score the maps first")
    try:
        scores = read_parquet(path)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise OctoscopeError(f"{path}: not a Parquet file ({reason}); score again") from None
    check_scores(scores, str(path))
    return scores


def summarise(
    scores: pd.DataFrame,
    by: Sequence[str] = KEYS,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Average every metric over scans (and seeds), with a patient-clustered interval.

    Scans and seeds of one patient are resampled together, so that pooling seeds cannot narrow
    an interval beyond what the patients allow. All groups meet the same resamples.

    Args:
        scores: A score table.
        by: Columns whose values make a group; add ``seed`` or ``label`` to split further.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        One row per group: the columns of `by`, ``value, low, high, scans, patients, undefined``
        (rows without a value) and ``higher_is_better``, in order of first appearance.
    """
    check_scores(scores)
    by = [column for column in by if column in scores.columns]
    weights = resample_patients(scores["patient"], resamples, seed)
    number = scores.groupby(by, sort=False, dropna=False).ngroup().to_numpy()
    first = np.unique(number, return_index=True)[1]  # numbered in the order of first appearance
    means = grouped_means(scores[["value"]].to_numpy(np.float64), number, len(first), weights)
    scan = pd.factorize(scores["scan"])[0]
    there = scores["value"].notna().to_numpy()
    patients = _different(number[there], weights.unit[there], len(first))
    rows: list[dict[str, Any]] = []
    for group, (one, drawn) in enumerate(means):
        rows.append(interval(one[0], drawn[:, 0], patients[group]))
    keys = scores[[*by, "higher_is_better"]].iloc[first].reset_index(drop=True)
    found = pd.concat([keys[by], pd.DataFrame(rows)], axis=1)
    return found.assign(
        scans=_different(number[there], scan[there], len(first)),
        patients=patients,
        undefined=np.bincount(number[~there], minlength=len(first)),
        higher_is_better=keys["higher_is_better"].astype(object),
    )


def _different(group: np.ndarray, of: np.ndarray, groups: int) -> np.ndarray:
    """Return how many different numbers `of` ``(n,)`` each group holds, ``(G,)``."""
    pairs = np.unique(np.stack([group, of]), axis=1)
    return np.bincount(pairs[0], minlength=groups)


@dataclass(frozen=True)
class Chance:
    """What a share of mass is measured against.

    Attributes:
        mass: Metric that holds the mass.
        expected: Metric that holds the mass of a map that knows nothing.
        fills: How `expected` is said in a sentence; ``{}`` is its percentage.
        name: What the lift is a multiple of.
    """

    mass: str
    expected: str
    fills: str
    name: str


CHANCES = {
    "frame": Chance(
        "relevance_mass", "lesion_area", "which fill {} % of the frame", "chance"
    ),
    "retina": Chance(
        "relevance_mass_retina", "lesion_area_retina", "which fill {} % of the retina",
        "chance within the retina",
    ),
    "other scans": Chance(
        "relevance_mass", "mass_of_other_scans",
        "where maps of other patients of the class put {} %", "what those put there",
    ),
}  # fmt: skip
"""Ever stronger chances: a constant map; one constant over the retina; another patient's map."""


def lift_summary(
    scores: pd.DataFrame,
    by: Sequence[str] = ("model", "method", "lesion"),
    *,
    chance: str = "frame",
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Say how much more of their mass the maps put on lesions than chance would.

    The lift is a ratio of means, mean mass / mean expected mass over the same scans. (The mean
    of the ratios of single scans is at the mercy of the smallest lesion.)

    Args:
        scores: A score table of localisation.
        by: Columns whose values make a group.
        chance: One of `CHANCES`.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        One row per group: the columns of `by`, ``mass, mass_low, mass_high, expected, lift,
        lift_low, lift_high, scans, patients, no_lesion, empty_maps, verdict, sentence``; the
        two counts are rows left out. Empty if the scores do not hold this chance.
    """
    check_scores(scores)
    against = CHANCES[chance]
    by = [column for column in by if column in scores.columns]
    kept = scores[scores["metric"].isin([against.mass, against.expected])]
    if set(kept["metric"]) != {against.mass, against.expected}:
        return pd.DataFrame()
    identity = [*dict.fromkeys(["scan", "patient", "seed", *by])]
    wide = kept.pivot(index=identity, columns="metric", values="value").reset_index()
    wide = wide.rename(columns={against.mass: "mass", against.expected: "expected"})
    weights = resample_patients(wide["patient"], resamples, seed)
    groups, number = groups_of(wide, by)
    there = (wide["mass"].notna() & (wide["expected"] > 0)).to_numpy()
    columns = wide[["mass", "expected"]].to_numpy(np.float64)
    found = list(grouped_means(columns, np.where(there, number, -1), len(groups), weights))
    rows: list[dict[str, Any]] = []
    for key in scores[by].drop_duplicates().itertuples(index=False, name=None):
        if key not in groups:
            continue
        place = groups[key]
        member = number == place
        group, defined = wide[member], wide[member & there]
        patients = defined["patient"].nunique()
        (mass, expected), drawn = found[place]
        share = interval(mass, drawn[:, 0], patients)
        lift = interval(mass / expected, drawn[:, 0] / drawn[:, 1], patients)
        row: dict[str, Any] = {
            **dict(zip(by, key, strict=True)),
            **{"mass": mass, "mass_low": share["low"], "mass_high": share["high"]},
            "expected": expected,
            **{"lift": lift["value"], "lift_low": lift["low"], "lift_high": lift["high"]},
            "scans": defined["scan"].nunique(),
            "patients": patients,
            "no_lesion": int((group["expected"] == 0).sum()),
            "empty_maps": int((group["mass"].isna() & (group["expected"] > 0)).sum()),
            "verdict": verdict(lift["low"], lift["high"], patients),
        }
        rows.append({**row, "sentence": lift_sentence(row, chance)})
    return pd.DataFrame(rows)


def verdict(low: float, high: float, patients: int, chance: float = 1.0) -> str:
    """Return how an interval stands to chance, in words.

    Returns:
        'above chance', 'below chance', 'not told from chance'; 'no interval'; or 'too few
        patients' where a bootstrap of so few clusters cannot carry a verdict.
    """
    if not np.isfinite([low, high]).all():
        return "no interval"
    if patients < LEAST_PATIENTS:
        return "too few patients"
    if low > chance:
        return "above chance"
    return "below chance" if high < chance else "not told from chance"


def lift_sentence(row: dict[str, Any], chance: str = "frame") -> str:
    """Return one row of `lift_summary` in words.

    For example: "gradcam of resnet18 puts 31 % [27, 35] of its mass on lesions, which fill
    6.0 % of the frame: 5.2× [4.6, 5.9] chance."
    """
    against = CHANCES[chance]
    who = " of ".join(str(row[part]) for part in ("method", "model") if part in row) or "The map"
    lesion = row.get("lesion", ANY_LESION)
    what = "lesions" if lesion == ANY_LESION else f"lesions of type {lesion}"
    if not np.isfinite(row["mass"]):
        return f"{who}: no scan has both a map and {what}, so nothing can be said."
    fills = against.fills.format(f"{100 * row['expected']:.1f}")
    mass, low, high = shares(row["mass"], row["mass_low"], row["mass_high"])
    lift, lift_low, lift_high = ratios(row["lift"], row["lift_low"], row["lift_high"])
    if not np.isfinite(row["lift_low"]):
        return (
            f"{who} puts {mass} % of its mass on {what}, {fills}: {lift}× {against.name} "
            "(of one patient, so without an interval)."
        )
    few = row["verdict"] == "too few patients"
    said = f"of {row['patients']} patients: too few to tell" if few else row["verdict"]
    ending = "" if said == "above chance" else f" ({said})"
    return (
        f"{who} puts {mass} % [{low}, {high}] of its mass on {what}, {fills}: "
        f"{lift}× [{lift_low}, {lift_high}] {against.name}{ending}."
    )


def shares(value: float, *bounds: float) -> list[str]:
    """Return a share and its bounds in per cent, with a decimal where the share is small."""
    digits = 1 if abs(value) < 0.1 else 0
    return [f"{100 * number:.{digits}f}" for number in (value, *bounds)]


def ratios(value: float, *bounds: float) -> list[str]:
    """Return a ratio and its bounds, with a second decimal where it is near one."""
    digits = 2 if abs(value) < 2 else 1
    return [f"{number:.{digits}f}" for number in (value, *bounds)]


def groups_of(table: pd.DataFrame, by: Sequence[str]) -> tuple[dict[Any, int], np.ndarray]:
    """Return key → number of the groups of a table, and that of each row ``(N,)``; -1 for none."""
    number = table.groupby(list(by), sort=False).ngroup().to_numpy()
    there, first = np.unique(number, return_index=True)
    keys = table[list(by)].iloc[first[there >= 0]].itertuples(index=False, name=None)
    return {key: place for place, key in enumerate(keys)}, number


def grouped_means(
    columns: np.ndarray, number: np.ndarray, groups: int, weights: Weights
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield of each group what `resampled_mean` returns of its rows, all resampled at once.

    Args:
        columns: ``(N, C)``; a row with a NaN is left out.
        number: ``(N,)`` group of each row, from 0; -1 for none.
        groups: How many groups there are.
        weights: Of the N rows.
    """
    kept = ~np.isnan(columns).any(axis=1) & (number >= 0)
    values = np.hstack([columns[kept], np.ones((int(kept.sum()), 1))])  # the last counts
    number, unit = number[kept], weights.unit[kept]
    patients, width = len(weights.counts), values.shape[1]
    for start in range(0, groups, GROUPS):
        size = min(GROUPS, groups - start)
        some = (number >= start) & (number < start + size)
        place = unit[some] * size + number[some] - start
        by_patient = np.stack(
            [np.bincount(place, column, patients * size) for column in values[some].T], axis=-1
        )  # (P · G, C + 1)
        sums = weights.sums_of_patients(by_patient.reshape(patients, size * width))
        sums = sums.reshape(-1, size, width)
        total = by_patient.reshape(patients, size, width).sum(axis=0)
        with np.errstate(invalid="ignore"):
            one, drawn = (s[..., :-1] / s[..., -1:] for s in (total, sums))
        yield from ((one[group], drawn[:, group]) for group in range(size))


def resampled_mean(columns: np.ndarray, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """Return the means ``(C,)`` of columns, and their resamples ``(R, C)``; NaN of no rows.

    The resamples may be drawn from more patients than the rows are of, the same for every group;
    one that holds no patient of a group is undefined there.

    Args:
        columns: ``(n, C)``.
        weights: Of these n rows.
    """
    values = np.asarray(columns, dtype=np.float64)
    if len(values) == 0:
        nothing = np.full((1, values.shape[1]), np.nan)
        return nothing[0], nothing
    sums = weights.sums(np.hstack([values, np.ones((len(values), 1))]))
    with np.errstate(invalid="ignore"):
        return values.mean(axis=0), sums[:, :-1] / sums[:, -1:]
