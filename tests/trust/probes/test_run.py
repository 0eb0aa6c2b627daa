"""The registry of probes and what running them on a model gives."""

from __future__ import annotations

import json

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
