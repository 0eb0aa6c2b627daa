"""SmoothGrad and GradientSHAP: captum with the same draws, and what draws must not depend on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from captum import attr
from torch import Tensor, nn

from attribution.inputs.nets import Rectifying, close, doubled
from octoscope.attribution.explain import explain
from octoscope.attribution.inputs.expected import drawn
from octoscope.attribution.inputs.gradient import noise
from octoscope.errors import OctoscopeError
from timm_families import FAMILIES, Family

SOME = [
    replace(FAMILIES[0], size=(32, 64)),
    next(family for family in FAMILIES if family.name == "vit_tiny_patch16_224"),
]
N = 6


def draws(like: Tensor) -> Tensor:
    """ε of all samples, (n, C, *S)."""
    return torch.stack([noise(k, like.shape[1:], like) for k in range(N)])


@pytest.mark.parametrize("family", SOME, ids=lambda f: f.name)
def test_smoothgrad_is_captums(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = doubled(family, 2)
    images[1] = images[1] * 0.3 + 0.2  # another range, so another σ
    options = {"smoothgrad": {"samples": N, "noise": 0.2}}
    found = explain(model, images, "smoothgrad", targets=[2, 1], options=options)["smoothgrad"]
    monkeypatch.setattr(torch, "normal", lambda _mean, stdev: stdev * draws(images))
    tunnel = attr.NoiseTunnel(attr.Saliency(model))
    for b, target in enumerate([2, 1]):
        image = images[b : b + 1]
        sigma = 0.2 * float(image.max() - image.min())
        theirs = tunnel.attribute(
            image, nt_samples=N, stdevs=sigma, target=target, abs=False, nt_type="smoothgrad"
        )
        close(found[b : b + 1], theirs.abs().amax(1))


@pytest.mark.parametrize("family", SOME, ids=lambda f: f.name)
def test_gradient_shap_is_captums(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several baselines, no noise, for which captum's definition is the same."""
    model, images = doubled(family, 2)
    baselines = family.images(3, seed=9).double()
    options = {"gradient_shap": {"samples": N, "stdev": 0, "baseline": baselines}}
    found = explain(model, images, "gradient_shap", targets=[2, 1], options=options)
    same = drawn(N, 3)
    assert len(set(same.baselines)) > 1
    monkeypatch.setattr(np.random, "uniform", lambda *_: np.tile(same.places, 2))
    monkeypatch.setattr(np.random, "choice", lambda *_: np.tile(same.baselines, 2))
    theirs = attr.GradientShap(model).attribute(
        images, baselines, n_samples=N, stdevs=0.0, target=[2, 1]
    )
    close(found["gradient_shap"], theirs.detach().sum(1))


def test_gradient_shap_with_noise_is_its_equation() -> None:
    model, images = Rectifying("in place"), torch.rand(3, 3, 10, 14)
    options = {"gradient_shap": {"samples": N, "stdev": 0.3, "baseline": 0.4}}
    found = explain(model, images, "gradient_shap", targets=1, options=options)["gradient_shap"]
    places = drawn(N, 1).places
    for b in range(3):
        x = images[b : b + 1]
        sigma = 0.3 * (x.max() - x.min())
        total = torch.zeros(1, 10, 14)
        for k in range(N):
            point = 0.4 + places[k] * (x + sigma * noise(k, x.shape[1:], x) - 0.4)
            point.requires_grad_()
            (g,) = torch.autograd.grad(model(point)[0, 1], point)
            total += ((x - 0.4) * g).sum(1) / N
        close(found[b : b + 1], total)


def test_draws_of_places() -> None:
    """One in each n-th of the unit interval, baselines of every number."""
    many = drawn(1000, 4)
    places = np.array(many.places)
    assert (np.floor(places * 1000) == np.arange(1000)).all()
    within = places * 1000 % 1
    assert abs(within.mean() - 0.5) < 0.05 and abs(within.std() - 12**-0.5) < 0.02
    assert np.bincount(many.baselines, minlength=4).min() > 200


def test_draws_of_noise() -> None:
    """Standard normal, other for every sample, the same every time."""
    like = torch.zeros(1)
    first, second = (noise(k, torch.Size([3, 100, 100]), like) for k in (0, 1))
    assert abs(float(first.mean())) < 0.02 and abs(float(first.std()) - 1) < 0.02
    assert abs(float((first * second).mean())) < 0.02
    assert noise(0, torch.Size([3, 100, 100]), like).equal(first)


def test_affine_network_needs_no_samples() -> None:
    """The gradient is w everywhere: SmoothGrad is |w|, GradientSHAP is w (x - mean x')."""
    torch.manual_seed(0)
    model, images = nn.Sequential(nn.Flatten(), nn.Linear(20, 2)), torch.rand(2, 1, 4, 5)
    weights = model[1].weight.detach().view(2, 4, 5)
    baselines = torch.rand(2, 1, 4, 5)
    options = {"gradient_shap": {"samples": 40, "baseline": baselines}}
    names = ["smoothgrad", "gradient_shap"]
    found = explain(model, images, names, targets="all", options=options)
    assert found["smoothgrad"][1].allclose(weights.abs(), atol=1e-6)
    chosen = baselines[drawn(40, 2).baselines, 0].mean(0)
    assert found["gradient_shap"].allclose(weights * (images - chosen), atol=1e-6)


def test_without_noise_smoothgrad_is_saliency() -> None:
    model, images = Rectifying("modules"), torch.rand(2, 3, 10, 14)
    for options, given in (
        ({"smoothgrad": {"samples": 3, "noise": 0}}, images),
        ({"smoothgrad": {"samples": 3}}, torch.full_like(images, 0.5)),  # no range, no noise
    ):
        found = explain(model, given, ["smoothgrad", "saliency"], targets=0, options=options)
        close(found["smoothgrad"], found["saliency"], 1e-6)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("smoothgrad", {"samples": 0}, "samples=0"),
        ("smoothgrad", {"noise": -0.1}, "noise=-0.1"),
        ("smoothgrad", {"noise": "much"}, "noise='much'"),
        ("gradient_shap", {"samples": 1.5}, "samples=1.5"),
        ("gradient_shap", {"stdev": float("inf")}, "stdev=inf"),
        ("gradient_shap", {"baseline": "black"}, 'baseline "black"'),
        ("gradient_shap", {"baseline": torch.zeros(2, 3, 9, 9)}, "2×3×9×9"),
        ("gradient_shap", {"baseline": torch.zeros(0, 3, 10, 14)}, "at least one"),
    ],
)
def test_refused_settings(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(OctoscopeError) as refusal:
        explain(Rectifying("modules"), torch.rand(1, 3, 10, 14), name, options={name: options})
    assert says in str(refusal.value)
