"""How well a small model does that sees only numbers about the frame, never the retina.

A random forest in cross-validation by patient. What it scores above chance is what any network
could score without having looked at the disease.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from octoscope.progress import track

FOLDS = 5
TREES = 100
LEAST_LEAF = 3
MOST_PER_TREE = 2_000
"""Scans drawn for each tree, so that time does not grow with the square of a study."""
LONG = 20_000
"""Scans from which a progress bar is shown."""
RESAMPLES = 1_000
CHUNK = 50


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Return value, low and high."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Baseline:
    """Result of the frame-only model.

    Attributes:
        features: What it saw.
        balanced_accuracy: Mean recall over the classes, interval by patient bootstrap.
        chance: 1 / number of classes it had to tell apart.
        by_class: Class index → balanced accuracy of telling that class from the rest, the mean
            of sensitivity and specificity (chance 0.5).
        left_out: Class indices with fewer than two patients, which cannot be cross-validated.
    """

    features: tuple[str, ...]
    balanced_accuracy: Interval
    chance: float
    by_class: dict[int, Interval]
    left_out: tuple[int, ...]


def frame_baseline(
    features: Sequence[str],
    values: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
    *,
    seed: int,
) -> Baseline | None:
    """Cross-validate the frame-only model.

    Args:
        features: Names of the M columns.
        values: ``(N, M)`` float, no nan.
        targets: ``(N,)`` int class.
        groups: ``(N,)`` patient; the scans of one are never in training and test at once.
        seed: Of folds, forest and bootstrap.

    Returns:
        The result, or None if fewer than two classes have two patients each.
    """
    classes = np.unique(targets)
    patients = {int(k): len(np.unique(groups[targets == k].astype(str))) for k in classes}
    left_out = tuple(k for k, count in patients.items() if count < 2)
    kept = ~np.isin(targets, left_out)
    if len(patients) - len(left_out) < 2 or values.shape[1] == 0:
        return None
    values, targets, groups = values[kept], targets[kept], groups[kept].astype(str)
    folds = min(FOLDS, *(count for count in patients.values() if count >= 2))
    classes, codes = np.unique(targets, return_inverse=True)
    predicted = _cross_validated(values, codes, groups, folds, seed)
    overall, by_class = _bootstrapped(codes, predicted, groups, len(classes), seed)
    return Baseline(
        features=tuple(features),
        balanced_accuracy=overall,
        chance=1 / len(classes),
        by_class={int(k): interval for k, interval in zip(classes, by_class, strict=True)},
        left_out=left_out,
    )


def _cross_validated(
    values: np.ndarray, targets: np.ndarray, groups: np.ndarray, folds: int, seed: int
) -> np.ndarray:
    """Predict every scan (N,) by a forest that saw none of its patient."""
    from sklearn.ensemble import RandomForestClassifier  # heavy to import

    predicted = np.full(len(targets), -1)
    fold = _folds(targets, groups, folds, seed)
    for k in track(range(folds), "frame-only model") if len(targets) > LONG else range(folds):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        forest = RandomForestClassifier(
            TREES,
            min_samples_leaf=LEAST_LEAF,
            max_samples=min(len(train), MOST_PER_TREE),
            random_state=seed,
        )
        forest.fit(values[train], targets[train], _weights(targets[train], groups[train]))
        predicted[test] = forest.predict(values[test])
    return predicted


def _folds(targets: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each scan (N,): of every class, patients dealt out like cards.

    A patient with several classes is dealt with the rarest of them, which needs it most.
    """
    names, patient = np.unique(groups, return_inverse=True)
    size = np.bincount(targets)
    rarest = np.full(len(names), len(size))  # rank of each patient's rarest class
    np.minimum.at(rarest, patient, np.argsort(np.argsort(size, kind="stable"))[targets])
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(rarest[order], kind="stable")]
    fold = np.empty(len(names), np.int64)
    fold[order] = np.arange(len(names)) % folds
    return fold[patient]


def _weights(targets: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return weights (N,) under which all classes, and in a class all patients, count the same."""
    _, unit, size = np.unique(
        np.char.add(groups, np.char.add("|", targets.astype(str))),
        return_inverse=True,
        return_counts=True,
    )
    weight = 1 / size[unit]
    return weight / np.bincount(targets, weight)[targets]


def _bootstrapped(
    targets: np.ndarray, predicted: np.ndarray, groups: np.ndarray, classes: int, seed: int
) -> tuple[Interval, list[Interval]]:
    """Return balanced accuracy over all and per class against the rest, patients resampled."""
    _, patient = np.unique(groups, return_inverse=True)
    count = int(patient.max()) + 1
    confusion = np.zeros((count, classes, classes))  # of each patient: truth × prediction
    np.add.at(confusion, (patient, targets, predicted), 1)
    flat = confusion.reshape(count, -1)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(0, RESAMPLES, CHUNK):
        weight = rng.multinomial(count, np.full(count, 1 / count), size=CHUNK)  # (R, patients)
        drawn.append(_scores((weight @ flat).reshape(CHUNK, classes, classes)))
    point = _scores(flat.sum(axis=0).reshape(1, classes, classes))[0]
    # A resample without any scan of a class has no recall for it and is left out there.
    low, high = np.nanquantile(np.concatenate(drawn), [0.025, 0.975], axis=0)
    intervals = [
        Interval(float(v), float(a), float(b)) for v, a, b in zip(point, low, high, strict=True)
    ]
    return intervals[0], intervals[1:]


def _scores(confusion: np.ndarray) -> np.ndarray:
    """Return from confusion matrices (R, K, K) the scores ``(R, 1+K)``: all, then per class."""
    total = confusion.sum(axis=(1, 2))[:, None]
    truth, called = confusion.sum(axis=2), confusion.sum(axis=1)  # (R, K)
    hit = np.diagonal(confusion, axis1=1, axis2=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hit / truth
        specificity = 1 - (called - hit) / (total - truth)
    everything = np.nanmean(recall, axis=1, keepdims=True)
    return np.concatenate([everything, (recall + specificity) / 2], axis=1)
