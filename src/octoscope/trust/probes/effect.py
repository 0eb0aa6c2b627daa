"""How large an effect is, how sure that is, and whether it is large enough to be an alarm.

A statistic is a function of bootstrap weights, so that the number itself and all its resamples
come from the same lines. Most are class-balanced means of one value per scan: balanced accuracy
is that of "was right", a drop of it that of "was right before" minus "is right now".

Shapes: N scans, K classes, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from octoscope.evaluation.bootstrap import Weights, percentile_interval, resample_patients
from octoscope.evaluation.metrics import ranking
from octoscope.trust.probes.probe import Finding
from octoscope.trust.scores import LEAST_PATIENTS

RESAMPLES = 2000
LEVEL = 0.95

Statistic = Callable[[Weights], np.ndarray]
"""Weights of R resamples to one value each, ``(R,)``, or to J values each, ``(R, J)``."""


@dataclass(frozen=True)
class Effect:
    """A number with its interval over resampled patients.

    Attributes:
        value: The number.
        low: Lower end; NaN where there is no interval.
        high: Upper end.
        scans: Scans it rests on.
        patients: Patients these are of.
    """

    value: float
    low: float
    high: float
    scans: int
    patients: int

    def within(self, digits: int = 2, scale: float = 1.0) -> str:
        """Return "0.31 [0.27, 0.35]", each times `scale`; without brackets if no interval."""
        value, low, high = (
            f"{round(scale * number, digits) + 0.0:.{digits}f}"  # + 0.0: never "-0.00"
            for number in (self.value, self.low, self.high)
        )
        if not np.isfinite([self.low, self.high]).all():
            return value
        return f"{value} [{low}, {high}]"

    def to_dict(self) -> dict[str, float]:
        """Return value, low and high."""
        return {"value": self.value, "low": self.low, "high": self.high}


def effect(statistic: Statistic, patients: np.ndarray, *, seed: int = 0) -> Effect:
    """Return a statistic ``(R,)`` with its 95 % interval over resampled patients.

    Args:
        statistic: What is measured.
        patients: ``(N,)`` patient of every scan.
        seed: Of the bootstrap.
    """
    (only,) = effects(lambda weights: statistic(weights)[:, None], patients, seed=seed)
    return only


def effects(
    statistic: Statistic, patients: np.ndarray, *, looks: int = 1, seed: int = 0
) -> list[Effect]:
    """Return J statistics ``(R, J)``, each with its interval over resampled patients.

    Args:
        statistic: What is measured.
        patients: ``(N,)`` patient of every scan.
        looks: How many of them one looks at to pick the largest. The intervals are widened so
            that all of these hold together with 95 % (Bonferroni: the level is 1 - 0.05 / looks).
        seed: Of the bootstrap.
    """
    count = len(np.unique(patients.astype(str)))
    values = statistic(Weights.once(len(patients)))[0]
    low = high = np.full(len(values), np.nan)
    if count > 1:
        drawn = statistic(resample_patients(list(patients), RESAMPLES, seed))
        low, high = percentile_interval(drawn, 1 - (1 - LEVEL) / max(looks, 1))
    return [
        Effect(float(v), float(a), float(b), len(patients), count)
        for v, a, b in zip(values, low, high, strict=True)
    ]


def class_means(values: np.ndarray, targets: np.ndarray, classes: Sequence[int]) -> Statistic:
    """Return the mean of a value per scan within each class, ``(R, len(classes))``.

    Args:
        values: ``(N,)``; a NaN is left out.
        targets: ``(N,)`` true class.
        classes: Which classes.
    """
    there = np.isfinite(values)
    member = (targets[:, None] == np.asarray(classes)[None]) & there[:, None]  # (N, J)
    columns = np.hstack([member * np.where(there, values, 0.0)[:, None], member])

    def statistic(weights: Weights) -> np.ndarray:
        sums = weights.sums(columns)
        total, count = sums[:, : len(classes)], sums[:, len(classes) :]
        return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)

    return statistic


def class_balanced(values: np.ndarray, targets: np.ndarray, classes: Sequence[int]) -> Statistic:
    """Return the mean over classes of the mean of a value per scan, ``(R,)``.

    A resample that misses a class is undefined: the mean over fewer is another quantity.

    Args:
        values: ``(N,)``; a NaN is left out.
        targets: ``(N,)`` true class.
        classes: Which classes.
    """
    means = class_means(values, targets, classes)
    return lambda weights: means(weights).mean(axis=1)


def right(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return 1.0 where the likeliest class ``(N,)`` is the true one, else 0.0."""
    return (probabilities.argmax(axis=1) == targets).astype(np.float64)


