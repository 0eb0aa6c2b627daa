"""Fusing the maps of several layers, by hand and through `explain`."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import pytorch_grad_cam as pgc
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional as F

from octoscope.attribution.display import normalise
from octoscope.attribution.explain import explain
from octoscope.attribution.fusion import fused
from octoscope.errors import OctoscopeError
from timm_families import FAMILIES

RESNET = FAMILIES[0]
VIT = next(family for family in FAMILIES if family.name == "vit_tiny_patch16_224")
LAYERS = ["layer2", "layer4", "layer3"]
ONE = torch.tensor([[[2.0, -4.0], [0.0, 1.0]]])
TWO = torch.tensor([[[1.0, -1.0], [10.0, -5.0]]])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("mean", [[0.3, -0.55], [0.5, -0.125]]),
        ("max", [[0.5, -1.0], [1.0, -0.5]]),
        # Both against the class: the product is against it too. One each way: nothing.
        ("product", [[0.05, -0.1], [0.0, 0.0]]),
    ],
)
def test_by_hand(how: str, expected: list[list[float]]) -> None:
    """Divided by 4 and by 10: [[.5, -1], [0, .25]] and [[.1, -.1], [1, -.5]]."""
    found = fused([ONE, TWO], 2, how)  # type: ignore[arg-type]
    torch.testing.assert_close(found, torch.tensor([expected]))
    torch.testing.assert_close(fused([TWO, ONE], 2, how), found)  # type: ignore[arg-type]
    scaled = fused([1e6 * ONE, 1e-6 * TWO], 2, how)  # type: ignore[arg-type]
    torch.testing.assert_close(scaled, found)


def test_three_layers_against_the_class() -> None:
    found = fused([-torch.ones(1, 2, 2)] * 3, 2, "product")
    assert found.eq(-1).all()


@pytest.mark.parametrize("how", ["mean", "max", "product"])
def test_grids_rows_and_axes(how: str) -> None:
    """The finest grid, in 1 to 3 dimensions; every row by itself; blank and broken rows stay so."""
    for axes in (1, 2, 3):
        coarse, fine = torch.randn(2, 3, *[2] * axes), torch.randn(2, 3, *[4] * axes)
        found = fused([coarse, fine], axes, how)  # type: ignore[arg-type]
        assert found.shape == fine.shape and found.abs().max() <= 1
        alone = fused([coarse[1, 2], fine[1, 2]], axes, how)  # type: ignore[arg-type]
        torch.testing.assert_close(alone, found[1, 2])
    blank = fused([torch.zeros(1, 2, 2), torch.zeros(1, 4, 4)], 2, how)  # type: ignore[arg-type]
    assert not blank.any()
    broken = torch.stack([torch.full((2, 2), torch.nan), torch.ones(2, 2)])
    found = fused([broken, torch.ones(2, 4, 4)], 2, how)  # type: ignore[arg-type]
    assert found[0].isnan().all() and found[1].eq(1).all()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("how", ["mean", "max", "product"])
def test_explain(how: str, signed: bool) -> None:
    """One pass over several layers gives what a pass for each gives, fused here by hand."""
    model, x = RESNET.build(), RESNET.images(2)
    names = ["gradcam", "hirescam", "layercam"]
    found = explain(
        model,
        x,
        names,
        targets="all",
        layer=LAYERS,
        fuse=how,
        signed=signed,  # type: ignore[call-overload]
    )
    assert found.layer == "layer2+layer4+layer3"
    each = [explain(model, x, names, targets="all", layer=n, signed=signed) for n in LAYERS]
    for name in names:
        stack = []
        for maps in each:
            native = maps.native[name]
            largest = native.abs().amax((-2, -1), keepdim=True)
            scaled = native / torch.where(largest > 0, largest, 1)
            stack.append(F.interpolate(scaled, (8, 12), mode="bilinear"))
        together = torch.stack(stack)
        if how == "mean":
            expected = together.sum(0) / 3
        elif how == "max":
            top, low = together.amax(0), together.amin(0)
            expected = torch.where(-low > top, low, top)
        else:
            magnitude = together.abs().prod(0)
            expected = magnitude * together.gt(0).all(0) - magnitude * together.lt(0).all(0)
        assert found.native[name].shape == (2, 4, 8, 12)
        torch.testing.assert_close(found.native[name], expected, rtol=0, atol=1e-4)


def test_a_blank_layer_and_clipping() -> None:
    """Where a layer speaks only against the class, its ReLU leaves nothing, and the rest stays."""
    model, x = RESNET.build(), RESNET.images(8)
    both = explain(model, x, targets="all", layer=["layer3", "layer4"])
    last = explain(model, x, targets="all", layer="layer4")
    third = explain(model, x, targets="all", layer="layer3")
    blank = last.flags["gradcam"]["all_zero"] & ~third.flags["gradcam"]["all_zero"]
    assert blank.any()
    half = normalise(third.native["gradcam"], signed=True)[blank] / 2
    torch.testing.assert_close(both.native["gradcam"][blank], half, rtol=0, atol=1e-5)
    assert (both.flags["gradcam"]["clipped_fraction"] <= 1).all()


def test_pytorch_grad_cam() -> None:
    """Layers of one grid; they average after scaling each map to [0, 1], as we do from a zero."""
    model, x = deepcopy(RESNET.build()), RESNET.images(16)
    with torch.no_grad():
        model.fc.weight.mul_(1e4)
    # Not bn1: they would store what the ReLU after it then changes in place.
    layers, classes = [model.layer4[0].conv1, model.layer4], [0, 1, 2, 3] * 4
    ours = explain(model, x, targets=classes, layer=layers)
    each = [explain(model, x, targets=classes, layer=part).native["gradcam"] for part in layers]
    fair = torch.stack([m.flatten(1).amin(1) == 0 for m in each]).all(0)  # their scale is ours
    theirs = pgc.GradCAM(model, layers)(x, [ClassifierOutputTarget(c) for c in classes])
    found = normalise(ours["gradcam"])
    assert fair.sum() >= 3 and theirs[fair.numpy()].max() > 0.9
    assert np.abs(found.numpy() - theirs)[fair.numpy()].max() <= 1e-4


def test_tokens_and_eigencam() -> None:
    model, x = VIT.build(), VIT.images(2)
    maps = explain(model, x, ["gradcam", "eigencam"], layer=["blocks.0.norm1", "blocks.1.norm1"])
    each = [explain(model, x, "eigencam", layer=f"blocks.{i}.norm1") for i in range(2)]
    expected = sum(normalise(m.native["eigencam"], signed=True) for m in each) / 2
    torch.testing.assert_close(maps.native["eigencam"], expected, rtol=0, atol=1e-4)
    assert maps.native["gradcam"].shape == (2, *VIT.grid)


def test_methods_without_a_layer_are_not_fused() -> None:
    class Watched(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x)

    model, x = Watched(RESNET.build()), RESNET.images(2)
    several = explain(model, x, "null", layer=["network.layer3", "network.layer4"])
    for name, map_ in explain(model, x, "null").native.items():
        assert several.native[name].equal(map_)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fuse": "mena"}, r'fuse="mena" is no way to fuse layers \(did you mean "mean"\?\)'),
        ({"layer": []}, r"layer=\[\] names no layer"),
    ],
)
def test_faults_have_a_sentence(options: dict[str, object], sentence: str) -> None:
    given = {"layer": LAYERS, **options}
    with pytest.raises(OctoscopeError, match=sentence):
        explain(RESNET.build(), RESNET.images(1), **given)  # type: ignore[call-overload]


FUSED = ["gradcam", "saliency", "guided_gradcam", "occlusion", "null_edges"]


def test_methods_that_know_no_layer_are_left_as_they_are() -> None:
    """Two layers: only maps of the layer are scaled and fused; the others are those of one."""
    model, x = RESNET.build(), RESNET.images(2)
    options = {"occlusion": {"window": 32, "stride": 32}}
    one, two = (
        explain(model, x, FUSED, targets=1, layer=layer, options=options, signed=True)
        for layer in ("layer4", ["layer3", "layer4"])
    )
    for name in FUSED:
        of_layer = name in ("gradcam", "guided_gradcam")
        same = one.native[name].shape == two.native[name].shape
        assert (same and torch.equal(one.native[name], two.native[name])) != of_layer, name
        if of_layer:
            assert two.native[name].abs().max() <= 1


def test_vit_reciprocam_keeps_to_the_last_block() -> None:
    model, x = VIT.build(), VIT.images(2)
    asked = ["vit_reciprocam", "chefer", "gradcam"]
    one, two = (
        explain(model, x, asked, targets=1, layer=layer)
        for layer in (None, [f"blocks.{n}.norm1" for n in (0, 1)])
    )
    for name in asked[:2]:
        torch.testing.assert_close(two.native[name], one.native[name])
    assert two.native["gradcam"].max() <= 1
