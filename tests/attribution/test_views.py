"""Test-time augmentation: the mean of raw maps over six versions, turned back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import ttach
from torch import Tensor, nn

from octoscope.attribution.explain import explain
from octoscope.attribution.views import VIEWS
from timm_families import FAMILIES

RESNET = FAMILIES[0]
VIT = next(family for family in FAMILIES if family.name == "vit_tiny_patch16_224")


@pytest.mark.parametrize("family", [RESNET, VIT], ids=lambda f: f.name)
@pytest.mark.parametrize("signed", [False, True])
def test_mean_of_six(family: Any, signed: bool) -> None:
    """The versions as pytorch-grad-cam's aug_smooth makes them, by the library that it uses.

    It averages maps that it has scaled to [0, 1] each, so its result is not compared, but the
    mean of our raw maps over its versions.
    """
    model, x = family.build(), family.images(2)
    names = ["gradcam", "hirescam", "eigencam", "null_centre"]
    plain = explain(model, x, names, signed=signed)
    found = explain(model, x, names, signed=signed, tta=True)
    versions = ttach.Compose([ttach.HorizontalFlip(), ttach.Multiply(factors=[0.9, 1, 1.1])])
    assert len(versions) == VIEWS
    maps: dict[str, list[Tensor]] = {name: [] for name in names}
    for version in versions:
        changed = version.augment_image(x)
        once = explain(model, changed, names, targets=plain.targets, signed=signed)
        for name in names:
            maps[name].append(version.deaugment_mask(once.native[name][:, None])[:, 0])
    for name in names:
        expected = torch.stack(maps[name]).mean(0)
        scale = float(expected.abs().max())
        assert found.native[name].shape == expected.shape
        torch.testing.assert_close(found.native[name], expected, rtol=0, atol=1e-4 * scale)
    assert found.logits.equal(plain.logits) and torch.equal(found.targets, plain.targets)  # type: ignore[arg-type]


def test_a_map_that_is_turned_back() -> None:
    """A network that sees one half only: mirrored images do not mirror its map."""

    class Left(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            left = self.conv(x)[..., :4].mean((2, 3))
            return torch.cat([left, -left], 1)

    model = Left()
    nn.init.ones_(model.conv.weight)
    nn.init.zeros_(model.conv.bias)
    image = torch.arange(1.0, 9.0).expand(1, 1, 2, 8)
    found = explain(model, image, "hirescam", targets=0, layer="conv", tta=True)
    # As it is: 1..4 on the left. Mirrored: it sees 8..5, which lie on the right. Halves and factors
    # of mean 1; the gradient of a mean over 8 positions is 1/8.
    expected = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8]) / 2 / 8
    torch.testing.assert_close(found.native["hirescam"][0], expected.expand(2, -1))


def test_passes() -> None:
    """Six, of which the image as it is is one; the plan says so."""
    model, x = RESNET.build(), RESNET.images(2)
    passed: list[Tensor] = []
    hook = model.register_forward_pre_hook(lambda _m, inputs: passed.append(inputs[0].clone()))
    explain(model, x, tta=True)
    hook.remove()
    assert len(passed) == VIEWS == explain(model, x, tta=True, dry_run=True).forwards
    assert sum(torch.equal(seen, x) for seen in passed) == 1


def test_classes_stay_those_of_the_image() -> None:
    """Also where a version would be predicted as another class."""

    class Side(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            features = self.conv(x).mean(1, keepdim=True)
            return torch.cat([features[..., :4].mean((2, 3)), features[..., 4:].mean((2, 3))], 1)

    model = Side()
    nn.init.ones_(model.conv.weight)
    image = torch.arange(8.0).expand(1, 1, 4, 8).clone()
    found = explain(model, image, "hirescam", layer="conv", tta=True)
    given = explain(model, image, "hirescam", layer="conv", tta=True, targets=1)
    assert found.targets.tolist() == [1]  # type: ignore[union-attr]
    assert found.native["hirescam"].equal(given.native["hirescam"])


def test_flags_details_and_batches() -> None:
    model, x = RESNET.build(), RESNET.images(3)
    names = ["gradcam", "finercam"]
    found = explain(model, x, names, targets="all", tta=True)
    plain = explain(model, x, names, targets="all")
    chunked = explain(model, x, "gradcam", targets="all", tta=True, batch_size=2)
    for name in names:
        assert found.flags[name].keys() == plain.flags[name].keys()
        assert all(flag.shape == (3, 4) for flag in found.flags[name].values())
    scale = float(found.native["gradcam"].max())
    torch.testing.assert_close(
        chunked.native["gradcam"], found.native["gradcam"], rtol=0, atol=1e-4 * scale
    )
    clipped = [
        explain(model, version, targets="all").flags["gradcam"]["clipped_fraction"]
        for turned in (x, x.flip(-1))
        for version in (0.9 * turned, turned, 1.1 * turned)
    ]
    torch.testing.assert_close(
        found.flags["gradcam"]["clipped_fraction"], torch.stack(clipped).mean(0)
    )
    small = x[:1, :, :32, :32]
    details = explain(model, small, "fullgrad", targets=1, tta=True).details["fullgrad"]
    same = explain(model, small, "fullgrad", targets=1).details["fullgrad"]
    assert details["unexplained"].equal(same["unexplained"])


def test_volumes_and_one_channel() -> None:
    class Volume(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv3d(1, 3, 2, stride=2), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).relu().mean((2, 3, 4)))

    torch.manual_seed(0)
    model, volumes = Volume(), torch.rand(2, 1, 4, 6, 8)
    found = explain(model, volumes, "hirescam", targets=0, layer="conv", tta=True)
    total = torch.zeros(2, 2, 3, 4)
    for factor in (0.9, 1.0, 1.1):
        for mirrored in (False, True):
            version = factor * (volumes.flip(-1) if mirrored else volumes)
            map_ = explain(model, version, "hirescam", targets=0, layer="conv").native["hirescam"]
            total += map_.flip(-1) if mirrored else map_
    torch.testing.assert_close(found.native["hirescam"], total / 6)
