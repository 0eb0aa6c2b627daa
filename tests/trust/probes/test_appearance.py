"""Contrast and speckle from another class: followed by models that read them, and by no other."""

from __future__ import annotations

import numpy as np
import pytest

from octoscope.trust.probes.appearance import appearance, restyling, speckle
from octoscope.trust.probes.probe import Scans

from .conftest import DME, Planter, corner_sign, disease_sign, reading, subject


def noisy(scans: Scans) -> Scans:
    """The scans with the noise of another instrument in all of class DME."""
    images = scans.images.copy()
    for place in np.flatnonzero(scans.targets == DME):
        noise = np.random.default_rng(place).normal(0, 60, images[place].shape)
        images[place] = np.clip(images[place] + 60 + noise, 0, 255).astype(np.uint8)
    return Scans(images, scans.targets, scans.patients, scans.frame)


def noise_sign(images: np.ndarray) -> np.ndarray:
    """1 where the first rows are noisy, else 0."""
    return (speckle(images)[:, :12].std(axis=(1, 2)) > 28).astype(float)


def test_the_toy_tells_the_instrument(clean: Scans) -> None:
    scans = noisy(clean)
    assert np.array_equal(noise_sign(scans.images) == 1, scans.targets == DME)


def test_fires_on_a_model_that_reads_the_noise(clean: Scans) -> None:
    found = appearance(subject(noisy(clean), reading(noise_sign)))
    assert found.fires
    assert found.label == "DME"
    assert found.low > 0.3


@pytest.mark.parametrize(("kind", "sign"), [("disease", disease_sign), ("marker", corner_sign)])
def test_does_not_fire_on_other_models(planter: Planter, kind, sign) -> None:
    found = appearance(subject(getattr(planter, kind), reading(sign)))
    assert found.fires is False


def test_a_scan_after_itself_stays_as_it_is(clean: Scans) -> None:
    own = np.arange(4)
    edited = restyling(clean)(own, own)
    assert np.abs(edited.astype(int) - clean.images[own]).max() <= 1


def test_padding_stays(planter: Planter) -> None:
    scans = planter.size
    dme, other = np.flatnonzero(scans.targets == DME)[:1], np.flatnonzero(scans.targets != DME)[:1]
    edited = restyling(scans)(dme, other)
    assert (edited[:, :12] == 0).all()


def test_each_scan_is_edited_alone(clean: Scans) -> None:
    edit = restyling(clean)
    recipients, donors = np.array([0, 9, 20]), np.array([30, 2, 41])
    together = edit(recipients, donors)
    alone = np.concatenate([edit(recipients[i : i + 1], donors[i : i + 1]) for i in range(3)])
    assert np.array_equal(together, alone)
