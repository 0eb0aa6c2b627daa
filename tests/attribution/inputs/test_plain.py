"""Saliency and input × gradient against captum, and closed forms."""

from __future__ import annotations

import pytest
import torch
from captum import attr
from torch import Tensor, nn

from attribution.inputs.nets import close, doubled
from octoscope.attribution.explain import explain
from octoscope.attribution.inputs.gradient import there_and_back
from octoscope.attribution.memory import graph_bytes
from octoscope.errors import OctoscopeError
from timm_families import FAMILIES, Family

NAMES = ("resnet10t", "vgg11", "convnext_atto", "vit_tiny_patch16_224", "swinv2_tiny_window8_256")
SOME = [family for family in FAMILIES if family.name in NAMES]
CLASSES = [3, 1, 0]


@pytest.mark.parametrize("family", SOME, ids=lambda f: f.name)
def test_captum(family: Family) -> None:
    model, images = doubled(family, 3)
    maps = explain(model, images, ["saliency", "input_x_gradient"], targets=CLASSES)
    close(maps["saliency"], attr.Saliency(model).attribute(images, CLASSES).amax(1))
    theirs = attr.InputXGradient(model).attribute(images.clone(), CLASSES)
    close(maps["input_x_gradient"], theirs.detach().sum(1))
    assert maps.native["saliency"].shape == (3, *family.size)


def test_affine_network() -> None:
    """M = max |w_c| and Σ w_c x, which sums to the logit less the bias."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 5, 2))
    images = torch.rand(2, 3, 4, 5)
    weights = model[1].weight.detach().view(2, 3, 4, 5)
    maps = explain(model, images, ["saliency", "input_x_gradient"], targets="all")
    assert maps["saliency"][0].allclose(weights.abs().amax(1))
    expected = (weights * images[:, None]).sum(2)
    assert maps["input_x_gradient"].allclose(expected, atol=1e-6)
    sums = maps["input_x_gradient"].sum((2, 3))
    assert sums.allclose(maps.logits - model[1].bias.detach(), atol=1e-5)


class InPlaceFirst(nn.Module):
    """Changes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.sub_(0.5).relu_().flatten(1))


def test_a_network_that_changes_its_input() -> None:
    torch.manual_seed(0)
    model, images = InPlaceFirst(), torch.rand(2, 1, 3, 4)
    before = images.clone()
    _, (found,) = there_and_back(model, lambda _logits: torch.tensor([[1], [0]]), images)
    weights = model.head.weight[[1, 0]].detach().view(2, 1, 3, 4)
    assert found.equal(weights * (before > 0.5)) and images.equal(before)
    assert graph_bytes(model, images) > 0 and images.equal(before)


def test_a_network_without_gradients() -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x.detach()).mean((2, 3))

    with pytest.raises(OctoscopeError, match="no gradient at the pixels"):
        explain(Detached(), torch.rand(1, 1, 4, 4), "saliency")
