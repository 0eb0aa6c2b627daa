"""Integrated gradients against captum and their own completeness; baselines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from captum import attr
from torch import Tensor, nn

from attribution.inputs.nets import Rectifying, close, doubled
from octoscope.attribution.explain import explain
from octoscope.attribution.inputs.path import nodes
from octoscope.attribution.perturbation.baselines import baseline_of
from octoscope.errors import OctoscopeError
from timm_families import FAMILIES, Family

SOME = [
    replace(FAMILIES[0], size=(32, 64)),
    next(family for family in FAMILIES if family.name == "vit_tiny_patch16_224"),
]
CLASSES = [3, 1, 0]
NAME = "integrated_gradients"


@pytest.mark.parametrize("baseline", [0.0, 0.7])
@pytest.mark.parametrize("family", SOME, ids=lambda f: f.name)
def test_captum(family: Family, baseline: float) -> None:
    """The same nodes, so the same error of the rule, which both report."""
    model, images = doubled(family, 3)
    options = {NAME: {"steps": 12, "baseline": baseline}}
    found = explain(model, images, NAME, targets=CLASSES, options=options)
    theirs, delta = attr.IntegratedGradients(model).attribute(
        images, baseline, CLASSES, n_steps=12, return_convergence_delta=True
    )
    close(found[NAME], theirs.detach().sum(1))
    error = found.details[NAME]["completeness"]
    assert error.shape == (3,)
    scale = theirs.detach().abs().sum((1, 2, 3))
    assert ((error - delta) / scale).abs().max() < 1e-4


def test_fifty_steps_unless_told() -> None:
    model, images = Rectifying("modules").eval(), torch.rand(2, 3, 12, 16)
    found = explain(model, images, NAME, targets=1)[NAME]
    close(found, attr.IntegratedGradients(model).attribute(images, target=1).detach().sum(1))


def test_nodes_integrate_polynomials() -> None:
    """n nodes are exact up to degree 2n - 1 on [0, 1]."""
    places, weights = nodes(4)
    for degree in range(8):
        area = sum(w * p**degree for p, w in zip(places, weights, strict=True))
        assert abs(area - 1 / (degree + 1)) < 1e-12


class Quadratic(nn.Module):
    """y_c = Σ (a_c x)² + b_c: the gradient is linear, one node is exact."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 4 * 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return (self.head.weight * x.flatten(1)[:, None]).square().sum(2) + self.head.bias


@pytest.mark.parametrize("baseline", [0.0, 1.5, "mean", "blur"])
def test_closed_form_and_completeness(baseline: Any) -> None:
    """M = a_c² (x² - x'²), whatever the baseline."""
    torch.manual_seed(0)
    model, images = Quadratic(), torch.rand(2, 3, 4, 5)
    options = {NAME: {"steps": 1, "baseline": baseline}}
    found = explain(model, images, NAME, targets="all", options=options)
    start = baseline_of(images, baseline)
    squares = model.head.weight.detach().square().view(3, 1, 3, 4, 5)
    expected = (squares * (images**2 - start**2)).sum(2).transpose(0, 1)
    assert found[NAME].allclose(expected, atol=1e-5)
    assert found.details[NAME]["completeness"].shape == (2, 3)
    assert found.details[NAME]["completeness"].abs().max() < 1e-4
    rise = found.logits - model(start).detach()
    assert found[NAME].sum((2, 3)).allclose(rise, atol=1e-4)


def test_completeness_shrinks_with_steps() -> None:
    model, images = Rectifying("in place"), torch.rand(4, 3, 12, 16)

    def error(steps: int) -> float:
        found = explain(model, images, NAME, targets=2, options={NAME: {"steps": steps}})
        return float(found.details[NAME]["completeness"].abs().max())

    assert error(2) > 1e-5
    assert error(300) < error(2) / 10


def test_bfloat16_passes_do_not_blur_completeness() -> None:
    model, images = Quadratic(), torch.rand(2, 3, 4, 5)
    found = explain(model, images, NAME, targets=0, precision="bfloat16")
    assert found.details[NAME]["completeness"].abs().max() < 1e-5


def test_black_pixels_get_something_only_from_other_baselines() -> None:
    model, images = Rectifying("modules"), torch.rand(1, 3, 12, 16)
    images[..., 4:8, 4:8] = 0

    def inside(baseline: Any) -> Tensor:
        options = {NAME: {"steps": 4, "baseline": baseline}}
        return explain(model, images, NAME, targets=1, options=options)[NAME][:, 4:8, 4:8]

    assert not inside(0.0).any()
    assert inside("mean").all() and inside("blur").all()


def test_refused_settings() -> None:
    images = torch.rand(1, 3, 4, 5)
    with pytest.raises(OctoscopeError, match='did you mean "blur"'):
        explain(Quadratic(), images, NAME, options={NAME: {"baseline": "blurr"}})
    for wrong in (None, True):
        with pytest.raises(OctoscopeError, match="baseline"):
            explain(Quadratic(), images, NAME, options={NAME: {"baseline": wrong}})
    for steps in (0, 2.5, True):
        with pytest.raises(OctoscopeError, match="steps"):
            explain(Quadratic(), images, NAME, options={NAME: {"steps": steps}})