def balanced_accuracy(
    probabilities: np.ndarray, targets: np.ndarray, classes: Sequence[int]
) -> Statistic:
    """Return the mean recall ``(R,)`` over `classes` of predictions ``(N, K)``."""
    return class_balanced(right(probabilities, targets), targets, classes)


def accuracy_drop(
    before: np.ndarray, after: np.ndarray, targets: np.ndarray, classes: Sequence[int]
) -> Statistic:
    """Return how much balanced accuracy ``(R,)`` an edit costs; paired, negative if it gains.

    Args:
        before: ``(N, K)`` probabilities of the scans as they are.
        after: Likewise of the edited scans.
        targets: ``(N,)`` true class.
        classes: Which classes the mean runs over.
    """
    return class_balanced(right(before, targets) - right(after, targets), targets, classes)


def one_vs_rest(scores: np.ndarray, targets: np.ndarray, classes: Sequence[int]) -> Statistic:
    """Return the AUROC of column k for class k against the rest, ``(R, len(classes))``.

    Args:
        scores: ``(N, K)``.
        targets: ``(N,)`` true class.
        classes: Which classes.
    """

    def statistic(weights: Weights) -> np.ndarray:
        return np.stack([ranking(scores[:, k], targets == k, weights)[0] for k in classes], 1)

    return statistic


def classes_of(targets: np.ndarray, patients: np.ndarray, least: int = 2) -> list[int]:
    """Return the classes that at least `least` patients have; no interval covers one patient."""
    owners = {int(k): len(np.unique(patients[targets == k].astype(str))) for k in set(targets)}
    return sorted(k for k, count in owners.items() if count >= least)


def beyond(one: Effect, limit: float, harmless: float = 0.0) -> bool | None:
    """Whether the whole interval lies beyond the limit, away from the harmless value.

    Returns:
        None where there is no interval, or too few patients for one to be trusted.
    """
    if one.patients < LEAST_PATIENTS or not np.isfinite([one.low, one.high]).all():
        return None
    return one.low > limit if limit > harmless else one.high < limit


def finding(
    probe: str,
    title: str,
    one: Effect,
    *,
    unit: str,
    limit: float,
    sentence: str,
    harmless: float = 0.0,
    label: str = "",
    details: Mapping[str, Any] | None = None,
) -> Finding:
    """Return what a probe found; it fires if the whole interval lies beyond the limit.

    With fewer than `LEAST_PATIENTS` patients it does not judge, and the sentence says so.
    """
    fires = beyond(one, limit, harmless)
    if fires is None:
        few = one.patients < LEAST_PATIENTS
        why = f"{one.patients} patients are too few to tell" if few else "there is no interval"
        sentence = f"{sentence} Not judged: {why}."
    return Finding(
        probe=probe,
        title=title,
        effect=one.value,
        low=one.low,
        high=one.high,
        unit=unit,
        harmless=harmless,
        limit=limit,
        fires=fires,
        sentence=sentence,
        label=label,
        scans=one.scans,
        patients=one.patients,
        details=dict(details or {}),
    )


def not_run(
    probe: str, title: str, reason: str, *, unit: str, limit: float, harmless: float = 0.0
) -> Finding:
    """Return the finding of a probe that could not be run, with the reason as its sentence."""
    nothing = Effect(np.nan, np.nan, np.nan, 0, 0)
    return Finding(
        probe, title, nothing.value, nothing.low, nothing.high, unit, harmless, limit, None, reason
    )
