"""Feature ablation against captum, and planted models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import FeatureAblation as TheirFeatureAblation
from torch import Tensor, nn

from octoscope.attribution.explain import explain
from octoscope.attribution.perturbation.ablation import FeatureAblation, superpixels
from octoscope.attribution.perturbation.baselines import baseline_of
from octoscope.errors import OctoscopeError
from timm_families import FAMILIES

RESNET = FAMILIES[0]
KEY = "feature_ablation"


def ablated(model: nn.Module, images: Tensor, targets: Any = None, **options: Any) -> Any:
    return explain(model, images, KEY, targets=targets, options={KEY: options})


def blocks(count: int, channels: int, size: tuple[int, ...]) -> Tensor:
    """Noisy images with structure, so that superpixels differ from image to image."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(count, channels, *[-(-side // 8) for side in size], generator=generator)
    for axis in range(2, coarse.ndim):
        coarse = coarse.repeat_interleave(8, axis)
    noise = torch.rand(count, channels, *size, generator=generator)
    return coarse[(..., *(slice(side) for side in size))] + 0.1 * noise


@pytest.mark.parametrize("baseline", [0.0, 0.4, "mean", "blur"])
def test_captum(baseline: float | str) -> None:
    model, images = RESNET.build(), blocks(3, 3, (64, 96))
    ours = ablated(model, images, [0, 2, 3], segments=12, baseline=baseline)
    labels = ours.details[KEY]["superpixels"]
    assert not labels[0].equal(labels[1])
    for b, c in enumerate([0, 2, 3]):
        with torch.no_grad():
            theirs = TheirFeatureAblation(model).attribute(
                images[b : b + 1],
                feature_mask=labels[b][None, None],
                baselines=baseline_of(images[b : b + 1], baseline),
                target=c,
                perturbations_per_eval=4,
            )[0, 0]
        assert theirs.abs().max() > 0
        assert (ours[KEY][b] - theirs).abs().max() <= 1e-4 * theirs.abs().max()


class Left(nn.Module):
    """Reads the left half for class 0, the right for class 1, whatever the number of axes."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        Left.calls += 1  # of the class: what is explained is a view
        half = x.shape[-1] // 2
        return torch.stack([x[..., :half].flatten(1).sum(1), x[..., half:].flatten(1).sum(1)], 1)


@pytest.mark.parametrize("size", [(24, 40), (6, 16, 24)])
def test_planted_halves(size: tuple[int, ...]) -> None:
    """Superpixels of two flat halves do not cross the edge, and each counts for its own class."""
    image = torch.ones(1, 1, *size)
    image[..., size[-1] // 2 :] = 3
    maps = ablated(Left(), image, "all", segments=8)
    found, half = maps[KEY][0], size[-1] // 2
    assert (found[0, ..., :half] > 0).all() and not found[0, ..., half:].any()
    assert (found[1, ..., half:] > 0).all() and not found[1, ..., :half].any()
    labels = maps.details[KEY]["superpixels"][0, 0]
    for label in labels.unique():
        inside = labels == label
        torch.testing.assert_close(
            found[:, inside].sum(0), (inside * image[0, 0]).sum().expand(int(inside.sum()))
        )


def test_superpixels_are_each_images_own() -> None:
    images = blocks(4, 1, (40, 56))
    for image in images:
        labels = superpixels(image, FeatureAblation(segments=20))
        assert labels.shape == (40, 56) and labels.min() == 0
        assert labels.unique().tolist() == list(range(int(labels.max()) + 1))
        assert 8 <= labels.max() <= 40
        assert superpixels(3 * image - 1, FeatureAblation(segments=20)).equal(labels)
    assert superpixels(torch.ones(1, 16, 16), FeatureAblation(segments=4)).max() >= 1
    noise = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert superpixels(noise, FeatureAblation()).max() >= 30  # speckle does not merge them


def test_batch_is_singles_and_classes_share_the_passes() -> None:
    model, images = RESNET.build(), blocks(4, 3, (64, 96))
    together = ablated(model, images, "all", segments=10)[KEY]
    for b in range(4):
        alone = ablated(model, images[b : b + 1], 1, segments=10)[KEY][0]
        assert (alone - together[b, 1]).abs().max() <= 1e-4 * alone.abs().max()
    calls = []
    for targets in (0, "all"):
        planted, Left.calls = Left(), 0
        ablated(planted, images, targets, segments=10)
        calls.append(Left.calls)
    assert 0 < calls[0] == calls[1]


def test_an_image_like_the_baseline_loses_nothing() -> None:
    found = ablated(RESNET.build(), torch.full((1, 3, 64, 96), 0.5), 0, baseline="mean")[KEY]
    assert found.abs().max() < 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segments": 1}, "leaves nothing to compare"),
        ({"segments": "many"}, "is no number"),
        ({"compactness": 0}, "must be positive"),
        ({"baseline": "meen"}, 'did you mean "mean"'),
    ],
)
def test_faults(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OctoscopeError, match=message):
        ablated(Left(), torch.rand(1, 1, 16, 16), 0, **options)
