"""Crops around windows: exact wherever they are used, and not used where they would not be."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from octoscope.attribution.explain import explain
from octoscope.attribution.perturbation.chain import chain_of
from octoscope.attribution.perturbation.cones import Cones, crops_along
from octoscope.attribution.perturbation.windows import Windows
from octoscope.models.classifier import Classifier
from octoscope.models.preprocess import Preprocess
from octoscope.scans.framing import Framing
from timm_families import FAMILIES, Family

CHAINED = {
    "resnet10t": 5,
    "resnext50_32x4d": 4,
    "regnetx_002": 3,
    "tf_efficientnetv2_b0": 4,
    "densenet121": 4,
    "vgg11": 7,
    "repvgg_a0": 4,
    "mobilevit_xxs": 6,
}
"""Networks of which so many links, at least, run on crops at 64 × 96."""
RESNET = FAMILIES[0]


def covered(images: Tensor, windows: Windows, baseline: Tensor, rows: Tensor) -> Tensor:
    copies = []
    for row in rows.tolist():
        image, box = row // len(windows), windows.boxes[row % len(windows)]
        copy = images[image].clone()
        copy[(slice(None), *box)] = baseline[image][(slice(None), *box)]
        copies.append(copy)
    return torch.stack(copies)


def check(model: nn.Module, images: Tensor, windows: Windows, links: int, step: int = 1) -> Cones:
    """The logits of crops are those of whole covered images, for every step-th window."""
    baseline = images.flip(-1) - 0.5
    rows = torch.arange(0, len(images) * len(windows), step)
    with torch.inference_mode():
        cones = Cones(model, images, baseline, windows)
        assert len(cones.links) >= links
        if not cones.links:
            return cones
        found = cones(rows)
        expected = model(covered(images, windows, baseline, rows))
    limit = 3e-5 if images.dtype == torch.float32 else 1e-12
    assert (found - expected).abs().max() <= limit * expected.abs().max()
    assert not any("forward" in vars(part) for part in model.modules())
    return cones


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_every_family(family: Family) -> None:
    windows = Windows(family.size, (8, 8), (5, 7))
    model, images = copy.deepcopy(family.build()), family.images(2)
    if family.name != "poolformer_s12":  # which timm computes in float32 alone
        model, images = model.double(), images.double()
    check(model, images, windows, CHAINED.get(family.name, 0), step=19)


@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [((64, 96), (5, 9), (5, 9)), ((61, 83), (7, 4), (6, 4)), ((47, 65), (9, 9), (8, 9))],
)
def test_every_window_at_every_border(
    size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]
) -> None:
    """Odd sizes, for which strides do not divide the image."""
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    check(RESNET.build(), images, Windows(size, window, stride), 2, step=3)


def test_crops_hold_what_is_changed() -> None:
    """Brute force along one axis: an output is wrong only where a crop's edge is within reach."""
    for side, stride, reach, window in [
        (37, 2, 3, 5),
        (64, 1, 4, 9),
        (50, 4, 7, 6),
        (23, 3, 1, 23),
    ]:
        out = -(-side // stride)
        spans = tuple((a, min(a + window, side)) for a in range(0, side, 3))
        crops = crops_along(spans, side, out, stride, reach)
        for n, (a, b) in enumerate(spans):
            sees = [j for j in range(out) if j * stride - reach < b and j * stride + reach >= a]
            first, start = int(crops.first[n]), int(crops.start[n])
            assert set(sees) <= set(range(*crops.changed[n]))
            assert set(range(*crops.changed[n])) <= set(range(first, first + crops.width))
            assert start % stride == 0 and start >= 0 and start + crops.length <= side
            for j in range(first, first + crops.width):
                assert j < out and j - start // stride == j - first + int(crops.inset[n])
                assert start == 0 or j * stride - reach >= start
                end = start + crops.length
                assert end == side or j * stride + reach < end


def test_a_classifier_that_normalises() -> None:
    """What comes before the first layer, such as grey repeated to three channels, is kept."""
    preprocess = Preprocess(Framing(64, 96), 3, mean=(0.2, 0.3, 0.4), std=(0.5, 0.2, 0.1))
    model = Classifier(RESNET.build(), ["a", "b", "c", "d"], preprocess).eval()
    check(model, torch.rand(2, 1, 64, 96), Windows((64, 96), (8, 8), (8, 8)), 5, step=7)


class Volumes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv3d(1, 4, 3, stride=(1, 2, 2), padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.two = nn.Conv3d(4, 6, 3, padding=(1, 2, 2), dilation=(1, 2, 2))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.relu(self.one(x))).relu().mean((2, 3, 4)))


def test_volumes() -> None:
    torch.manual_seed(0)
    size = (16, 24, 24)
    check(Volumes(), torch.rand(2, 1, *size), Windows(size, (3, 4, 4), (3, 4, 4)), 2, step=5)


class Around(nn.Module):
    """The first layer's output also goes around the second: no chain, although it looks like it."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(1, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 4, 3, padding=1)
        self.three = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x)
        last = self.three(self.two(first).relu())
        return self.head(torch.cat([first, last], 1).relu().mean((2, 3)))


def test_what_goes_around_is_seen() -> None:
    """The logits turn nan, so that the whole network is run instead; the map is right."""
    torch.manual_seed(0)
    model, images = Around(), torch.rand(1, 1, 48, 48)
    windows = Windows((48, 48), (6, 6), (6, 6))
    with torch.inference_mode():
        cones = Cones(model, images, torch.zeros_like(images), windows)
        if cones.links:
            assert cones(torch.tensor([0])).isnan().any()
    found = explain(model, images, "occlusion", 1, options={"occlusion": {"window": 6}})
    with torch.no_grad():
        before = model(images)[0, 1]
        box = windows.boxes[0]
        image = images.clone()
        image[(..., *box)] = 0
        drop = before - model(image)[0, 1]
    torch.testing.assert_close(found["occlusion"][0, 0, 0], drop, rtol=1e-3, atol=1e-6)


class Squeeze(nn.Module):
    """A layer that looks everywhere, though its kernel does not say so."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * x.mean((2, 3), keepdim=True).sigmoid()


