"""The list of methods for people."""

from __future__ import annotations

import pytest
import timm
from torch import nn

import octoscope
from octoscope.attribution.registry import METHODS
from octoscope.errors import OctoscopeError


def test_all_methods_are_listed_with_what_they_need() -> None:
    found = octoscope.methods()
    assert [one.name for one in found] == list(METHODS)
    assert all(one.needs and one.sentence and one.family and one.paper for one in found)
    assert len(repr(found).splitlines()) == len(METHODS)
    needs = {one.name: one.needs for one in found}
    assert needs["gradcam"] == "a layer and its gradient"
    assert needs["eigencam"] == "a layer"
    assert needs["chefer"] == "attention and its gradient"
    assert needs["saliency"] == "gradients at the pixels"
    assert needs["occlusion"] == "many passes"
    assert needs["null_edges"] == "images"
    assert needs["consensus"] == "other maps"


def test_those_of_a_family_and_of_a_model() -> None:
    assert {one.family for one in octoscope.methods("attention")} == {"attention"}
    cnn: nn.Module = timm.create_model("test_resnet", in_chans=1)
    names = {one.name for one in octoscope.methods(model=cnn)}
    assert "gradcam" in names and "guided_backprop" in names and "rollout" not in names
    with pytest.raises(OctoscopeError, match=r'"cams" is no family \(did you mean "cam"'):
        octoscope.methods("cams")
