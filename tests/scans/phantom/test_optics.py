"""Speckle and noise against what their theory says, and the display curves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from octoscope.scans.phantom.optics import (
    DEVICES,
    detector_noise,
    display,
    expose,
    looks,
    speckle,
)


def test_one_pattern_of_speckle_has_exponential_intensity() -> None:
    """Goodman: fully developed speckle has a negative exponential distribution."""
    intensity = speckle((400, 400), (1.2, 1.0), 1, np.random.default_rng(0))
    independent = intensity[::8, ::8].ravel()
    assert stats.kstest(independent, "expon").pvalue > 0.01
    assert intensity.mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("count", [1, 4, 9])
def test_contrast_falls_with_the_root_of_the_number_of_patterns(count: int) -> None:
    intensity = speckle((300, 300), (1.0, 1.0), count, np.random.default_rng(1))
    assert intensity.std() / intensity.mean() == pytest.approx(count**-0.5, rel=0.05)


def test_grain_is_the_point_spread_function() -> None:
    """Gaussian PSF of sd s: intensity correlates by exp(-d² / 2s²) (Siegert)."""
    sigma = (1.6, 0.9)
    field = np.mean(
        [_lags(speckle((256, 256), sigma, 1, np.random.default_rng(k))) for k in range(8)], axis=0
    )
    lags = np.arange(1, 4)
    for axis in (0, 1):
        np.testing.assert_allclose(
            field[axis], np.exp(-(lags**2) / (2 * sigma[axis] ** 2)), atol=0.03
        )


def _lags(image: np.ndarray) -> np.ndarray:
    """Correlation at 1, 2, 3 pixels along rows and columns ``(2, 3)``."""
    z = (image - image.mean()) / image.std()
    return np.array([[np.mean(z * np.roll(z, k, axis)) for k in (1, 2, 3)] for axis in (0, 1)])


@pytest.mark.parametrize("frames", [3, 16, 40])
def test_averaged_noise_has_the_moments_of_a_gamma_distribution(frames: int) -> None:
    noise = detector_noise((400, 400), 0.7, frames, np.random.default_rng(2))
    assert noise.mean() == pytest.approx(1, abs=0.02)
    assert noise.std() == pytest.approx(frames**-0.5, rel=0.05)
    assert stats.skew(noise.ravel()) == pytest.approx(2 * frames**-0.5, rel=0.15)


def test_noise_is_independent_between_a_scans() -> None:
    lags = _lags(detector_noise((400, 400), 0.7, 16, np.random.default_rng(3)))
    assert lags[0, 0] > 0.3 and abs(lags[1, 0]) < 0.02


def test_more_frames_mean_more_looks_but_not_as_many() -> None:
    counts = [looks(n) for n in (1, 4, 16, 64)]
    assert counts[0] == 1 and sorted(counts) == counts and counts[-1] < 64


def test_fourth_root_display() -> None:
    device = DEVICES["spectralis"]
    power = np.array([[0.0, (100 / 255) ** 4, 1.0, 5.0]])
    np.testing.assert_array_equal(
        display(power, np.zeros_like(power), device), [[0, 100, 255, 255]]
    )


def test_decibel_display() -> None:
    device = DEVICES["cirrus"]
    middle = 10 ** ((device.black + device.white) / 20)
    power = np.array([[1e-12, middle, 1.0]])
    np.testing.assert_array_equal(display(power, np.zeros_like(power), device), [[0, 128, 255]])


@pytest.mark.parametrize("name", list(DEVICES))
def test_devices_rank_by_noise_in_an_empty_eye(name: str) -> None:
    """Spectralis shows a dark vitreous, the others a grey one; all leave room for the retina."""
    device = DEVICES[name]
    power = np.zeros((128, 128), np.float32)
    noise = np.full_like(power, np.sqrt(np.prod(device.noise)))
    image = expose(
        power, noise, device, device.frames[0], (0.0075, 0.015), np.random.default_rng(0)
    )
    assert image.dtype == np.uint8
    assert (5 < image.mean() < 45) if name == "spectralis" else (20 < image.mean() < 110)