class Shifted(nn.Module):
    """A layer that looks further than any kernel of it says."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.roll(3, -1)


@pytest.mark.parametrize("layer", [Squeeze(), Shifted(), nn.AdaptiveAvgPool2d(8), nn.Flatten()])
def test_layers_that_are_not_local(layer: nn.Module) -> None:
    class Net(nn.Sequential):
        pass

    model = Net(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1), layer).eval()
    with torch.inference_mode():
        links = list(chain_of(model, torch.rand(1, 1, 32, 32)))
    parts = [part for link in links for part in link.modules]
    assert layer not in parts and model[0] in parts


def test_what_looks_everywhere_is_told_in_lower_precision_too() -> None:
    """What a squeeze adds is below the rounding of bfloat16, so it is tried in float32."""
    torch.manual_seed(0)
    squeeze = Squeeze()
    first = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    model, images = nn.Sequential(*first, squeeze, *head).eval(), torch.rand(1, 1, 32, 32)
    windows = Windows((32, 32), (4, 4), (4, 4))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        cones = Cones(model, images, torch.zeros_like(images), windows)
        found = cones(torch.arange(len(windows)))
    parts = [part for link in cones.links for part in link.modules]
    assert parts == first and found.dtype == torch.bfloat16


def test_explain_uses_them_and_leaves_nothing_behind() -> None:
    """Fewer sums are done than in as many whole passes; all is put back, also after an error."""
    model, images = RESNET.build(), RESNET.images(1)
    options = {"occlusion": {"window": 8, "stride": 8}}
    with FlopCounterMode(display=False) as one, torch.no_grad():
        model(images)
    with FlopCounterMode(display=False) as all_:
        explain(model, images, "occlusion", 1, options=options)
    assert 0 < all_.get_total_flops() < 0.8 * 96 * one.get_total_flops()
    assert not any("forward" in vars(part) for part in model.modules())
    last = model.fc

    def fails(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if len(args[0]) > 2:
            raise ValueError("no more")

    hook = last.register_forward_pre_hook(fails)
    try:
        with pytest.raises(ValueError, match="no more"):
            explain(model, images, "occlusion", 1, options=options)
    finally:
        hook.remove()
    assert not any("forward" in vars(part) for part in model.modules())


class Gate(nn.Module):
    """Scales channels by what the whole image says, weakly, or not at all on noise."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.conv = kind, nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).relu()
        if self.kind == "shut on noise":
            return y * (1 + (x.mean((2, 3), keepdim=True) - 0.5).relu())
        if self.kind == "weak":
            return y + 1e-5 * x.mean((2, 3), keepdim=True)
        if self.kind == "positions":
            return y * torch.linspace(1, 2, y.shape[-1])
        if self.kind == "flip":
            return y + 1e-5 * y.flip(-1)
        return y


NOT_LOCAL: dict[str, Callable[[], list[nn.Module]]] = {
    "circular": lambda: [nn.Conv2d(6, 6, 3, padding=1, padding_mode="circular"), nn.ReLU()],
    "norm of the image": lambda: [nn.GroupNorm(1, 6)],
    "norm of channels": lambda: [nn.InstanceNorm2d(6, affine=True)],
    "shut on noise": lambda: [Gate("shut on noise")],
    "weak": lambda: [Gate("weak")],
    "positions": lambda: [Gate("positions")],
    "flip": lambda: [Gate("flip")],
}
LOCAL: dict[str, Callable[[], list[nn.Module]]] = {
    "reflected": lambda: [nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect"), nn.ReLU()],
    "replicated": lambda: [nn.Conv2d(6, 6, 5, padding=2, padding_mode="replicate"), nn.ReLU()],
    "plain": lambda: [Gate("none")],
}


@pytest.mark.parametrize("kind", [*NOT_LOCAL, *LOCAL])
def test_drops_are_those_of_covered_images(kind: str) -> None:
    """The oracle covers the windows one by one; a large bias hides drops among the logits."""
    torch.manual_seed(0)
    first = [nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()]
    middle = [*{**NOT_LOCAL, **LOCAL}[kind](), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(96, 3)]
    model = nn.Sequential(*first, *middle, *head).double().eval()
    with torch.no_grad():
        model[0].weight.abs_()
        model[-1].bias.add_(100)
    images = 3 * torch.rand(2, 1, 48, 48, dtype=torch.float64)
    options = {"occlusion": {"window": 8, "stride": 8}}
    found = explain(model, images, "occlusion", 1, options=options)["occlusion"]
    right = torch.zeros(2, 48, 48, dtype=torch.float64)
    with torch.no_grad():
        for i in range(0, 48, 8):
            for j in range(0, 48, 8):
                covered = images.clone()
                covered[..., i : i + 8, j : j + 8] = 0
                drop = (model(images) - model(covered))[:, 1]
                right[:, i : i + 8, j : j + 8] = drop[:, None, None]
    assert (found.double() - right).abs().max() <= 1e-6 * right.abs().max()
    windows = Windows((48, 48), (8, 8), (8, 8))
    with torch.inference_mode():
        cones = Cones(model, images, torch.zeros_like(images), windows)
    run = [part for link in cones.links for part in link.modules]
    assert len(run) == (4 if kind in NOT_LOCAL else 6 + len(middle) - 2)
