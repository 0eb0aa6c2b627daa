"""Baselines and superpixels given as tensors, for all images or for each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from octoscope.attribution.explain import explain
from octoscope.attribution.maps import Maps
from octoscope.errors import OctoscopeError

IMAGES = torch.rand(3, 2, 12, 16, generator=torch.Generator().manual_seed(1))
EACH = torch.rand(3, 2, 12, 16, generator=torch.Generator().manual_seed(2))
QUICK: dict[str, dict[str, Any]] = {
    "occlusion": {"window": 8, "stride": 4},
    "feature_ablation": {"segments": torch.arange(12).view(12, 1).expand(12, 16) // 3},
    "integrated_gradients": {"steps": 4},
}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    convolution = nn.Conv2d(2, 4, 3, padding=1)
    return nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 12 * 16, 3)).eval()


def with_baseline(model: nn.Module, name: str, baseline: Any, images: Tensor, **more: Any) -> Maps:
    options = {name: {**QUICK[name], "baseline": baseline}}
    return explain(model, images, name, 1, options=options, **more)


@pytest.mark.parametrize("name", QUICK)
def test_a_baseline_per_image_is_each_image_with_its_own(model: nn.Module, name: str) -> None:
    """Also where the images go through in pieces."""
    alone = [with_baseline(model, name, EACH[k : k + 1], IMAGES[k : k + 1])[name] for k in range(3)]
    for size in (None, 2, 1):
        found = with_baseline(model, name, EACH, IMAGES, batch_size=size)
        torch.testing.assert_close(found[name], torch.cat(alone))


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize(
    ("tensor", "plain"),
    [
        (torch.tensor(0.25), 0.25),
        (torch.full((2, 12, 16), 0.25), 0.25),
        (torch.full((1, 1, 1, 1), 0.25, dtype=torch.float64), 0.25),
        (IMAGES.mean((2, 3), keepdim=True), "mean"),
    ],
)
def test_tensors_that_are_a_number_or_the_mean(
    model: nn.Module, name: str, tensor: Tensor, plain: Any
) -> None:
    found = with_baseline(model, name, tensor, IMAGES)[name]
    torch.testing.assert_close(found, with_baseline(model, name, plain, IMAGES)[name])


def test_superpixels_are_what_is_replaced(model: nn.Module) -> None:
    """By brute force: one pass per superpixel, numbers in any order and with gaps."""
    draw = torch.Generator().manual_seed(3)
    numbers = torch.tensor([7, -2, 40, 5])
    segments = numbers[torch.randint(4, (3, 12, 16), generator=draw)]
    expected = torch.zeros(3, 12, 16)
    with torch.no_grad():
        for k in range(3):
            for number in numbers:
                inside = segments[k] == number
                covered = IMAGES[k].clone()
                covered[:, inside] = EACH[k][:, inside]
                drop = model(IMAGES[k : k + 1])[0, 1] - model(covered[None])[0, 1]
                expected[k][inside] = drop
    options = {"feature_ablation": {"segments": segments, "baseline": EACH}}
    maps = explain(model, IMAGES, "feature_ablation", 1, options=options, batch_size=2)
    torch.testing.assert_close(maps["feature_ablation"], expected, atol=1e-6, rtol=1e-4)
    assert maps.details["feature_ablation"]["superpixels"].amax((1, 2)).tolist() == [3, 3, 3]
    alike = {"feature_ablation": {"segments": segments[0]}}
    repeated = {"feature_ablation": {"segments": segments[:1].expand(3, 12, 16)}}
    one, other = (explain(model, IMAGES, "feature_ablation", options=o) for o in (alike, repeated))
    assert one["feature_ablation"].equal(other["feature_ablation"])
    plan = explain(model, IMAGES, "feature_ablation", options=options, dry_run=True)
    assert plan.forwards == 1 + 4


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("occlusion", {"baseline": torch.zeros(2, 2, 12, 16)}, "baseline has 2 rows.*3 images"),
        ("occlusion", {"baseline": torch.zeros(5, 12, 16)}, r"\(5, 12, 16\) does not fit images"),
        ("integrated_gradients", {"baseline": torch.tensor(torch.nan)}, "no finite numbers"),
        ("occlusion", {"baseline": torch.zeros(12, 16) > 0}, "no finite numbers"),
        ("feature_ablation", {"segments": torch.zeros(2, 12, 16).long()}, "segments has 2 rows"),
        ("feature_ablation", {"segments": torch.zeros(12, 12).long()}, "do not fit 3 images"),
        ("feature_ablation", {"segments": torch.zeros(12, 16)}, "give whole numbers"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    model: nn.Module, name: str, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(OctoscopeError, match=sentence) as caught:
        explain(model, IMAGES, name, options={name: settings})
    assert "\n" not in str(caught.value)


def test_mirrored_versions_have_no_tensor_of_their_own(model: nn.Module) -> None:
    with pytest.raises(OctoscopeError, match="leave out tta"):
        with_baseline(model, "occlusion", EACH, IMAGES, tta=True)
