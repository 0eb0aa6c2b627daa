"""Weights that are forgotten for a while, and the stages they belong to."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from octoscope.errors import OctoscopeError
from octoscope.trust.sanity.randomise import randomised
from octoscope.trust.sanity.stages import stages_of

IMAGES = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class Scale(nn.Module):
    """A layer that does not know how to start over."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(3 + 0.1 * torch.randn(1000))
        self.register_buffer("index", torch.arange(3))


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_weights_change_and_come_back_to_the_bit_also_after_an_error() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    norm(torch.randn(8, 4, 5, 5))
    parts = [("conv", nn.Conv2d(3, 4, 3)), ("norm", norm), ("scale", Scale())]
    model = nn.ModuleDict(parts)
    before, ids = state(model), [id(p) for p in model.parameters()]
    torch.manual_seed(5)
    draw = torch.rand(1)
    torch.manual_seed(5)
    with pytest.raises(ValueError, match="inside"), randomised(parts, seed=1):
        inside = state(model)
        raise ValueError("inside")
    assert torch.equal(torch.rand(1), draw)  # the generator goes on as if nothing was drawn
    assert not torch.equal(inside["conv.weight"], before["conv.weight"])
    assert inside["norm.running_mean"].eq(0).all() and inside["norm.running_var"].eq(1).all()
    gain = inside["scale.gain"]
    assert not torch.equal(gain, before["scale.gain"])
    assert gain.mean() == pytest.approx(3, abs=0.03) and gain.std() == pytest.approx(0.1, abs=0.02)
    assert torch.equal(inside["scale.index"], before["scale.index"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [id(p) for p in model.parameters()] == ids


def test_the_draw_is_of_seed_and_name() -> None:
    one, two = nn.Linear(4, 4), nn.Linear(4, 4)
    with randomised([("a", one), ("b", two)], seed=0):
        first = one.weight.clone()
        assert not torch.equal(one.weight, two.weight)
    with randomised([("a", two)], seed=0):
        assert torch.equal(two.weight, first)
    with randomised([("a", one)], seed=1):
        assert not torch.equal(one.weight, first)


def test_shared_tensors_and_nested_contexts_are_restored() -> None:
    one, two = nn.Linear(4, 4), nn.Linear(4, 4)
    two.weight = one.weight
    before = one.weight.clone()
    with randomised([("one", one), ("two", two)]):
        assert one.weight is two.weight
        with randomised([("two", two)], seed=3):
            assert not torch.equal(one.weight, before)
    assert one.weight is two.weight and torch.equal(one.weight, before)


def test_the_stages_of_a_resnet_and_a_transformer() -> None:
    model = timm.create_model("resnet18", num_classes=3)
    before = state(model)
    names = [stage.name for stage in stages_of(model, IMAGES)]
    assert names == ["fc", "layer4", "layer3", "layer2", "layer1", "conv1…bn1"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training
    vit = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=12, embed_dim=12,
                            num_heads=2, num_classes=3)  # fmt: skip
    stages = stages_of(vit, IMAGES)
    assert stages[0].name == "head" and stages[-1].name.startswith("input") and len(stages) == 8
    held = [id(p) for s in stages for m in s.modules for p in m.parameters(recurse=False)]
    assert sorted(held) == sorted(id(p) for p in vit.parameters())  # each in one stage
    assert [s.name for s in stages_of(vit, IMAGES, most=2)] == ["head", "input…norm"]


def test_a_model_without_stages_is_refused() -> None:
    nothing = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(OctoscopeError, match="no parameters"):
        stages_of(nothing, IMAGES)
    with pytest.raises(OctoscopeError, match="1 stages"):
        stages_of(timm.create_model("resnet18"), IMAGES, most=1)
