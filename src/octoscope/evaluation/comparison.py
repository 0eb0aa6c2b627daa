"""Comparing models on the same scans, and averaging one model over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from octoscope.errors import OctoscopeError
from octoscope.evaluation.bootstrap import Weights, resample_patients
from octoscope.evaluation.intervals import interval, overall_interval
from octoscope.evaluation.metrics import MACRO, OVERALL, measure
from octoscope.evaluation.predictions import (
    LOGIT,
    PROBABILITY,
    check_predictions,
    classes_of,
    matrix,
)


def paired_difference(
    a: pd.DataFrame | Sequence[pd.DataFrame],
    b: pd.DataFrame | Sequence[pd.DataFrame],
    metric: str = "balanced_accuracy",
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare two models on the same scans: metric of `a` minus metric of `b`.

    Both models meet the same resampled patients, so what makes a patient hard for both cancels.

    Args:
        a: Predictions of one model, or one frame per seed, whose metrics are averaged.
        b: Predictions of the other, for the same scans in any order.
        metric: One of `OVERALL`.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        ``{metric, value, low, high, p_value, a, b, sentence}``; the p-value is twice the share
        of resamples on the other side of zero, at least 2 / (R + 1).

    Raises:
        OctoscopeError: If the scans, labels or classes differ, or the metric is unknown.
    """
    if metric not in OVERALL:
        raise OctoscopeError(f"unknown metric {metric}; use one of {', '.join(OVERALL)}")
    sides = [[side] if isinstance(side, pd.DataFrame) else list(side) for side in (a, b)]
    measured = _together([*sides[0], *sides[1]], resamples, seed)
    halves = measured[: len(sides[0])], measured[len(sides[0]) :]
    values = [float(np.mean([value[metric][0] for value, _ in half])) for half in halves]
    resampled = [np.mean([drawn[metric] for _, drawn in half], axis=0) for half in halves]
    drawn = resampled[0] - resampled[1]
    patients, owners = _owners(sides[0][0])
    if metric in MACRO:
        patients = min(patients, *(n for n in owners if n))
    number = interval(values[0] - values[1], drawn, patients)
    drawn = drawn[np.isfinite(drawn)]
    crossing = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p_value = min(1.0, 2 * (1 + crossing) / (1 + len(drawn)))
    number["p_value"] = p_value if np.isfinite(number["low"]) else np.nan
    name_a, name_b = (_names(side) for side in sides)
    return {
        "metric": metric,
        "a": name_a,
        "b": name_b,
        **number,
        "sentence": _difference_sentence(metric, name_a, name_b, number),
    }


def across_seeds(
    runs: Sequence[pd.DataFrame], *, resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Average the overall metrics of one model over its seeds.

    The interval is that of the mean over these seeds when other patients are drawn; how much
    the seeds themselves differ is given beside it.

    Args:
        runs: Predictions of one model, one frame per seed, all for the same scans.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        ``{model, seeds, overall: {metric: {value, low, high, seed_sd}}}``; `seed_sd` is the
        standard deviation over the seeds, NaN for one.

    Raises:
        OctoscopeError: If there is no run or the scans, labels or classes differ.
    """
    if not runs:
        raise OctoscopeError("there is no run to average; evaluate one first")
    patients, owners = _owners(runs[0])
    measured = _together(runs, resamples, seed)
    overall = {}
    for metric in OVERALL:
        values = np.array([value[metric][0] for value, _ in measured])
        drawn = np.mean([drawn[metric] for _, drawn in measured], axis=0)
        number = overall_interval(metric, float(values.mean()), drawn, owners, patients)
        spread = float(values.std(ddof=1)) if len(values) > 1 else np.nan
        overall[metric] = {**number, "seed_sd": spread}
    return {
        "model": str(runs[0]["model"].iloc[0]),
        "seeds": [int(run["seed"].iloc[0]) for run in runs],
        "overall": overall,
    }


def _owners(predictions: pd.DataFrame) -> tuple[int, list[int]]:
    """Return the number of patients with labelled scans, and that of each class."""
    labelled = predictions[predictions["target"] >= 0]
    targets = labelled["target"].to_numpy()
    classes = range(len(classes_of(predictions)))
    owners = [labelled["patient"][targets == k].nunique() for k in classes]
    return labelled["patient"].nunique(), owners


def _together(
    runs: Sequence[pd.DataFrame], resamples: int, seed: int
) -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Return the overall metrics of each run: values ``(1,)``, and resamples ``(R,)``.

    All runs meet the same weights.
    """
    classes = classes_of(runs[0])
    first = runs[0][runs[0]["target"] >= 0].sort_values("scan", ignore_index=True)
    if first.empty:
        raise OctoscopeError(f"{_name(runs[0])}: no scan is labelled; nothing to compare")
    weights = resample_patients(first["patient"], resamples, seed)
    out = []
    for run in runs:
        check_predictions(run, classes, _name(run))
        frame = run[run["target"] >= 0].sort_values("scan", ignore_index=True)
        same = ["scan", "target", "patient"]
        if classes_of(run) != classes or not frame[same].equals(first[same]):
            raise OctoscopeError(
                f"{_name(run)} and {_name(runs[0])} were not evaluated on the same scans, labels "
                "and classes; compare predictions of one split of one table"
            )
        scored = (
            frame["target"].to_numpy(dtype=np.intp),
            matrix(frame, classes, LOGIT).argmax(axis=1),
            matrix(frame, classes, PROBABILITY),
        )
        value = measure(*scored, Weights.once(len(frame)))
        out.append((value.overall, measure(*scored, weights).overall))
    return out


def _name(predictions: pd.DataFrame) -> str:
    """Return 'model (seed s)'."""
    return f"{predictions['model'].iloc[0]} (seed {predictions['seed'].iloc[0]})"


def _names(runs: Sequence[pd.DataFrame]) -> str:
    """Return 'model (seed s)' or 'model (mean of n seeds)'."""
    if len(runs) == 1:
        return _name(runs[0])
    return f"{runs[0]['model'].iloc[0]} (mean of {len(runs)} seeds)"


def _difference_sentence(metric: str, a: str, b: str, number: dict[str, Any]) -> str:
    """Return the comparison in words."""
    what = metric.replace("_", " ")
    gap = f"{a} minus {b}: {100 * number['value']:+.1f} points of {what}"
    if not np.isfinite(number["low"]):
        return f"{gap}, without an interval (too few patients)."
    verdict = "the data cannot tell them apart"
    if number["low"] > 0 or number["high"] < 0:
        verdict = f"{a if number['low'] > 0 else b} is better"
    return f"{gap} [{100 * number['low']:+.1f}, {100 * number['high']:+.1f}]; {verdict}."
