"""Occlusion against captum, hand-computed values, brute force and planted models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import Occlusion as TheirOcclusion
from captum.testing.helpers.basic_models import BasicModel_ConvNet_One_Conv
from torch import Tensor, nn
from torch.nn import functional as F

from octoscope.attribution.explain import explain
from octoscope.attribution.perturbation.baselines import baseline_of
from octoscope.attribution.perturbation.occlusion import Occlusion
from octoscope.attribution.perturbation.windows import Windows
from octoscope.errors import OctoscopeError
from timm_families import FAMILIES, Family

SOME = [f for f in FAMILIES if f.name in ("resnet10t", "convnext_atto", "vit_tiny_patch16_224")]
RESNET = SOME[0]


def occluded(model: nn.Module, images: Tensor, targets: Any = None, **options: Any) -> Any:
    return explain(model, images, "occlusion", targets=targets, options={"occlusion": options})


class Net(nn.Module):
    """A network of 2-D or 3-D images with any number of channels."""

    def __init__(self, channels: int = 1, axes: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        conv = nn.Conv2d if axes == 2 else nn.Conv3d
        self.one = conv(channels, 4, 3, stride=2, padding=1)
        self.two = conv(4, 6, 3, padding=1)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.one(x).relu()).relu().flatten(2).mean(2))


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    scale = expected.abs().max()
    assert scale > 0
    assert (found - expected).abs().max() <= tolerance * scale


@pytest.mark.parametrize(
    ("window", "stride", "baseline"),
    [
        ((8, 8), (4, 4), 0.0),
        ((10, 7), (6, 3), 0.5),
        ((5, 5), (5, 5), -1.0),
        ((23, 31), (7, 9), 0.0),
        ((1, 29), (1, 29), 0.0),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_captum(
    channels: int, window: tuple[int, int], stride: tuple[int, int], baseline: float
) -> None:
    """Sizes that no stride divides."""
    model, images = Net(channels), torch.randn(2, channels, 23, 31)
    ours = occluded(model, images, [0, 2], window=window, stride=stride, baseline=baseline)
    theirs = TheirOcclusion(model).attribute(
        images,
        sliding_window_shapes=(channels, *window),
        strides=(channels, *stride),
        baselines=baseline,
        target=torch.tensor([0, 2]),
    )
    assert ours["occlusion"].shape == (2, 23, 31)
    close(ours["occlusion"], theirs[:, 0])


@pytest.mark.parametrize("family", SOME, ids=lambda f: f.name)
def test_captum_on_timm(family: Family) -> None:
    model, images = family.build(), family.images(2)
    ours = occluded(model, images, [1, 3], window=20, stride=13)
    with torch.no_grad():
        theirs = TheirOcclusion(model).attribute(
            images,
            sliding_window_shapes=(3, 20, 20),
            strides=(3, 13, 13),
            target=torch.tensor([1, 3]),
            perturbations_per_eval=8,
        )
    close(ours["occlusion"], theirs[:, 0], 1e-4)


def test_captum_on_volumes() -> None:
    model, volumes = Net(1, axes=3), torch.randn(2, 1, 6, 10, 13)
    ours = occluded(model, volumes, 1, window=(2, 4, 5), stride=(2, 3, 4))
    theirs = TheirOcclusion(model).attribute(
        volumes, sliding_window_shapes=(1, 2, 4, 5), strides=(1, 2, 3, 4), target=1
    )
    close(ours["occlusion"], theirs[:, 0])


def test_values_computed_by_hand() -> None:
    """Captum's own test case; its network also views memory in one way only."""
    model, image = BasicModel_ConvNet_One_Conv(), torch.arange(16.0).view(1, 1, 4, 4)
    found = occluded(model, image, 0, window=2, stride=1)["occlusion"][0]
    sums = [[7, 8, 6.5, 4], [15.5, 20.75, 22.25, 18.5], [30, 39.25, 44.25, 40], [36, 45, 50.5, 47]]
    assert found.tolist() == sums


