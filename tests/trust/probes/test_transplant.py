"""Surroundings from another class: followed by models that read them, and by no other."""

from __future__ import annotations

import numpy as np
import pytest

from octoscope.errors import OctoscopeError
from octoscope.evaluation.bootstrap import Weights
from octoscope.trust.probes.donors import (
    Pairs,
    draw_pairs,
    spread_over_patients,
    towards_donor,
)
from octoscope.trust.probes.probe import Scans, Subject
from octoscope.trust.probes.retina_box import retina_bands
from octoscope.trust.probes.transplant import transplant, transplanting

from .conftest import (
    CLASSES,
    Planter,
    border_sign,
    corner_sign,
    disease_sign,
    few,
    padding_sign,
    reading,
    subject,
)


@pytest.mark.parametrize(
    ("kind", "sign"),
    [("marker", corner_sign), ("size", padding_sign), ("border", border_sign)],
)
def test_fires_on_models_that_read_the_surroundings(planter: Planter, kind, sign) -> None:
    found = transplant(subject(getattr(planter, kind), reading(sign)))
    assert found.fires
    assert found.label == "DME"
    assert found.low > 0.25  # some retinas reach into the rows of the padding, and stay
    assert "DME" in found.sentence


def test_does_not_fire_on_a_model_that_reads_the_retina(planter: Planter) -> None:
    found = transplant(subject(planter.disease, reading(disease_sign)))
    assert found.fires is False
    assert abs(found.effect) < 0.02


def test_does_not_fire_where_the_artefact_is_in_no_class(clean: Scans) -> None:
    assert transplant(subject(clean, reading(corner_sign))).fires is False


def test_retina_stays_and_corner_changes_hands(planter: Planter) -> None:
    scans = planter.marker
    dme = CLASSES.index("DME")
    donor = np.flatnonzero(scans.targets == dme)[:1]
    recipient = np.flatnonzero(scans.targets != dme)[:1]
    before = scans.images.copy()
    edited = transplanting(scans)(recipient, donor)
    core = retina_bands(scans)[recipient]
    core[:, :, :6] = core[:, :, -6:] = False
    deep = core.copy()
    for step in range(1, 6):  # beyond the blended seam
        deep[:, step:] &= core[:, :-step]
        deep[:, :-step] &= core[:, step:]
    assert deep.any()
    assert np.array_equal(edited[deep], scans.images[recipient][deep])
    assert corner_sign(edited) == 1
    assert corner_sign(scans.images[recipient]) == 0
    assert np.array_equal(scans.images, before)


def test_each_scan_is_edited_alone(clean: Scans) -> None:
    edit = transplanting(clean)
    recipients, donors = np.array([0, 9, 20]), np.array([30, 2, 41])
    together = edit(recipients, donors)
    alone = np.concatenate([edit(recipients[i : i + 1], donors[i : i + 1]) for i in range(3)])
    assert np.array_equal(together, alone)


def test_donors_are_other_patients_of_every_class(clean: Scans) -> None:
    pairs = draw_pairs(subject(clean, reading(corner_sign)), each=2)
    assert (clean.patients[pairs.recipients] != clean.patients[pairs.donors]).all()
    assert len(pairs) == len(clean) * 4 * 2
    again = draw_pairs(subject(clean, reading(corner_sign)), each=2)
    assert np.array_equal(pairs.donors, again.donors)


def test_few_scans_are_spread_over_patients_and_classes(clean: Scans) -> None:
    rows = spread_over_patients(clean, range(4), most=24)
    assert np.bincount(clean.targets[rows]).tolist() == [6, 6, 6, 6]
    assert len(np.unique(clean.patients[rows])) == 24


def test_pull_by_hand() -> None:
    targets = np.array([0, 0, 1, 1])
    pairs = Pairs(np.array([0, 0, 2, 2]), np.array([1, 3, 3, 1]), [0, 1])
    said = np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.4, 0.6]])
    pull = towards_donor(said, pairs, targets)(Weights.once(4))
    # towards 0: recipient 2 with donor of 0 (0.4) minus own (0.2); towards 1: 0.7 - 0.1
    assert pull == pytest.approx(np.array([[0.2, 0.6]]))


def test_pairs_weigh_by_both_patients() -> None:
    targets = np.array([0, 0, 1, 1, 1])
    pairs = Pairs(np.array([0, 0, 0, 0]), np.array([1, 2, 3, 4]), [0, 1])
    said = np.array([[0.5, 0.5], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    weights = Weights(np.arange(5), np.array([[2], [1], [3], [1], [0]], dtype=np.uint8))
    # donors of class 1 weigh 6, 2 and 0: 6/8 of 1.0, less 0.5; nobody of class 1 receives
    pull = towards_donor(said, pairs, targets)(weights)
    assert pull[0, 1] == pytest.approx(0.25)
    assert np.isnan(pull[0, 0])


def test_too_few_patients_are_not_judged(planter: Planter) -> None:
    scans = few(planter.marker, 4)
    with pytest.raises(OctoscopeError, match="two patients"):
        transplant(subject(scans, reading(corner_sign)))


def test_two_classes_suffice(planter: Planter) -> None:
    scans = planter.marker
    kept = np.isin(scans.targets, [CLASSES.index("DME"), CLASSES.index("NORMAL")])
    two = Scans(scans.images[kept], scans.targets[kept], scans.patients[kept], scans.frame[kept])
    found = transplant(Subject(reading(corner_sign), CLASSES, two))
    assert found.fires
    assert found.patients == 12
