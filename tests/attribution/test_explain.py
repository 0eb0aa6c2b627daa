"""`explain`: classes, batches, sizes and faults; common tests over every method and family."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attribution.quick import SEVEN
from octoscope.attribution.display import normalise, upsample
from octoscope.attribution.explain import explain
from octoscope.attribution.registry import METHODS, methods_named
from octoscope.errors import OctoscopeError
from octoscope.models.classifier import Classifier
from octoscope.models.layout import TargetLayer
from octoscope.models.preprocess import Preprocess
from octoscope.scans.framing import Framing
from timm_families import FAMILIES, Family

SOME = [
    f
    for f in FAMILIES
    if f.name in ("resnet10t", "swinv2_tiny_window8_256", "beit_base_patch16_224")
]
RESNET = FAMILIES[0]


def equal_within(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Compare each map relative to its largest magnitude."""
    scale = expected.abs().amax((-2, -1), keepdim=True).clamp(min=1e-30)
    assert ((found - expected) / scale).abs().max() <= tolerance


@pytest.mark.parametrize("batch_size", [1, 3, 5, 100])
def test_batch_size_does_not_matter(batch_size: int) -> None:
    model, images = RESNET.build(), RESNET.images(5)
    classes = [0, 1, 2, 3, 0]
    whole = explain(model, images, SEVEN, targets=classes)
    chunked = explain(model, images, SEVEN, targets=classes, batch_size=batch_size)
    assert chunked.targets.equal(whole.targets)  # type: ignore[union-attr]
    for name in whole:
        equal_within(chunked.native[name], whole.native[name])
        for flag, values in whole.flags[name].items():
            assert chunked.flags[name][flag].shape == values.shape == (5,)


@pytest.mark.parametrize("family", SOME, ids=lambda f: f.name)
def test_all_classes_are_each_class_alone(family: Family) -> None:
    model, images = family.build(), family.images(2)
    everything = explain(model, images, SEVEN, targets="all")
    for k in range(4):
        alone = explain(model, images, SEVEN, targets=k)
        for name in SEVEN:
            assert everything.native[name][:, k].equal(alone.native[name])
            for flag, values in alone.flags[name].items():
                assert everything.flags[name][flag][:, k].equal(values)


def test_every_way_to_name_classes() -> None:
    model, images = RESNET.build(), RESNET.images(3)
    every = explain(model, images, targets="all")
    maps, rows = every.native["gradcam"], torch.arange(3)

    def gradcam(**options: Any) -> tuple[Tensor, Any]:
        found = explain(model, images, **options)
        return found.native["gradcam"], found.targets

    predicted = every.logits.argmax(1)
    found, targets = gradcam()
    assert found.equal(maps[rows, predicted]) and targets.equal(predicted)
    found, targets = gradcam(targets=2)
    assert found.equal(maps[:, 2]) and targets.tolist() == [2, 2, 2]
    for per_image in ([2, 0, 1], (2, 0, 1), torch.tensor([2, 0, 1]), np.array([2, 0, 1])):
        found, targets = gradcam(targets=per_image)
        assert found.equal(maps[rows, [2, 0, 1]]) and targets.tolist() == [2, 0, 1]
    found, targets = gradcam(targets=torch.tensor([[0, 1], [2, 3], [3, 3]]))
    assert found.shape == (3, 2, *RESNET.grid) and targets.shape == (3, 2)
    assert found[1].equal(maps[1, 2:]) and found[2, 0].equal(found[2, 1])
    found, targets = gradcam(classes=[3, 1, 0])
    assert found.equal(maps[:, [3, 1, 0]]) and targets.tolist() == [[3, 1, 0]] * 3
    found, targets = gradcam(classes=[3])
    assert found.shape == (3, 1, *RESNET.grid)
    assert gradcam(targets=np.int64(2))[0].equal(maps[:, 2])


@pytest.mark.parametrize("family", SOME, ids=lambda f: f.name)
def test_permuted_classes_and_shifted_logits(family: Family) -> None:
    """Maps follow a permutation of the classes, and do not see a constant added to the logits."""

    class Changed(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x)[:, [2, 0, 3, 1]] + 5

    model, images = family.build(), family.images(2)
    original = explain(model, images, SEVEN, targets="all")
    changed = explain(Changed(model), images, SEVEN, targets="all")
    assert changed.layer == f"network.{original.layer}"
    for name in SEVEN:
        equal_within(changed.native[name], original.native[name][:, [2, 0, 3, 1]])


