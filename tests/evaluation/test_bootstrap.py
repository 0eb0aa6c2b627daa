"""The bootstrap draws whole patients, and its intervals cover the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from octoscope.errors import OctoscopeError
from octoscope.evaluation import bootstrap
from octoscope.evaluation.bootstrap import Weights, percentile_interval, resample_patients


def test_every_resample_draws_as_many_patients_as_there_are() -> None:
    weights = resample_patients(["a", "a", "b", "c", "c", "c"], 500, seed=1)
    assert weights.counts.shape == (3, 500)
    assert (weights.counts.sum(axis=0) == 3).all()
    assert weights.counts.mean() == pytest.approx(1)
    assert weights.unit.tolist() == [0, 0, 1, 2, 2, 2]


def test_scans_of_a_patient_rise_and_fall_together() -> None:
    weights = resample_patients(["a", "b", "a", "b", "a"], 50)
    scans = weights.of(np.arange(5))
    assert (scans[0] == scans[2]).all() and (scans[0] == scans[4]).all()
    assert (scans[1] == scans[3]).all() and (scans[0] != scans[1]).any()


def test_the_draw_depends_on_the_seed_and_not_on_the_order_of_scans() -> None:
    patients = [f"p{i % 7}" for i in range(40)]
    values = np.arange(40.0)[:, None]
    shuffled = np.random.default_rng(3).permutation(40)
    first = resample_patients(patients, 100, seed=5)
    again = resample_patients([patients[i] for i in shuffled], 100, seed=5)
    np.testing.assert_allclose(first.sums(values), again.sums(values[shuffled]))
    assert (resample_patients(patients, 100, seed=6).counts != first.counts).any()


@pytest.mark.parametrize("chunk", [1, 64, 2**20])
def test_sums_and_chunks_do_not_depend_on_the_chunk_size(monkeypatch, chunk) -> None:
    generator = np.random.default_rng(0)
    patients, columns = generator.integers(9, size=50).astype(str), generator.normal(size=(50, 3))
    weights = resample_patients(patients, 70)
    scan_weights = weights.of(np.arange(50)).astype(float)  # (50, 70)
    monkeypatch.setattr(bootstrap, "CHUNK_ELEMENTS", chunk)
    np.testing.assert_allclose(weights.sums(columns), scan_weights.T @ columns)
    parts = [part.of(np.arange(50)) for part in weights.chunks()]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), scan_weights)


def test_counts_are_those_of_the_multinomial() -> None:
    """Mean 1, variance 1 - 1/P, covariance -1/P."""
    counts = resample_patients([str(i) for i in range(10)], 20000).counts.astype(float)
    covariance = np.cov(counts)
    np.testing.assert_allclose(np.diag(covariance), 0.9, atol=0.05)
    np.testing.assert_allclose(covariance[~np.eye(10, dtype=bool)], -0.1, atol=0.04)


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 30), st.integers(1, 4)),
        elements=st.one_of(st.just(np.nan), st.floats(-1e6, 1e6)),
    ),
    st.floats(0.5, 0.99),
)
def test_percentiles_are_numpys_nanpercentiles(values, level) -> None:
    low, high = percentile_interval(values, level)
    for column in range(values.shape[1]):
        defined = values[:, column][np.isfinite(values[:, column])]
        if defined.size == 0:
            assert np.isnan(low[column]) and np.isnan(high[column])
            continue
        expected = np.quantile(defined, [(1 - level) / 2, 1 - (1 - level) / 2])
        np.testing.assert_allclose([low[column], high[column]], expected, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize(
    ("patients", "resamples", "message"),
    [
        ([], 10, "no scan"),
        (["a", None], 10, "has no patient"),
        (["a", float("nan")], 10, "has no patient"),
        (["a", "b"], 0, "0 resamples"),
    ],
)
def test_bad_input_is_one_sentence(patients, resamples, message) -> None:
    with pytest.raises(OctoscopeError, match=message):
        resample_patients(patients, resamples)


def clustered_scans(generator, patients=60):
    """Return (patient, right) of scans whose patients differ: each has a rate of its own.

    The number of scans of a patient (1 to 12) is independent of its rate, so the accuracy in
    the population is the mean rate, 0.7.
    """
    rates = generator.beta(1.4, 0.6, size=patients)
    scans = generator.integers(1, 13, size=patients)
    owner = np.repeat(np.arange(patients), scans)
    return owner.astype(str), generator.random(owner.size) < rates[owner]


def covered(by_patient: bool, repetitions: int = 300) -> float:
    hits = 0
    for repetition in range(repetitions):
        owner, right = clustered_scans(np.random.default_rng(repetition))
        unit = owner if by_patient else np.arange(owner.size).astype(str)
        sums = resample_patients(unit, 400, seed=repetition).sums(
            np.stack([right, np.ones(right.size)], axis=1)
        )
        low, high = percentile_interval(sums[:, 0] / sums[:, 1])
        hits += low <= 0.7 <= high
    return hits / repetitions


def test_95_percent_intervals_cover_the_truth_in_90_to_99_percent_of_data_sets() -> None:
    assert 0.90 <= covered(by_patient=True) <= 0.99


def test_resampling_scans_instead_of_patients_would_cover_far_too_seldom() -> None:
    assert covered(by_patient=False) < 0.85


def test_once_counts_every_scan_once() -> None:
    assert (Weights.once(4).of(np.arange(4)) == 1).all()
    assert Weights.once(4).resamples == 1
