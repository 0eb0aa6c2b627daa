"""`metrics.json`: every number of one model on one split, each with its interval.

How each interval is made is told in `intervals`. The temperature is held fixed over the resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from octoscope.errors import OctoscopeError
from octoscope.evaluation.bootstrap import Weights, percentile_interval, resample_patients
from octoscope.evaluation.calibration import (
    Reliability,
    cross_fitted,
    fit_temperature,
    reliability,
    tempered,
)
from octoscope.evaluation.intervals import (
    LEVEL,
    overall_interval,
    patients_with,
    rate_interval,
    reflected_interval,
)
from octoscope.evaluation.metrics import OVERALL, PER_CLASS, Measured, measure
from octoscope.evaluation.predictions import LOGIT, PROBABILITY, check_predictions, matrix

FEW_PATIENTS = 20
"""Below this many patients a bootstrap interval is known to be too narrow, which is noted."""


def evaluate(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    *,
    temperature: float | None = None,
    fit: bool = True,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Turn the predictions of one model on one split into numbers with intervals.

    Args:
        predictions: The columns of `predictions.parquet`, one model, one split.
        classes: Class names in the order of the logits.
        temperature: Temperature chosen on the *validation* split, to be applied here. If None,
            the one reported is fitted on this split, and the calibration after scaling is
            computed with temperatures cross-fitted over patients.
        fit: Whether a temperature may be fitted on this split; not on test scans.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap and of the cross-fitting.

    Returns:
        The content of `metrics.json`. Every number is ``{value, low, high}``, NaN where
        undefined (null once written); ``notes`` says in sentences what is undefined and why.

    Raises:
        OctoscopeError: If the predictions are not well formed, hold several models or splits,
            or no scan is labelled.
    """
    check_predictions(predictions, classes)
    model, run_seed, split = (_only(predictions, column) for column in ("model", "seed", "split"))
    labelled = predictions[predictions["target"] >= 0]
    if labelled.empty:
        raise OctoscopeError(f"{model}: no scan of split {split} is labelled; nothing to evaluate")
    targets = labelled["target"].to_numpy(dtype=np.intp)
    probabilities = matrix(labelled, classes, PROBABILITY)
    logits = matrix(labelled, classes, LOGIT)
    predicted = logits.argmax(axis=1)
    weights = resample_patients(labelled["patient"], resamples, seed)
    value = measure(targets, predicted, probabilities, Weights.once(len(labelled)))
    resampled = measure(targets, predicted, probabilities, weights)
    patients = len(weights.counts)
    owners = [patients_with(targets == k, weights) for k in range(len(classes))]
    return {
        "split": split,
        "model": model,
        "seed": run_seed,
        "n_scans": len(labelled),
        "n_patients": patients,
        "classes": list(classes),
        "chance": {"balanced_accuracy": 1 / len(np.unique(targets))},
        "overall": {
            name: overall_interval(
                name, value.overall[name][0], resampled.overall[name], owners, patients
            )
            for name in OVERALL
        },
        "per_class": {
            name: _one_class(k, value, resampled, targets == k, predicted == k, weights)
            for k, name in enumerate(classes)
        },
        "confusion": value.confusion[0].astype(int).tolist(),
        "calibration": _calibration(
            logits, probabilities, targets, weights, temperature, fit, seed
        ),
        "bootstrap": {"resamples": resamples, "unit": "patient", "level": LEVEL, "seed": seed},
        "notes": _notes(predictions, classes, owners, patients, resampled),
    }


def _one_class(
    k: int,
    value: Measured,
    resampled: Measured,
    true: np.ndarray,
    said: np.ndarray,
    weights: Weights,
) -> dict[str, Any]:
    """Return the metrics of class k with their intervals, its scans and its patients."""
    owners = patients_with(true, weights)
    trials = {
        "specificity": patients_with(~true, weights),
        "precision": patients_with(said, weights),
    }
    metrics = {
        name: rate_interval(
            value.per_class[name][0, k],
            resampled.per_class[name][:, k],
            trials.get(name, owners),
            exact=name in ("sensitivity", "specificity", "precision"),
        )
        for name in PER_CLASS
    }
    return {**metrics, "support": int(true.sum()), "patients": owners}


