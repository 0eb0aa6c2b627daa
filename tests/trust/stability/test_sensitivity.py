"""Max-sensitivity by hand and against Captum and Quantus on the same noise."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from captum.metrics import sensitivity_max
from quantus import MaxSensitivity
from torch import Tensor, nn

from octoscope.attribution.explain import explain
from octoscope.errors import OctoscopeError
from octoscope.trust.stability.sensitivity import max_sensitivity, noisy

IMAGES = torch.rand(3, 1, 12, 10, generator=torch.Generator().manual_seed(1))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3, stride=2, padding=1),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    ).eval()


def test_the_largest_relative_distance_counts() -> None:
    original = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]])  # length 5
    changed = torch.tensor([[[[3.0, 5.0], [0, 0]]], [[[0.0, 0.0], [0, 0]]], [[[3.0, 4.0], [0, 2]]]])
    assert max_sensitivity(original, changed).tolist() == [1.0]  # distances 1, 5 and 2
    assert max_sensitivity(original, changed[::2]).tolist() == [pytest.approx(0.4)]
    assert max_sensitivity(original, original[None]).tolist() == [0.0]
    assert max_sensitivity(original, -original[None]).tolist() == [2.0]


def test_the_unit_of_a_map_does_not_matter() -> None:
    original, changed = torch.randn(2, 5, 6), torch.randn(4, 2, 5, 6)
    torch.testing.assert_close(
        max_sensitivity(original * 64, changed * 64), max_sensitivity(original, changed)
    )


def test_maps_that_say_nothing_are_undefined() -> None:
    original = torch.rand(5, 3, 4)
    original[0] = 0
    original[1] = 2.0
    original[2, 0, 0] = torch.nan
    changed = torch.rand(2, 5, 3, 4)
    changed[1, 3, 1, 1] = torch.inf
    score = max_sensitivity(original, changed)
    assert score.isnan().tolist() == [True, True, True, True, False]
    assert score.dtype == torch.float64


def test_a_map_that_vanishes_has_moved_by_its_length() -> None:
    assert max_sensitivity(torch.rand(1, 3, 4), torch.zeros(1, 1, 3, 4)).tolist() == [1.0]


def test_any_number_of_axes() -> None:
    flat, changed = torch.randn(2, 24), torch.randn(3, 2, 24)
    expected = max_sensitivity(flat, changed, axes=1)
    volumes = max_sensitivity(flat.view(2, 2, 3, 4), changed.view(3, 2, 2, 3, 4), axes=3)
    torch.testing.assert_close(volumes, expected)


def test_maps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(OctoscopeError, match="no draws of maps"):
        max_sensitivity(torch.rand(2, 4, 4), torch.rand(3, 4, 4))


def test_noise_fills_the_ball_and_no_more() -> None:
    images = torch.rand(2, 1, 64, 64)
    noise = noisy(images, 3, 0.05) - images
    assert noise.shape == (3, 2, 1, 64, 64)
    assert 0.049 < noise.abs().max() <= 0.05 + 1e-6
    assert abs(float(noise.mean())) < 0.001
    assert float(noise.std()) == pytest.approx(0.1 / 12**0.5, rel=0.02)
    draws = noise.flatten(2).flatten(0, 1)
    assert torch.corrcoef(draws).fill_diagonal_(0).abs().max() < 0.1  # of draws and of scans


def test_noise_follows_from_the_scan_and_the_seed_alone() -> None:
    images = torch.rand(4, 1, 8, 9)
    whole = noisy(images, 2, 0.1, seed=3)
    torch.testing.assert_close(noisy(images[2:3], 2, 0.1, seed=3), whole[:, 2:3], rtol=0, atol=0)
    torch.testing.assert_close(noisy(images.flip(0), 2, 0.1, seed=3), whole.flip(1), rtol=0, atol=0)
    assert not torch.equal(noisy(images, 2, 0.1, seed=4), whole)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    noisy(images, 2, 0.1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("draws", "radius"), [(0, 0.1), (2, 0.0), (2, -1.0), (2, float("nan"))])
def test_noise_that_makes_no_sense_is_refused(draws: int, radius: float) -> None:
    with pytest.raises(OctoscopeError):
        noisy(IMAGES, draws, radius)


def saliency(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    return explain(model, images, "gradcam", target, signed=True)["gradcam"]


def as_tensor(images: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Captum passes on the images it was given in a tuple, and changed ones as a tensor."""
    return images[0] if isinstance(images, tuple) else images


def test_as_captum() -> None:
    model, target = network(), torch.tensor([2, 0, 1])
    draws = noisy(IMAGES, 5, 0.1)
    ours = max_sensitivity(
        saliency(model, IMAGES, target), torch.stack([saliency(model, d, target) for d in draws])
    )
    theirs = sensitivity_max(
        lambda images, target: (saliency(model, as_tensor(images), target).unsqueeze(1),),
        IMAGES,
        perturb_func=lambda _, __: draws.transpose(0, 1).flatten(0, 1),  # Captum: scan by scan
        n_perturb_samples=5,
        target=target,
    )
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-5, atol=1e-6)
    assert (ours > 0.001).all()


def test_as_quantus() -> None:
    model, target = network(), torch.tensor([2, 0, 1])
    draws = noisy(IMAGES, 5, 0.1)
    original = saliency(model, IMAGES, target)
    given = iter(draws.flatten(2).numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = MaxSensitivity(
            nr_samples=5,
            perturb_func=lambda arr, **_: next(given),
            disable_warnings=True,
            return_aggregate=False,
        )
        theirs = metric(
            model=model,
            x_batch=IMAGES.numpy(),
            y_batch=target.numpy(),
            a_batch=original.unsqueeze(1).numpy(),
            explain_func=lambda model, inputs, targets, **_: saliency(
                model, torch.as_tensor(inputs), torch.as_tensor(targets)
            )[:, None].numpy(),
        )
    ours = max_sensitivity(original, torch.stack([saliency(model, d, target) for d in draws]))
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5)
