"""Which methods fail the sanity checks, and the sentence why. Knows no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from octoscope.evaluation.bootstrap import resample_patients
from octoscope.evaluation.intervals import interval
from octoscope.trust.scores import LEAST_PATIENTS

RANDOMISATION_LIMIT = 0.5
"""Rank correlation with the map of a model without any learned weight from which a method fails. A
map of the image alone has 1, and one of the model alone about 0: beyond the middle between them a
map says more of the image than of what was learned."""
RANDOM_LOGIT_LIMIT = 0.9
"""Rank correlation with the map of another class from which a class-specific method fails. Classes
share the regions where there is anything to see, so maps of two classes may be alike; at 0.9 four
fifths of the variance of the ranks are shared, and the map does not say why this class."""

LIMITS = {"randomisation_spearman": RANDOMISATION_LIMIT, "random_logit": RANDOM_LOGIT_LIMIT}
"""Metric → the limit beyond which its whole interval must lie for a method to fail."""
SENTENCES = {
    "randomisation_spearman": (
        "with all weights randomised its maps stay alike (rank correlation {}), so they show the "
        "image rather than what the model learned"
    ),
    "random_logit": (
        "its maps of another class are the same (rank correlation {}), so they do not show what "
        "speaks for this class"
    ),
}


@dataclass(frozen=True)
class Gate:
    """Whether a method is set aside.

    Attributes:
        reason: Why it is, None if it is not.
        note: Why nothing can be said, '' if it can.
        checks: Metric → ``{value, low, high, patients}``.
    """

    reason: str | None
    note: str = ""
    checks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def gate(scores: pd.DataFrame, *, resamples: int = 2000, seed: int = 0) -> dict[str, Gate]:
    """Tell which methods fail.

    A method fails a check if the whole interval over resampled patients lies beyond the limit.
    With fewer than five patients, or where no scan has both maps, there is no verdict.

    Args:
        scores: Rows ``method, metric, patient, value``; other metrics than `LIMITS` are ignored.
        resamples: Bootstrap resamples of the patients.
        seed: Of the bootstrap.

    Returns:
        Every method of `scores` → its gate, in order of first appearance.
    """
    out: dict[str, Gate] = {}
    for method, group in scores.groupby("method", sort=False):
        checks = {
            metric: _mean(rows["value"].to_numpy(np.float64), rows["patient"], resamples, seed)
            for metric in LIMITS
            if len(rows := group[group["metric"] == metric])
        }
        out[str(method)] = _gate(checks)
    return out


def gate_values(
    values: Mapping[str, Mapping[str, Any]], patients: Sequence[str], **bootstrap: int
) -> dict[str, Gate]:
    """Return `gate` of values metric → method → ``(B,)``, such as `Sanity.values`."""
    rows = [
        pd.DataFrame(
            {
                "method": method,
                "metric": metric,
                "patient": np.asarray(patients),
                "value": np.asarray(found, dtype=np.float64),
            }
        )
        for metric, by_method in values.items()
        for method, found in by_method.items()
    ]
    return gate(pd.concat(rows), **bootstrap) if rows else {}


def _gate(checks: dict[str, dict[str, Any]]) -> Gate:
    reasons = [
        SENTENCES[metric].format(_said(check))
        for metric, check in checks.items()
        if check["patients"] >= LEAST_PATIENTS and check["low"] >= LIMITS[metric]
    ]
    if reasons:
        sentence = "; ".join(reasons)
        return Gate(sentence[0].upper() + sentence[1:], "", checks)
    return Gate(None, _silence(checks), checks)


def _silence(checks: Mapping[str, Mapping[str, Any]]) -> str:
    """Say why there is no verdict from the randomised weights, '' if there is one."""
    check = checks.get("randomisation_spearman")
    if check is None:
        return "its weights were not randomised"
    if check["patients"] == 0:
        return "no scan has a map that says something with and without the learned weights"
    if check["patients"] < LEAST_PATIENTS:
        return f"{check['patients']} patients are too few to tell; use {LEAST_PATIENTS} or more"
    return ""


def _mean(values: np.ndarray, patients: pd.Series, resamples: int, seed: int) -> dict[str, Any]:
    """Return the mean over the scans where it is defined, with its interval over patients."""
    there = np.isfinite(values)
    names = patients.to_numpy()[there]
    if not there.any():
        return {"value": np.nan, "low": np.nan, "high": np.nan, "patients": 0}
    weights = resample_patients(names, resamples, seed)
    sums = weights.sums(np.stack([values[there], np.ones(len(names))], axis=1))  # (R, 2)
    known = len(weights.counts)
    number = interval(float(values[there].mean()), sums[:, 0] / sums[:, 1], known)
    return {**number, "patients": known}


def _said(check: Mapping[str, Any]) -> str:
    return f"{check['value']:.2f} [{check['low']:.2f}, {check['high']:.2f}]"
