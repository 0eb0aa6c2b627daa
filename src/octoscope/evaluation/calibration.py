"""Calibration: does a probability of 0.8 come true in 80 of 100 scans?

Expected calibration error and temperature scaling after Guo et al., "On Calibration of Modern
Neural Networks", ICML 2017, sections 2 and 4.2.

Shapes: N scans, K classes, R resamples, M bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from octoscope.errors import OctoscopeError
from octoscope.evaluation.bootstrap import Weights

BINS = 15
TEMPERATURES = (0.05, 20.0)
"""Range that the temperature is sought in; perfectly separated classes end towards its low edge."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """The reliability curve of R resamples: M bins of equal width over the confidence.

    Attributes:
        edges: ``(M + 1,)`` from 0 to 1; a bin holds its upper edge, not its lower.
        weight: Scans in each bin, ``(R, M)``.
        confidence: Mean confidence in each bin, ``(R, M)``, NaN where empty.
        accuracy: Share of right predictions in each bin, ``(R, M)``, NaN where empty.
    """

    edges: np.ndarray
    weight: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def ece(self) -> np.ndarray:
        """Expected calibration error ``(R,)``: mean |accuracy - confidence| over the scans.

        It cannot be negative, so noise pushes it upwards, the more the fewer the scans.
        """
        gap = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return (self.weight * gap).sum(axis=1) / self.weight.sum(axis=1)


def reliability(
    probabilities: np.ndarray, targets: np.ndarray, weights: Weights, bins: int = BINS
) -> Reliability:
    """Bin the scans by confidence, the probability of the most probable class.

    Args:
        probabilities: ``(N, K)``, rows sum to one.
        targets: True class index, ``(N,)``.
        weights: Weights of the N scans in R resamples.
        bins: M.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == targets
    edges = np.linspace(0, 1, bins + 1)
    in_bin = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    member = np.zeros((len(targets), bins))
    member[np.arange(len(targets)), in_bin] = 1
    columns = np.hstack([member, member * confidence[:, None], member * correct[:, None]])
    weight, sum_confidence, sum_correct = np.split(weights.sums(columns), 3, axis=1)  # (R, M)
    with np.errstate(invalid="ignore"):
        return Reliability(edges, weight, sum_confidence / weight, sum_correct / weight)


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the temperature T > 0 that minimises the negative log-likelihood of logits / T.

    The likelihood is convex in 1 / T, so the minimum within `TEMPERATURES` is the only one.

    Args:
        logits: ``(N, K)``.
        targets: True class index, ``(N,)``.
    """
    logits = np.asarray(logits, dtype=np.float64)
    rows = np.arange(len(targets))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature), axis=1)[rows, targets].mean())

    bounds = tuple(np.log(TEMPERATURES))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def tempered(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(logits / T), ``(N, K)`` float64.

    Raises:
        OctoscopeError: If the temperature is not positive.
    """
    if not temperature > 0:
        raise OctoscopeError(f"temperature {temperature}: must be above 0")
    return softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1)


def cross_fitted(
    logits: np.ndarray, targets: np.ndarray, unit: np.ndarray, folds: int = 5, seed: int = 0
) -> np.ndarray:
    """Return tempered probabilities whose temperature never saw the patient it is applied to.

    The patients are dealt into folds; the temperature for each fold is fitted on the others.
    This is how a split can say what temperature scaling brings *on itself* without flattery.

    Args:
        logits: ``(N, K)``.
        targets: True class index, ``(N,)``.
        unit: Patient index of every scan, ``(N,)``.
        folds: Number of folds; at most the number of patients.
        seed: Seed of the deal.

    Returns:
        ``(N, K)`` float64.

    Raises:
        OctoscopeError: If there are fewer than two patients.
    """
    patients = int(unit.max()) + 1
    if patients < 2:
        raise OctoscopeError("one patient cannot be cross-fitted; give a temperature instead")
    deal = np.random.default_rng(seed).permutation(patients) % min(folds, patients)
    out = np.empty(np.shape(logits), dtype=np.float64)
    for fold in range(min(folds, patients)):
        held = deal[unit] == fold
        out[held] = tempered(logits[held], fit_temperature(logits[~held], targets[~held]))
    return out
