"""The registry of probes and what running them on a model gives."""

from __future__ import annotations

import json

import numpy as np
import pytest

from octoscope.errors import OctoscopeError
from octoscope.trust.probes.probe import Finding, Scans
from octoscope.trust.probes.run import PROBES, probe_model

from .conftest import Planter, corner_sign, few, padding_sign, reading, subject


def test_every_probe_is_described() -> None:
    for probe in PROBES.values():
        assert probe.title
        assert probe.sentence.endswith("?")
        assert probe.source


def test_every_finding_is_plain(planter: Planter) -> None:
    keys = ["transplant", "appearance", "reframed", "irrelevant"]
    found = probe_model(subject(few(planter.size, 12), reading(padding_sign)), keys)
    assert all(isinstance(one, Finding) for one in found)
    assert [one.probe for one in found] == keys
    json.dumps([one.to_dict() for one in found])


def test_chosen_probes_alone(clean: Scans) -> None:
    found = probe_model(subject(clean, reading(corner_sign)), ["reframed", "transplant"])
    assert [one.probe for one in found] == ["reframed", "transplant"]


def test_what_cannot_be_run_says_why(clean: Scans) -> None:
    (found,) = probe_model(subject(few(clean, 4), reading(corner_sign)), ["transplant"])
    assert found.fires is None
    assert "fewer than two classes" in found.sentence


def test_unknown_probe_is_named(clean: Scans) -> None:
    with pytest.raises(OctoscopeError, match="did you mean"):
        probe_model(subject(clean, reading(corner_sign)), ["transplants"])


def without_some(clean: Scans, count: int) -> Scans:
    """24 scans, the first `count` of which are noise: no retina is found in them."""
    scans = few(clean, 12)
    images = scans.images.copy()
    images[:count] = np.random.default_rng(0).integers(0, 256, images[:count].shape)
    return Scans(images, scans.targets, scans.patients, scans.frame)


def test_scans_without_a_retina_are_left_out_and_counted(clean: Scans) -> None:
    scans = without_some(clean, 3)
    asked: list[int] = []

    def predict(images: np.ndarray) -> np.ndarray:
        asked.append(len(images))
        return reading(corner_sign)(images)

    found = probe_model(subject(scans, predict), ["blanked", "reframed"])
    *blanked, reframed = found
    for one in blanked:
        assert one.sentence.endswith(" 3 of 24 scans left out: no retina was found in them.")
        assert one.details["left_out"] == 3 and one.scans <= 21
    assert "left out" not in reframed.sentence and "left_out" not in reframed.details
    assert max(asked) == 24  # the scans as they are; no edited scan is one of those left out


def test_without_any_retina_a_probe_is_not_run(clean: Scans) -> None:
    (found,) = probe_model(subject(without_some(clean, 24), reading(corner_sign)), ["transplant"])
    assert found.fires is None
    assert found.sentence == "Not run: no retina was found in any of 24 scans."
