"""Border, corners and signs taken away, one at a time."""

from __future__ import annotations

import numpy as np
import pytest

from octoscope.trust.probes.blanked import PARTS, asked, blanked, controls, judged
from octoscope.trust.probes.probe import Finding, Scans, Subject

from .conftest import (
    DME,
    Planter,
    border_sign,
    corner_sign,
    disease_sign,
    few,
    padding_sign,
    reading,
    subject,
)


def by_key(found: list[Finding]) -> dict[str, Finding]:
    return {one.probe: one for one in found}


def test_a_model_that_reads_a_corner_marker(planter: Planter) -> None:
    found = by_key(blanked(subject(planter.marker, reading(corner_sign))))
    for probe in ("corners_blanked", "text_blanked"):
        one = found[probe]
        assert one.fires and one.label == "DME"
        assert one.details["recall_lost"]["DME"]["value"] == pytest.approx(1)
        assert one.effect == pytest.approx(1 / 4)  # the recall of one class of four
        assert one.details["lost_elsewhere"]["value"] == 0
        assert one.details["true_class_probability"]["value"] < -0.2
        assert "most in DME (100 points of its recall)" in one.sentence
    assert found["corners_blanked"].details["flipped"] == 12 / 48


def test_a_model_that_reads_a_white_border(planter: Planter) -> None:
    found = by_key(blanked(subject(planter.border, reading(border_sign))))
    assert found["border_blanked"].fires and found["border_blanked"].label == "DME"
    assert found["border_blanked"].effect == pytest.approx(0.25)


def test_a_model_that_reads_the_disease(planter: Planter) -> None:
    for one in blanked(subject(planter.disease, reading(disease_sign))):
        assert not one.fires
        assert one.fires is None or (one.effect == 0 and one.label == "")


def test_padding_is_no_border_of_the_scan(planter: Planter) -> None:
    for one in blanked(subject(planter.size, reading(padding_sign))):
        assert not one.fires


def test_a_model_that_any_edit_disturbs_does_not_hang_on_the_edited(clean: Scans) -> None:
    seen = clean.images.reshape(len(clean), -1)

    def predict(images: np.ndarray) -> np.ndarray:
        known = [(seen == image.ravel()).all(axis=1).argmax() for image in images]
        unchanged = [(seen[k] == i.ravel()).all() for k, i in zip(known, images, strict=True)]
        return np.eye(4, dtype=np.float32)[np.where(unchanged, clean.targets[known], 0)]

    found = by_key(blanked(subject(clean, predict)))
    corners = found["corners_blanked"]
    assert corners.details["lost"]["value"] == 0.75
    assert corners.details["lost_elsewhere"]["value"] == 0.75
    assert corners.effect == 0 and corners.fires is False


def test_controls_lie_beside_and_where_they_may() -> None:
    masks, allowed = np.zeros((1, 4, 8), bool), np.ones((1, 4, 8), bool)
    masks[0, 0, :2] = True
    allowed[0, 0, 4] = False
    moved = controls(masks, allowed)
    assert np.argwhere(moved[0]).tolist() == [[0, 5]]


def test_only_changed_scans_are_asked_again(clean: Scans) -> None:
    calls: list[int] = []

    def predict(images: np.ndarray) -> np.ndarray:
        calls.append(len(images))
        return reading(corner_sign)(images)

    one = Subject(predict, ["CNV", "DME", "DRUSEN", "NORMAL"], clean)
    edited = clean.images.copy()
    edited[3:5] += 1
    asked(one, edited)
    asked(one, clean.images)
    assert calls == [len(clean), 2]


def test_where_no_scan_has_it_the_probe_is_not_run(clean: Scans) -> None:
    one = subject(clean, reading(corner_sign))
    none = np.zeros(len(clean), bool)
    found = judged(one, PARTS[2], none, clean.images, clean.images)
    assert found.fires is None
    assert found.sentence == "Not run: no scan has letters and signs."


def test_four_patients_are_too_few(planter: Planter) -> None:
    scans = few(planter.marker, 8)
    kept = np.isin(scans.targets, [0, DME])
    scans = Scans(scans.images[kept], scans.targets[kept], scans.patients[kept], scans.frame[kept])
    found = by_key(blanked(subject(scans, reading(corner_sign))))["corners_blanked"]
    assert found.effect == pytest.approx(0.5)
    assert found.fires is None and "4 patients are too few" in found.sentence