class VolumeNet(nn.Module):
    """A network of volumes that no rule knows, 1 × 8 × 16 × 24 to a grid of 4 × 4 × 6."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv3d(1, 4, 3, stride=(1, 2, 2), padding=1)
        self.two = nn.Conv3d(4, 6, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.two(self.relu(self.one(x)))).mean((2, 3, 4)))


def test_volumes() -> None:
    torch.manual_seed(0)
    model, volumes = VolumeNet(), torch.rand(2, 1, 8, 16, 24)
    maps = explain(model, volumes, SEVEN, targets="all")
    assert maps.layer in ("two", "relu")
    for name in SEVEN:
        assert maps.native[name].shape == (2, 3, 4, 4, 6)
        assert maps[name].shape == (2, 3, 8, 16, 24)
        assert maps[name].isfinite().all()
    native = maps.native["gradcam"]
    expected = F.interpolate(native, (8, 16, 24), mode="trilinear", align_corners=False)
    assert maps["gradcam"].equal(expected)


def test_interpolation_and_display() -> None:
    maps = torch.randn(2, 3, 7, 5)
    expected = F.interpolate(maps, (50, 33), mode="bilinear", align_corners=False)
    assert upsample(maps, (50, 33)).equal(expected)
    assert upsample(maps[:, 0], (50, 33)).equal(expected[:, 0])
    shown = normalise(maps)
    assert shown.amin((2, 3)).eq(0).all() and shown.amax((2, 3)).eq(1).all()
    signed = normalise(maps, signed=True)
    assert signed.abs().amax((2, 3)).eq(1).all() and signed.sign().equal(maps.sign())
    for constant in (torch.zeros(1, 4, 4), torch.full((1, 4, 4), 3.0)):
        assert not normalise(constant).any()
    assert not normalise(torch.zeros(1, 4, 4), signed=True).any()
    with pytest.raises(OctoscopeError, match="1 to 3 spatial axes"):
        upsample(torch.zeros(1, 2, 2, 2, 2), (4, 4, 4, 4))


def test_signed_maps_and_flags() -> None:
    model, images = RESNET.build(), RESNET.images(3)
    papers = explain(model, images, SEVEN, targets="all")
    signed = explain(model, images, SEVEN, targets="all", signed=True)
    for name, method in ((name, METHODS[name]) for name in SEVEN):
        raw, before = papers.native[name], signed.native[name]
        assert raw.equal(before.relu() if method.rectified else before)
        clipped = (before < 0).float().mean((2, 3)) if method.rectified else torch.zeros(3, 4)
        assert papers.flags[name]["clipped_fraction"].equal(clipped)
        assert papers.flags[name]["all_zero"].equal((raw == 0).all(-1).all(-1))
        assert not signed.flags[name]["clipped_fraction"].any()
    assert (signed.native["gradcam"] < 0).any()
    assert papers.shown("gradcam").min() >= 0 and papers.shown("hirescam").min() < 0


def test_blank_and_broken_maps_are_flagged() -> None:
    class Faulty(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)
            self.head = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            pooled = self.conv(x).mean((2, 3))
            broken = torch.where(x.mean((1, 2, 3)) > 0.5, torch.nan, 1.0)
            return self.head(pooled * broken[:, None]) * torch.tensor([0.0, 1.0])

    torch.manual_seed(0)
    images = torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)])
    maps = explain(Faulty(), images, SEVEN, targets="all")
    for name in SEVEN:
        if name != "eigencam":  # which looks at activations alone, and they are good
            flags = maps.flags[name]
            assert flags["all_zero"][:, 0].tolist() == [True, False], name
            assert flags["nonfinite"].tolist() == [[False, False], [True, True]], name


def test_a_norm_that_hides_the_scale_is_flagged() -> None:
    """Right before a layer norm, HiResCAM is zero by definition: not noise blown up by display."""
    coatnet = next(f for f in FAMILIES if f.name == "coatnet_pico_rw_224")
    model, images = coatnet.build(), coatnet.images(2)
    assert explain(model, images, "hirescam").flags["hirescam"]["all_zero"].all()
    after = explain(model, images, "hirescam", layer="norm")
    assert not after.flags["hirescam"]["all_zero"].any()


def test_a_layer_with_its_layout_stated() -> None:
    beit = SOME[-1]
    model, images = beit.build(), beit.images(2)
    stated = TargetLayer("mine", model.blocks[-1].norm1, "tokens", (6, 4), 1)
    found = explain(model, images, layer=stated)
    assert found.native["gradcam"].shape == (2, 6, 4) and found.layer == "mine"
    automatic = explain(model, images).native["gradcam"]
    assert found.native["gradcam"].flatten(1).equal(automatic.flatten(1))


def test_registry() -> None:
    assert list(METHODS)[:7] == SEVEN
    assert [m.name for m in methods_named("all")] == list(METHODS)
    assert [m.name for m in methods_named(["layercam", "gradcam", "layercam"])] == [
        "layercam",
        "gradcam",
    ]
    left = [m.name for m in methods_named(["cam", "-scorecam", "-fullgrad"])]
    assert "gradcam" in left and not {"scorecam", "fullgrad"} & set(left)
    assert not any(m.family == "null" for m in methods_named(["all", "-null"]))
    assert {m.family for m in methods_named("cam")} == {"cam"} and len(methods_named("cam")) > 7
    assert next(m.name for m in methods_named(["rollout", "null"])) == "rollout"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"methods": "gradcamm"}, r'method "gradcamm" is not known \(did you mean "gradcam"\?\)'),
        ({"methods": ["gradcam", "layrcam"]}, r'did you mean "layercam"'),
        ({"methods": []}, "no method is asked for; known are gradcam"),
        ({"targets": 4}, "class 4 does not exist: the model has 4 classes, 0 to 3"),
        ({"targets": -1}, "class -1 does not exist"),
        ({"targets": [0, 1, 7]}, "class 7 does not exist"),
        ({"targets": [0, 1]}, r"targets of shape \(2,\) do not fit 3 images"),
        ({"targets": []}, r"targets of shape \(0,\) do not fit 3 images"),
        ({"targets": [[0, 1], [2], [3, 0]]}, "rows of different lengths"),
        ({"targets": "every"}, r'targets="every" means nothing; use "all"'),
        ({"targets": 1.5}, "whole numbers"),
        ({"targets": [0, 1, 1.5]}, "whole numbers"),
        ({"targets": True}, "whole numbers"),
        ({"targets": torch.rand(3)}, "use integers"),
        ({"classes": []}, "at least one class"),
        ({"classes": [0, 9]}, "class 9 does not exist"),
        ({"classes": [0], "targets": 1}, "either targets= or classes="),
        ({"batch_size": 0}, "batch_size=0 is no number of images"),
        ({"layer": "layr4"}, r'no layer "layr4" \(did you mean "layer4"\?\)'),
    ],
)
def test_faults_have_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OctoscopeError, match=sentence) as fault:
        explain(RESNET.build(), RESNET.images(3), **options)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (np.zeros((1, 3, 64, 96)), "not ndarray"),
        (torch.zeros(1, 3, 64, 96, dtype=torch.uint8), "not torch.uint8"),
        (torch.zeros(3, 64, 96), r"\(3, 64, 96\) are no batch"),
        (torch.zeros(0, 3, 64, 96), "are no batch"),
        (torch.zeros(1, 3, 1, 1), "single position"),
        (torch.zeros(1, 1, 64, 96), "1 channels and the model takes 3"),
    ],
)
def test_faulty_images_have_a_sentence(images: Any, sentence: str) -> None:
    with pytest.raises(OctoscopeError, match=sentence):
        explain(RESNET.build(), images)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_pixels_that_are_no_numbers(value: float) -> None:
    images = RESNET.images(3)
    images[1, 0, 5, 5] = value
    with pytest.raises(OctoscopeError, match="image 1 has pixels that are nan or infinite"):
        explain(RESNET.build(), images)


def test_maps_that_were_not_asked_for() -> None:
    maps = explain(RESNET.build(), RESNET.images(1), ["gradcam", "layercam"])
    assert list(maps) == ["gradcam", "layercam"] and len(maps) == 2 and "eigencam" not in maps
    with pytest.raises(
        OctoscopeError, match=r'no maps of "gradcam\+\+".*there are gradcam, layercam'
    ):
        maps["gradcam++"]


@pytest.mark.parametrize("centre", [(8, 8), (24, 88), (56, 40)])
def test_the_map_points_at_what_the_network_sees(centre: tuple[int, int]) -> None:
    """A network made by hand to see bright spots, strides and padding included, is read aright."""
    see = nn.Conv2d(1, 1, 8, stride=8, bias=False)
    head = nn.Linear(1, 2)
    nn.init.ones_(see.weight)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    model = nn.Sequential(see, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    rows, columns = torch.arange(64), torch.arange(96)
    distance = (rows[:, None] - centre[0]) ** 2 + (columns - centre[1]) ** 2
    image = torch.exp(-distance / 32.0)[None, None]
    maps = explain(model, image, SEVEN, targets="all", layer="0")
    for name, method in ((name, METHODS[name]) for name in SEVEN):
        row, column = divmod(int(maps[name][0, 0].argmax()), 96)
        assert abs(row - centre[0]) <= 4 and abs(column - centre[1]) <= 4, name
        if method.rectified:
            assert maps.flags[name]["all_zero"].tolist() == [[False, True]]


def test_our_own_classifier() -> None:
    """Grey images through `Classifier`: the same maps as its network gives for what it is fed."""
    network = RESNET.build()
    preprocess = Preprocess(Framing(height=64, width=96), 3, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
    classifier = Classifier(network, ["CNV", "DME", "DRUSEN", "NORMAL"], preprocess)
    grey = RESNET.images(2)[:, :1]
    found = explain(classifier, grey, SEVEN, targets="all")
    inside = explain(network, classifier.normalise(grey), SEVEN, targets="all")
    assert found.layer == "network.layer4" and inside.layer == "layer4"
    for name in SEVEN:
        assert found.native[name].equal(inside.native[name])


def test_progress_is_shown_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    def watched(items: Any, what: str) -> Any:
        steps.append(what)
        return items

    monkeypatch.setattr("octoscope.attribution.passes.track", watched)
    explain(RESNET.build(), RESNET.images(2))
    assert not steps
    explain(RESNET.build(), RESNET.images(2), batch_size=1, progress=True)
    assert steps == ["Explaining"]


def test_exclusions_need_something_to_exclude_from() -> None:
    for names in (["-gradcam"], ["null", "-null"]):
        with pytest.raises(OctoscopeError, match=r"leaves no method; .*all,-scorecam"):
            methods_named(names)
    with pytest.raises(OctoscopeError, match="no method is asked for; known are gradcam,"):
        methods_named([])
