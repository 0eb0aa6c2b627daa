from __future__ import annotations

import numpy as np

from octoscope.trust.bands import band


def test_mean_and_band_are_pointwise_and_by_patient() -> None:
    generator = np.random.default_rng(0)
    offsets = np.repeat(generator.normal(size=30), 4)  # the four scans of a patient are the same
    curves = offsets[:, None] + np.array([0.0, 5.0, 1.0])
    patients = np.repeat([f"p{i}" for i in range(30)], 4)
    found = band(curves, patients)
    np.testing.assert_allclose(found["mean"], curves.mean(0))
    width = found["high"] - found["low"]
    expected = 2 * 1.96 * offsets[::4].std() / np.sqrt(30)  # thirty patients, not 120 scans
    np.testing.assert_allclose(width, expected, rtol=0.15)


def test_a_scan_without_a_curve_is_left_out() -> None:
    curves = np.array([[1.0, 2.0], [np.nan, 2.0], [3.0, 4.0]])
    found = band(curves, np.array(["a", "b", "c"]))
    np.testing.assert_allclose(found["mean"], [2, 3])


def test_one_patient_has_no_band_and_no_scan_no_mean() -> None:
    one = band(np.ones((3, 2)), np.array(["a"] * 3))
    assert (one["mean"] == 1).all()
    assert np.isnan(one["low"]).all()
    assert np.isnan(band(np.full((2, 2), np.nan), np.array(["a", "b"]))["mean"]).all()