def _calibration(
    logits: np.ndarray,
    probabilities: np.ndarray,
    targets: np.ndarray,
    weights: Weights,
    temperature: float | None,
    fit: bool,
    seed: int,
) -> dict[str, Any]:
    """Return the calibration before and after temperature scaling."""
    patients = len(weights.counts)
    once = Weights.once(len(targets))
    curve = reliability(probabilities, targets, once)
    spread = reliability(probabilities, targets, weights)
    out: dict[str, Any] = {
        "ece": reflected_interval(curve.ece[0], spread.ece, patients),
        "reliability": _bins(curve, spread),
    }
    if temperature is not None:
        after, source = tempered(logits, temperature), "validation"
    elif fit and patients > 1:
        temperature, source = fit_temperature(logits, targets), "cross-fitted over patients"
        after = cross_fitted(logits, targets, weights.unit, seed=seed)
    else:
        nothing = {"value": np.nan, "low": np.nan, "high": np.nan}
        source = "none: one patient cannot be cross-fitted"
        if not fit:
            source = "none: no temperature of the validation split is known"
        return {
            **out, "temperature": None, "temperature_source": source,
            "ece_after": nothing, "reliability_after": [],
        }  # fmt: skip
    curve, spread = (reliability(after, targets, w) for w in (once, weights))
    return {
        **out,
        "temperature": temperature,
        "temperature_source": source,
        "ece_after": reflected_interval(curve.ece[0], spread.ece, patients),
        "reliability_after": _bins(curve, spread),
    }


def _bins(curve: Reliability, spread: Reliability) -> list[dict[str, float]]:
    """Return the bins of a reliability curve that hold scans, accuracy with its interval."""
    low, high = percentile_interval(spread.accuracy, LEVEL)
    return [
        {
            "low": curve.edges[m],
            "high": curve.edges[m + 1],
            "confidence": curve.confidence[0, m],
            "accuracy": curve.accuracy[0, m],
            "accuracy_low": low[m],
            "accuracy_high": high[m],
            "count": int(curve.weight[0, m]),
        }
        for m in np.flatnonzero(curve.weight[0])
    ]


def _notes(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    owners: list[int],
    patients: int,
    resampled: Measured,
) -> list[str]:
    """Return sentences about what is undefined, missing or shaky in the numbers."""
    notes = []
    unlabelled = int((predictions["target"] < 0).sum())
    if unlabelled:
        notes.append(f"{unlabelled} scans without a label are left out.")
    if patients == 1:
        notes.append("All scans are of one patient, so no interval can be given.")
    elif patients < FEW_PATIENTS:
        notes.append(f"With {patients} patients the intervals are rough, and rather too narrow.")
    for name, owning in zip(classes, owners, strict=True):
        if owning == 0:
            notes.append(
                f"No scan is of class {name}: its rates are undefined, and the macro averages "
                "are over the other classes."
            )
        elif owning == 1 and patients > 1:
            notes.append(
                f"All scans of class {name} are of one patient, so neither it nor the averages "
                "over classes have an interval."
            )
    lost = int(np.isnan(resampled.overall["balanced_accuracy"]).sum())
    if lost and min(n for n in owners if n) > 1:
        notes.append(
            f"{lost} of {len(resampled.confusion)} resamples missed a class; the intervals of "
            "macro averages are over the others."
        )
    if any(str(patient).startswith("unknown:") for patient in predictions["patient"]):
        notes.append("Scans of unknown patients count as one patient per class.")
    return notes


def _only(predictions: pd.DataFrame, column: str) -> Any:
    """Return the one value of a column.

    Raises:
        OctoscopeError: If there are several.
    """
    values = predictions[column].unique().tolist()
    if len(values) != 1:
        raise OctoscopeError(
            f"the predictions hold several values of {column} "
            f"({', '.join(map(str, values[:3]))}); evaluate one model and one split at a time"
        )
    return values[0] if pd.notna(values[0]) else None
