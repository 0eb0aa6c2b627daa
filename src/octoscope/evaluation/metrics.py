"""Classification metrics under integer weights, for all bootstrap resamples at once.

Every function takes `Weights` and returns one value per resample; with `Weights.once` it is the
plain metric. NaN means undefined (a rate over nothing), never zero.

Shapes: N scans, K classes, R resamples, G groups of tied scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from octoscope.evaluation.bootstrap import Weights

MACRO = {
    "balanced_accuracy": "sensitivity",
    "macro_f1": "f1",
    "auroc": "auroc",
    "average_precision": "average_precision",
}
"""Overall metric → the per-class metric whose mean over classes it is."""

PER_CLASS = ("sensitivity", "specificity", "precision", "f1", "auroc", "average_precision")
OVERALL = ("accuracy", *MACRO)


@dataclass(frozen=True, eq=False)
class Measured:
    """Metrics of R resamples.

    Attributes:
        overall: Metric → ``(R,)``.
        per_class: Metric → ``(R, K)``.
        confusion: ``(R, K, K)``, true class in rows, predicted class in columns.
    """

    overall: dict[str, np.ndarray]
    per_class: dict[str, np.ndarray]
    confusion: np.ndarray


def measure(
    targets: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, weights: Weights
) -> Measured:
    """Compute every metric for every resample.

    The macro averages (`MACRO`) run over the classes that occur in `targets`. In a resample
    that misses one of them they are NaN: the mean over fewer classes is another quantity.

    Args:
        targets: True class index, ``(N,)`` int in 0…K-1.
        predicted: Predicted class index, ``(N,)`` int.
        probabilities: ``(N, K)``; column k is the score of class k against the rest.
        weights: Weights of the N scans in R resamples.
    """
    classes = probabilities.shape[1]
    confusion = confusion_matrices(targets, predicted, classes, weights)
    per_class = rates(confusion)
    ranked = [ranking(probabilities[:, k], targets == k, weights) for k in range(classes)]
    per_class["auroc"] = np.stack([auroc for auroc, _ in ranked], axis=1)
    per_class["average_precision"] = np.stack([precision for _, precision in ranked], axis=1)
    present = np.unique(targets)
    overall = {"accuracy": _ratio(np.trace(confusion, axis1=1, axis2=2), confusion.sum((1, 2)))}
    for name, of in MACRO.items():
        overall[name] = per_class[of][:, present].mean(axis=1)
    return Measured(overall, per_class, confusion)


def confusion_matrices(
    targets: np.ndarray, predicted: np.ndarray, classes: int, weights: Weights
) -> np.ndarray:
    """Return the weighted confusion matrices ``(R, K, K)``: rows true, columns predicted."""
    cell = np.zeros((len(targets), classes * classes))
    cell[np.arange(len(targets)), targets * classes + predicted] = 1
    return weights.sums(cell).reshape(-1, classes, classes)


def rates(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return sensitivity, specificity, precision and F1, each ``(R, K)``, one class against rest.

    F1 = 2TP / (2TP + FP + FN) is 0 for a class that is there and never predicted, and NaN for
    one that is not there; precision is NaN for a class never predicted.

    Args:
        confusion: ``(R, K, K)``.
    """
    hit = np.diagonal(confusion, axis1=1, axis2=2)  # TP (R, K)
    true = confusion.sum(axis=2)  # TP + FN
    said = confusion.sum(axis=1)  # TP + FP
    total = confusion.sum(axis=(1, 2))[:, None]
    return {
        "sensitivity": _ratio(hit, true),
        "specificity": _ratio(total - true - said + hit, total - true),
        "precision": _ratio(hit, said),
        "f1": _ratio(2 * hit, np.where(true > 0, true + said, 0)),
    }


def ranking(
    scores: np.ndarray, positive: np.ndarray, weights: Weights
) -> tuple[np.ndarray, np.ndarray]:
    """Return AUROC and average precision of one score for every resample.

    With the scores sorted downwards and TP, FP the cumulative weights at the end of each group
    of tied scores g:

    AUROC = sum_g (TP_g - TP_{g-1}) (FP_all - (FP_g + FP_{g-1}) / 2) / (TP_all FP_all)
    (Mann-Whitney: a tie counts half);
    AP = sum_g (TP_g - TP_{g-1}) TP_g / (TP_g + FP_g) / TP_all.

    Only groups that hold a positive contribute, so the sums run over those.

    Args:
        scores: ``(N,)``, higher for the positive class.
        positive: ``(N,)`` bool.
        weights: Weights of the N scans in R resamples.

    Returns:
        AUROC ``(R,)``, NaN without positives or without negatives; average precision ``(R,)``,
        NaN without positives.
    """
    order = np.argsort(-scores, kind="stable")
    is_new = np.append(True, np.diff(scores[order]) != 0)
    group = np.cumsum(is_new) - 1  # (N,) tie group of each sorted scan
    holds = np.unique(group[positive[order]])  # groups with a positive
    edges = np.append(np.flatnonzero(is_new), len(scores))
    before, after = edges[holds], edges[holds + 1]  # sorted scans above, and up to, the group
    positives_above = np.append(0, np.cumsum(positive[order]))
    auroc, precision = [], []
    for part in weights.chunks():
        everyone = _cumulative(part.of(order))  # (N + 1, r)
        hits = _cumulative(part.of(order[positive[order]]))  # (N+ + 1, r)
        tp_all, fp_all = hits[-1], everyone[-1] - hits[-1]
        tp, tp_before = hits[positives_above[after]], hits[positives_above[before]]  # (G, r)
        seen, seen_before = everyone[after], everyone[before]
        gained = tp - tp_before
        fp_twice = (seen - tp) + (seen_before - tp_before)
        pairs = (gained * (fp_all - fp_twice / 2)).sum(axis=0)
        auroc.append(_ratio(pairs, tp_all * fp_all))
        precision.append(_ratio((gained * (tp / np.maximum(seen, 1))).sum(axis=0), tp_all))
    return np.concatenate(auroc), np.concatenate(precision)


def roc_curve(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of the ROC curve, false- and true-positive rate, from (0, 0) to (1, 1).

    Args:
        scores: ``(N,)``, higher for the positive class.
        positive: ``(N,)`` bool with at least one True and one False.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(positive[order])[last]
    misses = last + 1 - hits
    return np.append(0, misses / misses[-1]), np.append(0, hits / hits[-1])


def _cumulative(weights: np.ndarray) -> np.ndarray:
    """Return cumulative sums down the first axis, led by a row of zeros; exact in float64."""
    out = np.zeros((len(weights) + 1, weights.shape[1]))
    np.cumsum(weights, axis=0, dtype=np.float64, out=out[1:])
    return out


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, NaN where the whole is zero."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
