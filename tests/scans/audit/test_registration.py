"""Registration finds maps that are known, whatever pairs are registered together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from octoscope.scans.audit.registration import (
    Registrable,
    _laid,
    covered,
    register,
    resample,
)
from octoscope.scans.audit.thumbnail import SIDE

IDENTITY = np.eye(3)[:2]
MAPS = {
    "the same": IDENTITY,
    "shifted": np.array([[1, 0, 0.08], [0, 1, -0.05]]),
    "cut": np.array([[0.9, 0, 0.04], [0, 0.92, 0.02]]),
    "turned": np.array([[1, -0.04, 0], [0.04, 1, 0]]),
}


def picture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    waves = sum(gaussian_filter(rng.normal(size=(SIDE, SIDE)), s) * s for s in (1, 3, 8))
    return np.asarray(waves * 60 + 120, np.float32)


def far(one: np.ndarray, two: np.ndarray) -> float:
    """Return how many pixels apart two maps put a corner, at most."""
    return float(np.abs(one - two).sum(axis=1).max()) * SIDE / 2


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", MAPS)
def test_a_known_map_is_found(name: str, sign: int) -> None:
    whole = picture(3)
    part = resample(whole, MAPS[name])
    part = 255 - part if sign < 0 else part
    starts = IDENTITY[None]
    (found,) = register([Registrable(part)], [Registrable(whole)], starts, np.array([sign]))
    assert found is not None and far(found, MAPS[name]) < 0.5


def test_a_pair_is_registered_alone_as_among_others() -> None:
    wholes = [Registrable(picture(seed)) for seed in range(6)]
    parts = [Registrable(resample(whole.picture, MAPS["cut"])) for whole in wholes]
    wholes[2], wholes[4] = Registrable(picture(20)), Registrable(picture(40))  # of others
    starts, signs = np.repeat(IDENTITY[None], 6, axis=0), np.ones(6, np.int64)
    together = register(parts, wholes, starts, signs)
    assert [found is None for found in together] == [i in (2, 4) for i in range(6)]
    for i, found in enumerate(together):
        (alone,) = register([parts[i]], [wholes[i]], starts[i : i + 1], signs[i : i + 1])
        assert (alone is None) == (found is None)
        if found is not None and alone is not None:
            np.testing.assert_allclose(found, alone, atol=1e-5)
    assert register([], [], np.zeros((0, 2, 3)), np.zeros(0)) == []


def test_pictures_are_laid_as_scipy_lays_them() -> None:
    places = np.stack(list(MAPS.values()))
    pictures = np.stack([picture(seed) for seed in range(len(places))])
    laid, inside = _laid(pictures, places)
    for i, place in enumerate(places):
        np.testing.assert_allclose(laid[i], resample(pictures[i], place), atol=0.05)
        assert (inside[i] != covered(place, SIDE)).mean() < 1e-3  # a rounding at the very edge
