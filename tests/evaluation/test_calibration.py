"""Calibration error against torchmetrics and scikit-learn; temperatures against known truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import multiclass_calibration_error

from octoscope.errors import OctoscopeError
from octoscope.evaluation.bootstrap import Weights, resample_patients
from octoscope.evaluation.calibration import (
    TEMPERATURES,
    cross_fitted,
    fit_temperature,
    reliability,
    tempered,
)


def drawn(scans: int, overconfidence: float, seed: int = 0):
    """Return logits and labels that were drawn from softmax(logits / overconfidence)."""
    generator = np.random.default_rng(seed)
    true = 2 * generator.normal(size=(scans, 4))
    targets = (generator.random((scans, 1)) < softmax(true, axis=1).cumsum(axis=1)).argmax(axis=1)
    return true * overconfidence, targets


def test_ece_is_that_of_torchmetrics() -> None:
    logits, targets = drawn(700, 1.8)
    probabilities = softmax(logits, axis=1)
    got = reliability(probabilities, targets, Weights.once(700)).ece[0]
    expected = multiclass_calibration_error(
        torch.tensor(probabilities), torch.tensor(targets), num_classes=4, n_bins=15
    )
    assert got == pytest.approx(float(expected), abs=1e-6)


def test_the_curve_is_that_of_scikit_learn() -> None:
    logits, targets = drawn(500, 1.5)
    probabilities = softmax(logits, axis=1)
    curve = reliability(probabilities, targets, Weights.once(500), bins=10)
    right = probabilities.argmax(axis=1) == targets
    accuracy, confidence = calibration_curve(right, probabilities.max(axis=1), n_bins=10)
    filled = curve.weight[0] > 0
    np.testing.assert_allclose(curve.accuracy[0, filled], accuracy)
    np.testing.assert_allclose(curve.confidence[0, filled], confidence)
    assert curve.weight.sum() == 500


def test_a_resampled_ece_is_the_ece_of_the_resample() -> None:
    logits, targets = drawn(120, 2)
    probabilities = softmax(logits, axis=1)
    weights = resample_patients((np.arange(120) // 3).astype(str), 10)
    got = reliability(probabilities, targets, weights).ece
    for r in range(10):
        rows = np.repeat(np.arange(120), weights.of(np.arange(120))[:, r])
        once = reliability(probabilities[rows], targets[rows], Weights.once(len(rows)))
        assert got[r] == pytest.approx(once.ece[0])


def test_ece_by_hand() -> None:
    probabilities = np.array([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5], [0.5, 0.5]])
    targets = np.array([0, 1, 0, 0])
    curve = reliability(probabilities, targets, Weights.once(4), bins=2)
    # The upper edge belongs to the bin: 0.5 falls in (0, 0.5], 1.0 in (0.5, 1].
    assert curve.weight[0].tolist() == [2, 2]
    assert curve.ece[0] == pytest.approx((2 * abs(1 - 0.5) + 2 * abs(0.5 - 1)) / 4)


@pytest.mark.parametrize("overconfidence", [0.5, 1.0, 2.5])
def test_the_temperature_undoes_the_overconfidence(overconfidence) -> None:
    logits, targets = drawn(20000, overconfidence)
    assert fit_temperature(logits, targets) == pytest.approx(overconfidence, rel=0.05)


def test_the_temperature_is_the_minimum_of_the_likelihood_on_a_grid() -> None:
    logits, targets = drawn(150, 3, seed=2)
    grid = np.exp(np.linspace(*np.log(TEMPERATURES), 4001))
    loss = [-log_softmax(logits / t, axis=1)[np.arange(150), targets].mean() for t in grid]
    assert fit_temperature(logits, targets) == pytest.approx(grid[np.argmin(loss)], rel=0.005)


def test_perfectly_separated_classes_end_at_the_edge() -> None:
    assert fit_temperature(np.eye(3) / 2, np.arange(3)) == pytest.approx(TEMPERATURES[0], rel=0.01)


def test_tempering_keeps_the_ranking_and_refuses_nonsense() -> None:
    logits, _ = drawn(50, 1)
    assert (tempered(logits, 3.0).argmax(axis=1) == logits.argmax(axis=1)).all()
    np.testing.assert_allclose(tempered(logits, 1.0), softmax(logits, axis=1))
    for temperature in (0, -1, float("nan")):
        with pytest.raises(OctoscopeError, match="must be above 0"):
            tempered(logits, temperature)


def test_cross_fitting_never_uses_a_patients_own_scans() -> None:
    logits, targets = drawn(60, 2)
    unit = np.arange(60) // 6  # 10 patients
    before = cross_fitted(logits, targets, unit)
    corrupted = targets.copy()
    corrupted[unit == 3] = (corrupted[unit == 3] + 1) % 4
    after = cross_fitted(logits, corrupted, unit)
    np.testing.assert_array_equal(before[unit == 3], after[unit == 3])
    assert (before != after).any()


def test_one_patient_cannot_be_cross_fitted() -> None:
    logits, targets = drawn(5, 1)
    with pytest.raises(OctoscopeError, match="one patient"):
        cross_fitted(logits, targets, np.zeros(5, dtype=int))
