"""The frame-only model: finds what is planted, finds nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from octoscope.scans.audit import baseline
from octoscope.scans.audit.baseline import _bootstrapped, _weights, frame_baseline


@pytest.fixture
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "TREES", 20)


def study(seed: int, patients: int = 40) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Targets and patients of scans; 4 classes, 1 to 5 scans a patient."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), rng.integers(1, 6, patients))
    return (np.arange(patients) % 4)[patient], patient.astype(str).astype(object), rng


def test_planted_frame_size_is_found(few_trees: None) -> None:
    targets, patients, rng = study(0)
    values = rng.normal(size=(len(targets), 2))
    values[:, 0] += 8 * (targets == 3)
    result = frame_baseline(["height", "width"], values, targets, patients, seed=0)
    assert result is not None
    assert result.chance == 0.25
    assert result.by_class[3].value > 0.95
    assert result.by_class[3].low > 0.9
    assert all(result.by_class[k].value < 0.75 for k in range(3))


def test_what_tells_patients_apart_does_not_tell_classes(few_trees: None) -> None:
    """Each patient has a frame size of their own: by scan a forest would know all of them."""
    values, alarms = [], 0
    for seed in range(10):
        targets, patients, rng = study(seed)
        own = rng.normal(size=(40, 3))[patients.astype(int)]
        result = frame_baseline(["a", "b", "c"], own, targets, patients, seed=seed)
        assert result is not None
        values.append(result.balanced_accuracy.value)
        alarms += result.balanced_accuracy.low > result.chance
    assert np.mean(values) < 0.30
    assert alarms <= 2


def test_deterministic_and_seeded(few_trees: None) -> None:
    targets, patients, rng = study(1)
    values = rng.normal(size=(len(targets), 2))
    results = [frame_baseline(["a", "b"], values, targets, patients, seed=s) for s in (5, 5, 6)]
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_point_value_is_that_of_scikit_learn_and_interval_that_of_a_loop() -> None:
    rng = np.random.default_rng(3)
    targets = rng.integers(0, 3, 300)
    predicted = np.where(rng.random(300) < 0.5, targets, rng.integers(0, 3, 300))
    patients = rng.integers(0, 60, 300).astype(str)
    overall, by_class = _bootstrapped(targets, predicted, patients, 3, seed=0)
    assert overall.value == pytest.approx(balanced_accuracy_score(targets, predicted))
    for k, interval in enumerate(by_class):
        expected = balanced_accuracy_score(targets == k, predicted == k)
        assert interval.value == pytest.approx(expected)
    names = np.unique(patients)
    rows_of = {p: np.flatnonzero(patients == p) for p in names}
    drawn = []
    for _ in range(400):
        rows = np.concatenate([rows_of[p] for p in rng.choice(names, len(names))])
        drawn.append(balanced_accuracy_score(targets[rows], predicted[rows]))
    assert (overall.low, overall.high) == pytest.approx(
        np.quantile(drawn, [0.025, 0.975]), abs=0.015
    )


def test_weights_make_classes_and_patients_equal() -> None:
    targets = np.array([0, 0, 0, 0, 1, 1])
    patients = np.array(["p", "p", "p", "q", "r", "p"])
    weights = _weights(targets, patients)
    assert weights[:3].sum() == pytest.approx(weights[3]) == pytest.approx(0.5)
    assert weights[4] == pytest.approx(weights[5]) == pytest.approx(0.5)


def test_a_class_of_one_patient_is_left_out(few_trees: None) -> None:
    targets, patients, rng = study(2)
    patients = patients.copy()
    patients[targets == 2] = "lonely"
    values = rng.normal(size=(len(targets), 2))
    result = frame_baseline(["a", "b"], values, targets, patients, seed=0)
    assert result is not None
    assert result.left_out == (2,)
    assert set(result.by_class) == {0, 1, 3}
    assert result.chance == pytest.approx(1 / 3)


def test_nothing_to_cross_validate() -> None:
    targets, patients = np.array([0, 0, 1, 1]), np.array(["p", "q", "r", "r"], object)
    assert frame_baseline(["a"], np.zeros((4, 1)), targets, patients, seed=0) is None
    assert frame_baseline([], np.zeros((0, 0)), targets[:0], patients[:0], seed=0) is None
