"""From a value and its bootstrap resamples to an interval that may be shown.

An interval is the percentile interval of the patient-clustered bootstrap (`bootstrap`), except:

- Where every resample gives the same, the bootstrap sees no spread and its interval would have no
  width. A rate of 0 or 1 then gets the exact binomial interval (Clopper and Pearson, 1934) with
  patients, not scans, as the trials; key ``"how": "exact"``. For F1, AUROC and average
  precision there is no such formula, and no interval; ``"how": "no spread"``.
- Noise alone raises the calibration error, and resampling adds noise, so its percentile interval
  lies too high. It is reflected at the value (the "basic" bootstrap: Davison and Hinkley,
  "Bootstrap Methods", 1997, section 5.2) and widened to hold the value; ``"how": "reflected"``.
  In simulation (100 to 968 scans) it covers a true error of 0.05 to 0.17 in 87 to 94 % of data
  sets, the percentile interval in as few as 29 %; of a model without any error its lower end is
  above zero in almost half of them, so a small calibration error is not evidence of one.
- With fewer than two patients there is no interval; neither has a class whose scans are all of
  one patient, nor a macro average that such a class enters: the bootstrap cannot see how patients
  of that class differ, and what it gave would look far surer than anything is.

An interval is written ``{value, low, high}``, with NaN where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from octoscope.evaluation.bootstrap import Weights, percentile_interval
from octoscope.evaluation.metrics import MACRO

LEVEL = 0.95

Interval = dict[str, Any]


def interval(value: float, resampled: np.ndarray, patients: int) -> Interval:
    """Return the percentile interval of a value from its resamples ``(R,)``.

    With fewer than two patients, or an undefined value, low and high are NaN.
    """
    low = high = np.nan
    if patients > 1 and np.isfinite(value):
        low, high = (float(bound) for bound in percentile_interval(resampled, LEVEL))
    return {"value": float(value), "low": low, "high": high}


def rate_interval(value: float, resampled: np.ndarray, patients: int, *, exact: bool) -> Interval:
    """Return the interval of a number between 0 and 1 that may stand at its bound.

    Args:
        value: The number.
        resampled: Its resamples ``(R,)``.
        patients: How many patients it rests on.
        exact: Whether it is a plain rate, for which the exact interval is meant.
    """
    number = interval(value, resampled, patients)
    return _unflattened(number, [patients] if exact else [])


def overall_interval(
    metric: str, value: float, resampled: np.ndarray, owners: Sequence[int], patients: int
) -> Interval:
    """Return the interval of an overall metric.

    Args:
        metric: Its name.
        value: The metric.
        resampled: Its resamples ``(R,)``.
        owners: Number of patients of each class.
        patients: Number of patients.
    """
    there = [n for n in owners if n]
    if metric in MACRO:
        patients = min(patients, *there)
    trials = {"accuracy": [patients], "balanced_accuracy": there}
    return _unflattened(interval(value, resampled, patients), trials.get(metric, []))


def reflected_interval(value: float, resampled: np.ndarray, patients: int) -> Interval:
    """Return the reflected interval of a quantity in [0, 1] that noise can only raise."""
    out = interval(value, resampled, patients)
    if np.isfinite(out["low"]):
        low, high = 2 * value - out["high"], 2 * value - out["low"]
        out.update(low=float(np.clip(low, 0, value)), high=float(np.clip(high, value, 1)))
        out["how"] = "reflected"
    return out


def patients_with(scans: np.ndarray, weights: Weights) -> int:
    """Return how many patients own the scans ``(N,)`` bool."""
    return len(np.unique(weights.unit[scans]))


def _unflattened(number: Interval, trials: Sequence[int]) -> Interval:
    """Replace the interval of a number that no resample moved.

    For one rate at 0 or 1 this gives the interval of Clopper and Pearson. That all of several
    rates lie at their bounds at once is less likely than that one does, so for a mean of rates
    the mean of the bounds is a cautious bound.

    Args:
        number: The number.
        trials: Patients behind each of the rates it is the mean of; empty if it is none.
    """
    value = number["value"]
    if not number["low"] == number["high"] == value:
        return number
    if not trials or value not in (0, 1):
        return {**number, "low": np.nan, "high": np.nan, "how": "no spread"}
    tail = (1 - LEVEL) / 2
    bound = float(np.mean([tail ** (1 / n) for n in trials]))  # n successes in n trials
    low, high = (bound, 1.0) if value == 1 else (0.0, 1 - bound)
    return {**number, "low": low, "high": high, "how": "exact"}
