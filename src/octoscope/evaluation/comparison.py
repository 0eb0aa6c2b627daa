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
    a: pd.DataFrame,
    b: pd.DataFrame,
    metric: str = "balanced_accuracy",
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare two models on the same scans: metric of `a` minus metric of `b`.

    Both models meet the same resampled patients, so what makes a patient hard for both cancels.

    Args:
        a: Predictions of one model.
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
    (value_a, drawn_a), (value_b, drawn_b) = _together([a, b], metric, resamples, seed)
    difference, drawn = value_a - value_b, drawn_a - drawn_b
    patients, owners = _owners(a)
    if metric in MACRO:
        patients = min(patients, *(n for n in owners if n))
    number = interval(difference, drawn, patients)
    drawn = drawn[np.isfinite(drawn)]
    crossing = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p_value = min(1.0, 2 * (1 + crossing) / (1 + len(drawn)))
    number["p_value"] = p_value if np.isfinite(number["low"]) else np.nan
    name_a, name_b = (_name(frame) for frame in (a, b))
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
    overall = {}
    for metric in OVERALL:
        both = _together(runs, metric, resamples, seed)
        values = np.array([value for value, _ in both])
        drawn = np.mean([drawn for _, drawn in both], axis=0)
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
    runs: Sequence[pd.DataFrame], metric: str, resamples: int, seed: int
) -> list[tuple[float, np.ndarray]]:
    """Return value and resamples ``(R,)`` of `metric` for each run, under the same weights."""
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
        value = measure(*scored, Weights.once(len(frame))).overall[metric][0]
        out.append((float(value), measure(*scored, weights).overall[metric]))
    return out


def _name(predictions: pd.DataFrame) -> str:
    """Return 'model (seed s)'."""
    return f"{predictions['model'].iloc[0]} (seed {predictions['seed'].iloc[0]})"


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