def brute_force(
    model: nn.Module, image: Tensor, windows: Windows, fill: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits (W, K) with each window covered, and the mean drop (K, H, W), pixel by pixel."""
    rows, total, times = [], 0.0, torch.zeros(image.shape[1:])
    with torch.no_grad():
        before = model(image[None])[0]
        for top in range(0, image.shape[1], windows.stride[0]):
            for left in range(0, image.shape[2], windows.stride[1]):
                inside = torch.zeros(image.shape[1:])
                inside[top : top + windows.window[0], left : left + windows.window[1]] = 1
                rows.append(model((image * (1 - inside) + fill * inside)[None])[0])
                total = total + (before - rows[-1])[:, None, None] * inside
                times += inside
                if left + windows.window[1] >= image.shape[2]:
                    break
            if top + windows.window[0] >= image.shape[1]:
                break
    return torch.stack(rows), total / times


@pytest.mark.parametrize("baseline", [0.3, "mean", "blur"])
def test_best_window_by_brute_force(baseline: float | str) -> None:
    model, images = Net(3), torch.randn(2, 3, 18, 25)
    maps = occluded(model, images, "all", window=(6, 7), stride=(4, 5), baseline=baseline)
    windows = Windows((18, 25), (6, 7), (4, 5))
    for b, fill in enumerate(baseline_of(images, baseline)):
        after, drops = brute_force(model, images[b], windows, fill)
        close(maps["occlusion"][b], drops)
        details = {name: value[b] for name, value in maps.details["occlusion"].items()}
        for k in range(3):
            close(details["windows"][k], after[:, k])
            best = int(after[:, k].argmax())
            corner = details["best_window"][k].tolist()
            assert corner[:2] == [4 * (best // 5), 5 * (best % 5)]
            assert corner[2:] == [6, min(7, 25 - corner[1])]
            close(details["logits_best"][k], after[best])
            close(details["logits_before"][k], maps.logits[b])


def test_an_image_like_the_baseline_loses_nothing() -> None:
    model = RESNET.build()
    flat = torch.full((2, 3, 64, 96), 0.25)
    for baseline in (0.25, "mean", "blur"):
        found = occluded(model, flat, 1, window=32, baseline=baseline)["occlusion"]
        assert found.abs().max() < 1e-4


def test_baselines() -> None:
    images = torch.rand(2, 3, 20, 30)
    assert baseline_of(images, 0.5).shape == images.shape
    assert baseline_of(images, 0.5).eq(0.5).all()
    torch.testing.assert_close(baseline_of(images, "mean")[1, 2, 5, 5], images[1, 2].mean())
    blurred = baseline_of(images, "blur")
    assert blurred.std() < 0.5 * images.std()
    torch.testing.assert_close(baseline_of(images[:1], "blur"), blurred[:1])
    flat = torch.full((1, 1, 4, 5, 6), 0.7)
    torch.testing.assert_close(baseline_of(flat, "blur"), flat)


class Corner(nn.Module):
    """Reads the upper left 8 × 8 pixels for class 0, the lower right for class 1."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        Corner.calls += 1  # of the class: what is explained is a view
        return torch.stack([x[:, :, :8, :8].sum((1, 2, 3)), x[:, :, -8:, -8:].sum((1, 2, 3))], 1)


def test_planted_corner() -> None:
    """The map is what the corner holds, where it is, and zero elsewhere."""
    maps = occluded(Corner(), torch.ones(1, 1, 32, 48), "all", window=8, stride=8)
    expected = torch.zeros(2, 32, 48)
    expected[0, :8, :8] = expected[1, -8:, -8:] = 64
    torch.testing.assert_close(maps["occlusion"][0], expected)


def test_classes_share_the_passes() -> None:
    """All classes cost the passes of one, and the plan says how many there are."""
    images = torch.rand(2, 1, 32, 48)
    calls = []
    for targets in (0, "all"):
        model, Corner.calls = Corner(), 0
        occluded(model, images, targets, window=8, stride=8)
        calls.append(model.calls)
    assert 0 < calls[0] == calls[1]
    options = {"occlusion": {"window": 8, "stride": 8}}
    plan = explain(Corner(), images, "occlusion", options=options, dry_run=True)
    assert plan.forwards == 1 + 4 * 6


@pytest.mark.parametrize("family", SOME, ids=lambda f: f.name)
def test_batch_of_eight_is_eight_singles(family: Family) -> None:
    model, images = family.build(), family.images(8)
    options = {"window": 32, "stride": 30, "baseline": "mean"}
    together = occluded(model, images, 2, **options)["occlusion"]
    chunked = explain(
        model, images, "occlusion", targets=2, options={"occlusion": options}, batch_size=3
    )["occlusion"]
    close(chunked, together)
    for b in range(8):
        close(occluded(model, images[b : b + 1], 2, **options)["occlusion"][0], together[b])


def test_bfloat16_ranks_alike() -> None:
    model, images = RESNET.build(), RESNET.images(2)
    options = {"occlusion": {"window": 24, "stride": 12}}
    exact = explain(model, images, "occlusion", targets=1, options=options)["occlusion"]
    coarse = explain(model, images, "occlusion", targets=1, options=options, precision="bfloat16")[
        "occlusion"
    ]
    for one, other in zip(exact, coarse, strict=True):
        stacked = torch.stack([one.flatten(), other.flatten()])
        assert torch.corrcoef(stacked)[0, 1] > 0.98


def test_default_windows() -> None:
    windows = Occlusion().windows((224, 224))
    assert windows.window == (32, 32) and windows.stride == (16, 16) and windows.grid == (13, 13)
    assert Occlusion().windows((128, 256)).window == (19, 37)
    assert Occlusion(window=50).windows((32, 200)).window == (32, 50)
    assert len(Occlusion(window=50).windows((32, 40))) == 1
    assert Occlusion(window=[4, 6]).windows((32, 48)).stride == (2, 3)
    assert len(Windows((32, 48), (8, 8), (8, 8)).boxes) == 24


def test_windows_cover_everything() -> None:
    for size, window, stride in [((23, 31), (5, 9), (4, 9)), ((5, 6, 7), (2, 6, 3), (2, 1, 2))]:
        windows = Windows(size, window, stride)
        times = torch.zeros(size)
        for box in windows.boxes:
            times[box] += 1
        assert times.min() >= 1
        torch.testing.assert_close(windows.mean(torch.ones(1, len(windows)))[0], torch.ones(size))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window=0 is no number of pixels"),
        ({"window": 2.5}, "no number of pixels"),
        ({"stride": (4, -1)}, "stride=\\(4, -1\\)"),
        ({"window": 8, "stride": 9}, "never be covered"),
        ({"window": (8, 8, 8)}, "has 3 sides and the images have 2 axes"),
        ({"baseline": "blurr"}, 'did you mean "blur"'),
        ({"baseline": None}, "is no number"),
    ],
)
def test_faults(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OctoscopeError, match=message):
        occluded(Net(), torch.rand(1, 1, 23, 31), 0, **options)


def test_interpolation_is_not_needed() -> None:
    maps = occluded(Net(), torch.rand(1, 1, 23, 31), 0, window=8)
    assert maps.native["occlusion"].shape == (1, 23, 31)
    assert maps["occlusion"].equal(maps.native["occlusion"])
    assert F.relu(maps["occlusion"]).shape == (1, 23, 31)
