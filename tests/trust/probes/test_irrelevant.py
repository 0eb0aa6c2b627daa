"""Edits that should not matter: the worst is named, and few models are alarms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from octoscope.trust.probes.irrelevant import EDITS, irrelevant
from octoscope.trust.probes.probe import Scans

from .conftest import DME, Planter, few, reading, subject


def brittle(images: np.ndarray) -> np.ndarray:
    """1 where the last bit of the first pixel is set, else 0."""
    return (images[:, 0, 0] % 2).astype(float)


def hung_on_a_bit(scans: Scans) -> Scans:
    """The scans with the last bit of the first 8 pixels set in class DME, and only there."""
    images = scans.images.copy()
    images[:, :8, :8] = 40 + (scans.targets == DME)[:, None, None]
    return Scans(images, scans.targets, scans.patients, scans.frame)


def test_fires_on_a_model_that_hangs_on_a_bit(clean: Scans) -> None:
    found = irrelevant(subject(hung_on_a_bit(clean), reading(brittle)))
    assert found.fires
    assert found.effect >= 0.25
    assert set(found.details["lost"]) == set(EDITS)


def test_does_not_fire_on_a_model_that_no_edit_moves(planter: Planter) -> None:
    found = irrelevant(subject(planter.disease, reading(bright)))
    assert found.fires is False
    assert abs(found.effect) < 0.1


def bright(images: np.ndarray) -> np.ndarray:
    """1 where a patch inside of the scan is far brighter than tissue, else 0."""
    return (ndimage.uniform_filter(images.astype(float), (0, 3, 7)).max(axis=(1, 2)) > 215) * 1.0


def constant(images: np.ndarray) -> np.ndarray:
    return np.zeros(len(images))


@pytest.mark.parametrize("name", list(EDITS))
def test_edits_are_mild_and_repeatable(clean: Scans, name: str) -> None:
    image = clean.images[3]
    before = image.copy()
    edited = EDITS[name](image)
    assert edited.shape == image.shape
    assert edited.dtype == np.uint8
    assert np.array_equal(edited, EDITS[name](image))
    assert not np.array_equal(edited, image)
    assert np.array_equal(image, before)
    assert abs(edited.mean() - image.mean()) < 15


def test_a_scan_is_shifted_down_by_three_per_cent(clean: Scans) -> None:
    image = clean.images[0]
    assert np.array_equal(EDITS["shifted down"](image)[3:], image[:-3])


def test_too_few_patients_are_not_judged(clean: Scans) -> None:
    assert irrelevant(subject(few(clean, 4), reading(constant))).fires is None
