"""Methods × metrics, each with its interval, each held against maps that know no model.

A method is compared with the strongest of the null maps (noise, centre, edges, brightness) on the
very same scans: the paired difference, in the metric's better direction, with an interval over
resampled patients. A number on its own says little; an edge detector's deletion curve also falls.

The strongest null is the one with the best mean on these very scans, and the resamples do not
choose it anew. The best of four looks a little better than it is, which counts against the method:
"beats" is said rather too seldom, "worse than" rather too often.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from octoscope.evaluation.bootstrap import Weights, resample_patients
from octoscope.evaluation.intervals import interval, patients_with
from octoscope.trust.metric import Metric
from octoscope.trust.scores import ANY_LESION, LEAST_PATIENTS, check_scores, resampled_mean

BEATS, WORSE, NOT_TOLD, FEW = "beats the nulls", "worse than", "not told from", "too few patients"
"""Verdicts of a method on one metric; the null's name follows the middle two."""


def scoreboard(
    scores: pd.DataFrame,
    metrics: Mapping[str, Metric],
    nulls: Collection[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Average every metric of every method, and hold it against the strongest null.

    Args:
        scores: A score table of one model (see `scores`); seeds are pooled by patient.
        metrics: The metrics to show; rows of others are left out.
        nulls: Names of the methods that know no model.
        resamples: Bootstrap resamples of the patients.
        seed: Seed of the bootstrap.

    Returns:
        One row per metric, lesion type and method: ``metric, lesion, method, value, low, high,
        scans, patients, undefined, null, null_value, difference, difference_low,
        difference_high, verdict``. The null is the one with the best mean; the difference is
        positive where the method is better, over the scans where both are defined.

    Raises:
        OctoscopeError: If `scores` is no score table.
    """
    check_scores(scores)
    table = scores[scores["metric"].isin(list(metrics))]
    if table.empty:
        return pd.DataFrame()
    if "lesion" not in table:
        table = table.assign(lesion=None)
    table = table.assign(lesion=table["lesion"].fillna(ANY_LESION))
    rows: list[dict[str, Any]] = []
    for (name, lesion), group in table.groupby(["metric", "lesion"], sort=False):
        wide = group.pivot(index=["scan", "patient", "seed"], columns="method", values="value")
        patients = wide.index.get_level_values("patient").astype(str)
        weights = resample_patients(patients, resamples, seed)
        about = metrics[str(name)]
        null = _strongest(wide, nulls, about)
        for method in dict.fromkeys(group["method"]):
            values = wide[method].to_numpy(np.float64)
            row = {"metric": name, "lesion": lesion, "method": method}
            row |= _mean(values, weights)
            row |= {
                "scans": int(np.isfinite(values).sum()),
                "patients": patients_with(np.isfinite(values), weights),
                "undefined": int((~np.isfinite(values)).sum()),
            }
            rows.append(row | _against(method, values, null, wide, weights, about, nulls))
    return pd.DataFrame(rows)


def ranking(
    board: pd.DataFrame,
    metrics: Mapping[str, Metric],
    nulls: Collection[str],
    gated: Mapping[str, str | None],
) -> pd.DataFrame:
    """Order the methods: by how many headline metrics they beat the nulls on, then by mean rank.

    Only metrics that a null can be good at count: that a map is stable, or changes with the
    weights, is asked of it (a method that fails is gated), but earns no place.

    Args:
        board: What `scoreboard` returned.
        metrics: The metrics.
        nulls: Names of the methods that know no model.
        gated: Method → why it failed the sanity checks, None if it did not.

    Returns:
        One row per method, best first; gated ones after all others, then nulls: ``method, beats,
        of, mean_rank, gated, null``.
    """
    names = [name for name, about in metrics.items() if about.headline and about.nulls]
    if board.empty:
        return pd.DataFrame(columns=["method", "beats", "of", "mean_rank", "gated", "null"])
    chosen = board[board["metric"].isin(names) & (board["lesion"] == ANY_LESION)].copy()
    direction = chosen["metric"].map(lambda name: 1.0 if metrics[name].higher_is_better else -1.0)
    # A metric that says nothing of a method puts it last there.
    better = (chosen["value"] * direction).fillna(-np.inf)
    chosen["rank"] = better.groupby(chosen["metric"]).rank(ascending=False)
    rows = []
    for method in dict.fromkeys(board["method"]):
        own = chosen[chosen["method"] == method]
        rows.append(
            {
                "method": method,
                "beats": int((own["verdict"] == BEATS).sum()),
                "of": len(own),
                "mean_rank": float(own["rank"].mean()) if len(own) else np.nan,
                "gated": gated.get(method) is not None,
                "null": method in nulls,
            }
        )
    order = pd.DataFrame(rows).sort_values(
        ["null", "gated", "beats", "mean_rank"], ascending=[True, True, False, True], kind="stable"
    )
    return order.reset_index(drop=True)


def _strongest(wide: pd.DataFrame, nulls: Collection[str], about: Metric) -> str | None:
    """Return the null with the best mean, None where nulls do not count or there is none."""
    there = [name for name in nulls if name in wide and wide[name].notna().any()]
    if not there or not about.nulls or about.higher_is_better is None:
        return None
    means = wide[there].mean()
    return str(means.idxmax() if about.higher_is_better else means.idxmin())


def _against(
    method: str,
    values: np.ndarray,
    null: str | None,
    wide: pd.DataFrame,
    weights: Weights,
    about: Metric,
    nulls: Collection[str],
) -> dict[str, Any]:
    """Return how a method stands to the strongest null, on the scans where both are defined."""
    out: dict[str, Any] = dict.fromkeys(("null_value", "difference"), np.nan)
    out |= {"difference_low": np.nan, "difference_high": np.nan, "null": null, "verdict": ""}
    if null is None:
        return out
    floor = wide[null].to_numpy(np.float64)
    out["null_value"] = float(np.nanmean(floor))
    if method in nulls:
        return out
    gain = (values - floor) * (1 if about.higher_is_better else -1)
    found = _mean(gain, weights)
    out |= {
        "difference": found["value"],
        "difference_low": found["low"],
        "difference_high": found["high"],
        "verdict": _verdict(found, patients_with(np.isfinite(gain), weights), null),
    }
    return out


def _verdict(gain: Mapping[str, float], patients: int, null: str) -> str:
    """Return in words what a difference with its interval says."""
    if patients < LEAST_PATIENTS or not np.isfinite([gain["low"], gain["high"]]).all():
        return FEW
    if gain["low"] > 0:
        return BEATS
    return f"{WORSE if gain['high'] < 0 else NOT_TOLD} {null}"


def _mean(values: np.ndarray, weights: Weights) -> dict[str, float]:
    """Return the mean of the defined values ``(N,)`` with its interval."""
    there = np.isfinite(values)
    if not there.any():
        return {"value": np.nan, "low": np.nan, "high": np.nan}
    one, drawn = resampled_mean(values[there][:, None], weights.rows(np.flatnonzero(there)))
    return interval(one[0], drawn[:, 0], patients_with(there, weights))
