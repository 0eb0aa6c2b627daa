"""Effect sizes against scikit-learn and SciPy; p-values against enumeration and the null."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, kruskal, kstest
from scipy.stats.contingency import association
from sklearn.metrics import roc_auc_score

from octoscope.scans.audit.association import (
    MOST_CATEGORIES,
    OTHER,
    Association,
    associations,
    auroc,
    cramers_v,
    holm,
)


def one(
    values: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    permutations: int = 500,
    seed: int = 0,
) -> Association:
    """Test a single feature; scans are patients of their own unless `groups` says otherwise."""
    groups = np.arange(len(targets)) if groups is None else groups
    numeric = np.asarray(values).dtype.kind in "fiu"
    (found,) = associations(
        {"x": values} if numeric else {},
        {} if numeric else {"x": values},
        np.asarray(targets),
        groups,
        permutations=permutations,
        rng=np.random.default_rng(seed),
    )
    return found


@given(st.integers(0, 2**32), st.integers(2, 60), st.booleans())
@settings(max_examples=40, deadline=None)
def test_auroc_is_that_of_scikit_learn(seed: int, n: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 4, n).astype(float) if ties else rng.normal(size=n)
    positive = rng.permutation(np.arange(n) < rng.integers(1, n))
    assert auroc(values, positive) == pytest.approx(roc_auc_score(positive, values), abs=1e-12)


def test_effect_of_a_number_is_the_auroc_of_the_class_that_stands_out() -> None:
    rng = np.random.default_rng(1)
    targets = np.repeat([0, 1, 2], 30)
    values = rng.normal(size=90) - 1.5 * (targets == 1)
    found = one(values, targets)
    assert found.stands_out == 1
    assert found.effect_size == pytest.approx(roc_auc_score(targets == 1, -values), abs=1e-12)
    assert found.mean == pytest.approx([values[targets == k].mean() for k in range(3)])
    assert found.sd == pytest.approx([values[targets == k].std(ddof=1) for k in range(3)])
    assert found.rest == pytest.approx(values[targets != 1].mean())


def test_cramers_v_without_its_correction_is_that_of_scipy() -> None:
    rng = np.random.default_rng(2)
    table = rng.integers(1, 40, (4, 3))
    n, (rows, columns) = table.sum(), table.shape
    plain = association(table, method="cramer")
    assert chi2_contingency(table, correction=False).statistic == pytest.approx(
        n * plain**2 * (min(rows, columns) - 1)
    )
    # Bergsma 2013: take from phi² its expectation under independence, and shrink the dimensions.
    phi2 = max(0, plain**2 * 2 - 3 * 2 / (n - 1))
    expected = np.sqrt(phi2 / min(4 - 9 / (n - 1) - 1, 3 - 4 / (n - 1) - 1))
    assert cramers_v(table) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("table", "v"),
    [
        ([[50, 0], [0, 50]], 1.0),
        ([[25, 25], [25, 25]], 0.0),
        ([[50, 0, 0], [0, 50, 0], [0, 0, 50]], 1.0),
        ([[5, 0], [0, 0]], 0.0),
        ([[1, 0], [0, 0]], 0.0),
        ([[3, 4]], 0.0),
    ],
)
def test_cramers_v_at_its_ends(table: list[list[int]], v: float) -> None:
    assert cramers_v(np.array(table, float)) == pytest.approx(v, abs=1e-9)


def test_cramers_v_is_not_inflated_by_many_categories() -> None:
    rng = np.random.default_rng(3)
    plain, corrected = [], []
    for _ in range(50):
        table = np.zeros((4, 20))
        np.add.at(table, (rng.integers(0, 4, 150), rng.integers(0, 20, 150)), 1)
        table = table[:, table.sum(0) > 0]
        plain.append(association(table.astype(int), method="cramer"))
        corrected.append(cramers_v(table))
    assert np.mean(plain) > 0.3
    assert np.mean(corrected) < 0.1


@pytest.mark.parametrize("words", [False, True])
def test_p_value_agrees_with_all_labellings(words: bool) -> None:
    rng = np.random.default_rng(4)
    targets = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    values = rng.normal(size=9) + 0.9 * targets
    groups = np.arange(9)
    feature = np.where(values > np.median(values), "a", "b") if words else values

    def statistic(positive: np.ndarray) -> float:
        if words:
            table = [[(feature[m] == w).sum() for w in "ab"] for m in (positive, ~positive)]
            return float(chi2_contingency(table, correction=False).statistic)
        return abs(roc_auc_score(positive, values) - 0.5)

    observed = statistic(targets == 1)
    every = [
        statistic(np.isin(np.arange(9), chosen)) >= observed - 1e-12
        for chosen in itertools.combinations(range(9), 5)
    ]
    p = one(feature, targets, groups, permutations=20_000).p_value
    assert p == pytest.approx(np.mean(every), abs=0.012)  # 4 standard errors


def test_p_value_of_two_classes_is_near_kruskal_wallis() -> None:
    rng = np.random.default_rng(5)
    targets = np.repeat([0, 1], 60)
    values = rng.normal(size=120) + 0.35 * targets
    expected = kruskal(values[targets == 0], values[targets == 1]).pvalue
    assert one(values, targets, permutations=20_000).p_value == pytest.approx(expected, abs=0.01)


def test_p_value_is_never_0() -> None:
    targets = np.repeat([0, 1], 20)
    assert one(targets.astype(float), targets, permutations=99).p_value == pytest.approx(1 / 100)


@pytest.mark.parametrize("words", [False, True])
def test_p_values_are_uniform_when_nothing_is_there(words: bool) -> None:
    """Patients with several alike scans, in 3 classes: by scan the p-values would be tiny."""
    rng = np.random.default_rng(99)
    p_values = []
    for draw in range(200):
        patient = np.repeat(np.arange(24), rng.integers(1, 30, 24))
        targets = (np.arange(24) % 3)[patient]
        level = rng.normal(size=24)[patient] + 0.1 * rng.normal(size=len(patient))
        values = np.where(level > 0, "a", "b").astype(object) if words else level
        p_values.append(one(values, targets, patient, permutations=200, seed=draw).p_value)
    if words:  # few values are possible, so p-values are coarse and err to the high side
        assert np.mean(np.array(p_values) <= 0.05) <= 0.09
        assert np.mean(p_values) >= 0.45
    else:
        assert kstest(p_values, "uniform").pvalue > 0.01


def test_a_planted_effect_is_found() -> None:
    rng = np.random.default_rng(6)
    patient = np.repeat(np.arange(40), 5)
    targets = (np.arange(40) % 4)[patient]
    device = np.where((targets == 2) & (rng.random(200) < 0.9), "B", "A").astype(object)
    found = one(device, targets, patient)
    assert found.p_value < 0.01
    assert (found.stands_out, found.telling) == (2, "B")
    assert found.effect_size > 0.8
    assert found.mean[2] == pytest.approx((device[targets == 2] == "B").mean())
    assert found.rest == 0


def test_a_patient_of_two_classes_is_a_unit_in_each() -> None:
    values = np.array([1.0, 3.0, 10.0, 2.0, 9.0])
    found = one(values, np.array([0, 0, 1, 0, 1]), np.array(["p", "p", "p", "q", "r"], object))
    assert found.mean == pytest.approx([2.0, 9.5])  # p and q in class 0; p and r in class 1


def test_missing_values_take_no_side() -> None:
    targets = np.repeat([0, 1], 10)
    values = np.full(20, np.nan)
    found = one(values, targets)
    assert (found.effect_size, found.p_value) == (0.5, 1.0)
    values[[0, 10]] = 5.0
    assert one(values, targets).effect_size == 0.5


def test_rare_words_are_pooled() -> None:
    targets = np.repeat([0, 1], 100)
    words = np.array([f"w{i:03d}" for i in range(200)], object)
    words[100:] = "common"
    found = one(words, targets)
    assert found.telling in ("common", OTHER)
    assert found.effect_size > 0.9
    assert MOST_CATEGORIES < 100


def test_what_does_not_vary_has_no_effect() -> None:
    targets = np.repeat([0, 1], 10)
    assert one(np.ones(20), targets).p_value == 1
    word = one(np.full(20, "x", object), targets)
    assert (word.effect_size, word.p_value) == (0, 1)


def test_one_class_gives_nothing_to_compare() -> None:
    arguments = {"permutations": 10, "rng": np.random.default_rng(0)}
    none = associations({"x": np.arange(4.0)}, {}, np.zeros(4, int), np.arange(4), **arguments)
    assert none == []


@given(st.lists(st.floats(1e-4, 1), min_size=0, max_size=12))
def test_holm_is_the_step_down_procedure(p_values: list[float]) -> None:
    adjusted = holm(np.array(p_values))
    for i, p in enumerate(p_values):
        smaller = [(q, j) for j, q in enumerate(p_values) if (q, j) <= (p, i)]
        steps = [(len(p_values) - rank) * q for rank, (q, _) in enumerate(sorted(smaller))]
        assert adjusted[i] == pytest.approx(min(1, max(steps)))
