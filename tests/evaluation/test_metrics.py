"""Every metric against scikit-learn, plain and under bootstrap weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from octoscope.evaluation.bootstrap import Weights, resample_patients
from octoscope.evaluation.metrics import PER_CLASS, measure, ranking, rates, roc_curve


@st.composite
def predictions(draw):
    """Targets, tied probabilities and integer weights, often with missing classes."""
    classes = draw(st.integers(2, 5))
    scans = draw(st.integers(1, 40))
    seed = draw(st.integers(0, 2**32 - 1))
    levels = draw(st.sampled_from([2, 4, 1000]))  # few levels: many ties
    generator = np.random.default_rng(seed)
    raw = generator.integers(0, levels, size=(scans, classes)) + 0.5
    targets = generator.integers(0, draw(st.integers(1, classes)), size=scans)
    weights = generator.integers(0, 4, size=(scans, 3)).astype(np.uint8)
    return targets, raw / raw.sum(axis=1, keepdims=True), weights


def oracle(targets, predicted, probabilities, weight):
    """Every metric by scikit-learn, NaN where undefined."""
    classes = probabilities.shape[1]
    labels = np.arange(classes)
    keep = weight > 0
    targets, predicted, probabilities = targets[keep], predicted[keep], probabilities[keep]
    with_weights = {"sample_weight": weight[keep]}
    per_class = {name: np.full(classes, np.nan) for name in PER_CLASS}
    common = {"labels": labels, "average": None, "zero_division": np.nan, **with_weights}
    per_class["sensitivity"] = sk.recall_score(targets, predicted, **common)
    per_class["precision"] = sk.precision_score(targets, predicted, **common)
    f1 = sk.f1_score(targets, predicted, **{**common, "zero_division": 0})
    for k in labels:
        is_k = targets == k
        if is_k.any():
            per_class["f1"][k] = f1[k]
            per_class["average_precision"][k] = sk.average_precision_score(
                is_k, probabilities[:, k], **with_weights
            )
        if is_k.any() and not is_k.all():
            per_class["auroc"][k] = sk.roc_auc_score(is_k, probabilities[:, k], **with_weights)
        if not is_k.all():
            per_class["specificity"][k] = sk.recall_score(
                ~is_k, predicted != k, zero_division=np.nan, **with_weights
            )
    matrix = sk.confusion_matrix(targets, predicted, labels=labels, **with_weights)
    return per_class, matrix, sk.accuracy_score(targets, predicted, **with_weights)


@settings(max_examples=150, deadline=None)
@given(predictions())
def test_all_metrics_agree_with_scikit_learn_under_weights(case) -> None:
    targets, probabilities, weights = case
    predicted = probabilities.argmax(axis=1)
    measured = measure(targets, predicted, probabilities, Weights(np.arange(len(targets)), weights))
    for r in range(weights.shape[1]):
        if not weights[:, r].any():
            assert np.isnan(measured.overall["accuracy"][r])
            continue
        per_class, matrix, accuracy = oracle(targets, predicted, probabilities, weights[:, r])
        np.testing.assert_array_equal(measured.confusion[r], matrix)
        assert measured.overall["accuracy"][r] == pytest.approx(accuracy)
        for name, expected in per_class.items():
            np.testing.assert_allclose(
                measured.per_class[name][r], expected, atol=1e-12, err_msg=name
            )


def test_patient_weights_are_scikit_learns_sample_weights() -> None:
    """The same through `resample_patients`: a resampled metric is the metric of the resample."""
    generator = np.random.default_rng(4)
    targets = generator.integers(0, 4, 200)
    probabilities = generator.dirichlet(np.ones(4), 200).round(2) + 1e-3
    patients = generator.integers(0, 60, 200).astype(str)
    predicted = probabilities.argmax(axis=1)
    weights = resample_patients(patients, 40)
    measured = measure(targets, predicted, probabilities, weights)
    for r in range(0, 40, 7):
        rows = np.repeat(np.arange(200), weights.of(np.arange(200))[:, r])  # the real resample
        assert measured.overall["balanced_accuracy"][r] == pytest.approx(
            sk.balanced_accuracy_score(targets[rows], predicted[rows])
        )
        assert measured.overall["macro_f1"][r] == pytest.approx(
            sk.f1_score(targets[rows], predicted[rows], average="macro")
        )
        for name, function in {
            "auroc": sk.roc_auc_score,
            "average_precision": sk.average_precision_score,
        }.items():
            one_hot = np.eye(4)[targets[rows]]
            assert measured.overall[name][r] == pytest.approx(
                function(one_hot, probabilities[rows], average="macro")
            )


def test_macro_averages_run_over_the_classes_that_occur() -> None:
    targets = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]])
    once = measure(targets, probabilities.argmax(1), probabilities, Weights.once(4))
    assert once.overall["balanced_accuracy"][0] == 0.75
    assert once.overall["macro_f1"][0] == pytest.approx((2 / 3 + 1) / 2)
    assert np.isnan(once.per_class["sensitivity"][0, 2])
    assert once.per_class["specificity"][0, 2] == 0.75


def test_a_resample_that_misses_a_class_has_no_macro_average() -> None:
    targets = np.array([0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    weights = Weights(np.arange(3), np.array([[1, 0], [1, 2], [1, 1]], dtype=np.uint8))
    measured = measure(targets, probabilities.argmax(1), probabilities, weights)
    assert measured.overall["balanced_accuracy"][0] == 1
    assert np.isnan(measured.overall["balanced_accuracy"][1])
    assert measured.overall["accuracy"][1] == 1


@pytest.mark.parametrize(
    ("scores", "positive", "auroc", "precision"),
    [
        ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], 1.0, 1.0),
        ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], 0.0, (1 / 3 + 2 / 4) / 2),
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 1, 0], 0.5, 0.5),  # one tie of all: a coin, the prevalence
        ([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0], 3.5 / 4, (1 + 2 / 3) / 2),  # one tied pair counts ½
    ],
)
def test_ranking_by_hand(scores, positive, auroc, precision) -> None:
    got = ranking(np.array(scores), np.array(positive, dtype=bool), Weights.once(4))
    assert got[0][0] == pytest.approx(auroc)
    assert got[1][0] == pytest.approx(precision)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30))
def test_ranking_does_not_see_a_monotone_change_of_scores(seed, scans) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 6, scans).astype(float)
    positive = generator.random(scans) < 0.5
    weights = resample_patients(np.arange(scans).astype(str), 20, seed)
    for before, after in zip(
        ranking(scores, positive, weights), ranking(np.exp(3 * scores), positive, weights),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(before, after)
    auroc, _ = ranking(scores, positive, weights)
    mirrored, _ = ranking(-scores, positive, weights)
    np.testing.assert_allclose(auroc, 1 - mirrored)


def test_rates_by_hand() -> None:
    got = rates(np.array([[[8.0, 2.0], [1.0, 9.0]]]))
    np.testing.assert_allclose(got["sensitivity"][0], [0.8, 0.9])
    np.testing.assert_allclose(got["specificity"][0], [0.9, 0.8])
    np.testing.assert_allclose(got["precision"][0], [8 / 9, 9 / 11])
    np.testing.assert_allclose(got["f1"][0], [16 / 19, 18 / 21])


def test_a_class_never_predicted_has_f1_zero_and_no_precision() -> None:
    got = rates(np.array([[[3.0, 0.0], [2.0, 0.0]]]))
    assert got["f1"][0, 1] == 0 and np.isnan(got["precision"][0, 1])


def test_the_area_under_the_roc_curve_is_the_auroc() -> None:
    generator = np.random.default_rng(8)
    scores, positive = generator.integers(0, 20, 300) / 7, generator.random(300) < 0.3
    false, true = roc_curve(scores, positive)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    expected = sk.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(false, expected[0])
    np.testing.assert_allclose(true, expected[1])
    assert np.trapezoid(true, false) == pytest.approx(
        ranking(scores, positive, Weights.once(300))[0][0]
    )
