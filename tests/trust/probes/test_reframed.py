"""One frame for all scans: missed by models that read their size, and by no other."""

from __future__ import annotations

import numpy as np

from octoscope.trust.probes.probe import Scans
from octoscope.trust.probes.reframed import in_one_frame, reframed
from octoscope.trust.probes.retina_box import retina_bands

from .conftest import DME, HEIGHT, WIDTH, Planter, disease_sign, few, padding_sign, reading, subject


def test_fires_on_a_model_that_reads_the_padding(planter: Planter) -> None:
    scans = planter.size
    found = reframed(subject(scans, reading(padding_sign)))
    assert found.fires
    assert found.label == "DME"
    # Right besides DME was the first of four classes; those whose retina reaches up stay right.
    assert 0.1 < found.effect <= 0.25
    assert found.details["changed"] == int((scans.targets != DME).sum())


def test_does_not_fire_on_a_model_that_reads_the_retina(planter: Planter) -> None:
    scans = planter.size
    images = np.where(scans.images == 0, scans.images, planter.disease.images)
    both = Scans(images, scans.targets, scans.patients, scans.frame)
    found = reframed(subject(both, reading(disease_sign)))
    assert found.fires is False
    assert found.effect == 0


def test_nothing_changes_where_all_frames_are_alike(clean: Scans) -> None:
    found = reframed(subject(clean, reading(padding_sign)))
    assert found.fires is False
    assert (found.effect, found.low, found.high) == (0, 0, 0)
    assert "one size already" in found.sentence


def test_the_retina_is_never_covered(planter: Planter) -> None:
    one = subject(planter.size, reading(padding_sign))
    edited, box = in_one_frame(one)
    assert box == (12, 0, HEIGHT - 12, WIDTH)
    bands = retina_bands(one.scans)
    assert np.array_equal(edited[bands], one.scans.images[bands])
    assert (edited[:, :12][~bands[:, :12]] == 0).all()


def test_too_few_patients_are_not_judged(planter: Planter) -> None:
    found = reframed(subject(few(planter.size, 4), reading(padding_sign)))
    assert found.fires is None
