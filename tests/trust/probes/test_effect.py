"""Effects with their intervals, by hand and against the plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from octoscope.evaluation.bootstrap import Weights, resample_patients
from octoscope.trust.probes.effect import (
    Effect,
    accuracy_drop,
    balanced_accuracy,
    beyond,
    class_balanced,
    class_means,
    classes_of,
    effect,
    effects,
    finding,
    not_run,
    one_vs_rest,
)

TARGETS = np.array([0, 0, 0, 1])
VALUES = np.array([1.0, 0.0, np.nan, 4.0])


def test_class_means_by_hand() -> None:
    means = class_means(VALUES, TARGETS, [0, 1])(Weights.once(4))
    np.testing.assert_array_equal(means, [[0.5, 4.0]])  # the NaN counts nowhere
    balanced = class_balanced(VALUES, TARGETS, [0, 1])(Weights.once(4))
    np.testing.assert_array_equal(balanced, [2.25])


def test_a_resample_without_a_class_is_undefined() -> None:
    weights = Weights(np.arange(4), np.array([[1], [1], [2], [0]], np.uint8))
    assert np.isnan(class_balanced(VALUES, TARGETS, [0, 1])(weights)).all()


def test_resamples_are_those_of_drawn_patients() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat([f"p{n}" for n in range(8)], 3)
    targets, values = np.repeat([0, 1], 12), rng.normal(size=24)
    weights = resample_patients(list(patients), 20, seed=3)
    drawn = class_balanced(values, targets, [0, 1])(weights)
    for resample in range(20):
        often = weights.of(np.arange(24))[:, resample]
        parts = [
            np.repeat(values[targets == k], often[targets == k]).mean() if often[targets == k].any()
            else np.nan
            for k in (0, 1)
        ]  # fmt: skip
        np.testing.assert_allclose(drawn[resample], np.mean(parts))


def test_balanced_accuracy_and_its_drop() -> None:
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 3, 60)
    before, after = rng.dirichlet(np.ones(3), 60), rng.dirichlet(np.ones(3), 60)
    once = Weights.once(60)
    expected = [balanced_accuracy_score(targets, one.argmax(axis=1)) for one in (before, after)]
    assert balanced_accuracy(before, targets, range(3))(once)[0] == pytest.approx(expected[0])
    drop = accuracy_drop(before, after, targets, range(3))(once)[0]
    assert drop == pytest.approx(expected[0] - expected[1])


def test_auroc_of_one_class_against_the_rest() -> None:
    rng = np.random.default_rng(2)
    targets, scores = rng.integers(0, 3, 60), rng.integers(0, 8, (60, 3)) / 8  # with ties
    areas = one_vs_rest(scores, targets, [0, 2])(Weights.once(60))[0]
    expected = [roc_auc_score(targets == k, scores[:, k]) for k in (0, 2)]
    np.testing.assert_allclose(areas, expected)


def test_an_edit_without_effect_has_an_interval_of_zero() -> None:
    probabilities = np.eye(2)[[0, 0, 1, 1, 0, 1]]
    patients = np.array(list("abcdef"))
    targets = np.array([0, 0, 1, 1, 1, 0])
    none = effect(accuracy_drop(probabilities, probabilities, targets, [0, 1]), patients)
    assert (none.value, none.low, none.high) == (0, 0, 0)
    assert beyond(none, 0.03) is False


def test_intervals_widen_with_the_number_of_looks() -> None:
    values = np.random.default_rng(3).normal(size=40)
    patients, targets = np.arange(40).astype(str), np.repeat([0, 1], 20)
    means = class_means(values, targets, [0, 1])
    one, five = effects(means, patients), effects(means, patients, looks=5)
    for narrow, wide in zip(one, five, strict=True):
        assert narrow.value == wide.value
        assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_one_patient_has_no_interval() -> None:
    lonely = effect(class_balanced(np.ones(3), np.zeros(3, int), [0]), np.array(["a"] * 3))
    assert lonely.value == 1 and np.isnan([lonely.low, lonely.high]).all()
    assert beyond(lonely, 0.5) is None
    assert lonely.within() == "1.00"


@pytest.mark.parametrize(
    ("low", "high", "limit", "harmless", "fires"),
    [
        (0.61, 0.9, 0.6, 0.5, True),
        (0.59, 0.9, 0.6, 0.5, False),
        (0.6, 0.9, 0.6, 0.5, False),
        (-0.5, -0.2, -0.1, 0.0, True),
        (-0.5, -0.05, -0.1, 0.0, False),
        (0.2, 0.5, -0.1, 0.0, False),
    ],
)
def test_the_whole_interval_must_lie_beyond(
    low: float, high: float, limit: float, harmless: float, fires: bool
) -> None:
    assert beyond(Effect((low + high) / 2, low, high, 20, 10), limit, harmless) is fires


def test_four_patients_are_too_few() -> None:
    found = finding("p", "t", Effect(1, 1, 1, 8, 4), unit="u", limit=0.1, sentence="All gone.")
    assert found.fires is None
    assert found.sentence == "All gone. Not judged: 4 patients are too few to tell."
    assert finding("p", "t", Effect(1, 1, 1, 8, 5), unit="u", limit=0.1, sentence="").fires


def test_what_was_not_run_says_why() -> None:
    found = not_run("p", "t", "Not run: no scan has any.", unit="u", limit=0.1)
    assert found.fires is None and np.isnan(found.effect) and found.sentence.startswith("Not run")


def test_classes_of_enough_patients() -> None:
    patients = np.array(["a", "b", "c", "c", "c"])
    assert classes_of(np.array([2, 2, 0, 0, 1]), patients) == [2]
    assert classes_of(np.array([2, 2, 0, 0, 1]), patients, least=1) == [0, 1, 2]
