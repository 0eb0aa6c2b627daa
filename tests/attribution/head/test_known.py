"""What trials find out is used again, but never when the model has changed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from octoscope.attribution.explain import explain
from octoscope.attribution.head.known import _FOUND, structure_of
from octoscope.attribution.head.residual import block_before
from timm_families import FAMILIES, Family

BY_NAME = {family.name: family for family in FAMILIES}
RESNET, VIT = BY_NAME["resnet10t"], BY_NAME["vit_tiny_patch16_224"]


class Small(nn.Module):
    """A network with an affine head, which counts its passes as someone's may."""

    def __init__(self) -> None:
        super().__init__()
        self.layer4, self.fc = nn.Conv2d(1, 6, 3), nn.Linear(6, 4)
        self.pool: nn.Module = nn.AdaptiveAvgPool2d(1)
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.fc(self.pool(self.layer4(x)).flatten(1))


def counting(model: nn.Module) -> list[int]:
    """Count the images that pass the stem from now on."""
    seen: list[int] = []
    stem = model.patch_embed if hasattr(model, "patch_embed") else model.conv1
    plain = stem.forward

    def count(x: Tensor) -> Tensor:
        seen.append(len(x))
        return plain(x)

    stem.forward = count
    return seen


def ablated_by_hooks(model: nn.Module, layer: nn.Module, images: Tensor) -> Tensor:
    """Σ_k (y_0 - y_0^{A_k=0}) / y_0 · A_k of a layer (b, C, h, w)."""
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _m, _i, out: seen.append(out.clone()))
    with torch.no_grad():
        whole = model(images)[:, 0]
    hook.remove()
    maps = torch.zeros_like(seen[0][:, 0])
    for k in range(seen[0].shape[1]):

        def zeroed(_m: nn.Module, _i: object, out: Tensor, k: int = k) -> Tensor:
            out = out.clone()
            out[:, k] = 0
            return out

        hook = layer.register_forward_hook(zeroed)
        with torch.no_grad():
            share = (whole - model(images)[:, 0]) / whole
        hook.remove()
        maps += share[:, None, None] * seen[0][:, k]
    return maps


@torch.no_grad()
def scale_weights(model: nn.Module) -> None:
    model.fc.weight.mul_(-2).add_(0.1)


def scale_behind_the_back(model: nn.Module) -> None:
    model.fc.weight.data.mul_(-2).add_(0.1)


def head_of_two_layers(model: nn.Module) -> None:
    width = model.layer4.out_channels
    model.fc = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 4))


def relu_after_pooling(model: nn.Module) -> None:
    model.pool = nn.Sequential(model.pool, nn.ReLU())


def another_pooling(model: nn.Module) -> None:
    model.pool.forward = lambda x: x.amax((2, 3))


def someones_hook(model: nn.Module) -> None:
    model.fc.register_forward_pre_hook(lambda _m, inputs: (inputs[0] ** 2,))


@pytest.mark.parametrize(
    "change",
    [
        scale_weights,
        scale_behind_the_back,
        head_of_two_layers,
        relu_after_pooling,
        another_pooling,
        someones_hook,
    ],
)
def test_a_model_that_changed(change: Callable[[nn.Module], None]) -> None:
    torch.manual_seed(0)
    model, images = Small().double().eval(), torch.rand(2, 1, 8, 12, dtype=torch.float64)
    for _ in range(2):
        expected = ablated_by_hooks(model, model.layer4, images)
        found = explain(model, images, "ablationcam", 0, layer="layer4", signed=True).native[
            "ablationcam"
        ]
        close(found, expected)
        change(model)
        model.double().eval()


def close(found: Tensor, expected: Tensor) -> None:
    scale = expected.abs().amax()
    assert scale > 0 and (found - expected).abs().max() <= 1e-5 * scale


def changed_vit(model: nn.Module) -> None:
    model.blocks[-1].attn.k_norm = nn.LayerNorm(model.blocks[-1].attn.head_dim).double()


def average_pooled(model: nn.Module) -> None:
    model.global_pool = "avg"


@pytest.mark.parametrize("change", [changed_vit, average_pooled])
def test_a_transformer_that_changed(change: Callable[[nn.Module], None]) -> None:
    """The maps are those of a copy that was never tried before."""
    torch.manual_seed(0)
    model, images = deepcopy(VIT.build()).double(), VIT.images(2).double()
    with torch.no_grad():
        for parameter in model.blocks[-1].parameters():
            parameter.normal_(std=0.3)
    before = explain(model, images, "vit_reciprocam", 0).native["vit_reciprocam"]
    change(model)
    model.eval()
    found = explain(model, images, "vit_reciprocam", 0).native["vit_reciprocam"]
    fresh = explain(deepcopy(model), images, "vit_reciprocam", 0).native["vit_reciprocam"]
    close(found, fresh)
    assert not torch.allclose(found, before)


@pytest.mark.parametrize(
    ("family", "method"), [(RESNET, "ablationcam"), (VIT, "vit_reciprocam"), (VIT, "ablationcam")]
)
def test_only_the_shared_pass_runs_the_images(family: Family, method: str) -> None:
    model, images = deepcopy(family.build()), family.images(3)
    explain(model, images[:1], method, 0)
    seen = counting(model)
    explain(model, images[:1], method, 0)  # the stem changed, so it is tried again
    seen.clear()
    explain(model, images, method, 0)
    assert seen == [3]


@pytest.mark.parametrize(
    ("options", "form"),
    [({}, "linear"), ({"qk_norm": True}, "levels"), ({"global_pool": "avg"}, "dense")],
)
def test_forms_of_keys(options: dict[str, object], form: str) -> None:
    model = replace(VIT, options={**VIT.options, **options}).build()
    explain(model, VIT.images(2), "vit_reciprocam", 0)
    found = _FOUND[model][1]
    assert [value for topic, value in found.items() if topic[0] == "sequences"] == [form]


def test_a_hook_that_takes_the_place_of_another_is_told_from_it() -> None:
    """Also where it is the same function, or lies where the other lay in memory."""
    model = Small()
    seen = {structure_of(model)}
    for _ in range(3):
        hook = model.fc.register_forward_pre_hook(lambda _m, inputs: (inputs[0] ** 2,))
        seen.add(structure_of(model))
        hook.remove()
        gc.collect()
    assert len(seen) == 4 and structure_of(model) in seen


def test_what_is_known_does_not_keep_a_model_alive() -> None:
    model = deepcopy(VIT.build())
    explain(model, VIT.images(1), ["vit_reciprocam", "ablationcam"], 0)
    watched = weakref.ref(model)
    del model
    gc.collect()
    assert watched() is None


def test_passes_change_nothing_of_the_structure() -> None:
    model = Small().eval()
    before = structure_of(model)
    explain(model, torch.rand(2, 1, 8, 12), ["gradcam", "ablationcam"], 0, layer="layer4")
    assert model.passes == 0 and structure_of(model) == before
    model(torch.rand(2, 1, 8, 12))
    assert model.passes == 1 and structure_of(model) == before


def test_block_before() -> None:
    vit, resnet = VIT.build(), RESNET.build()
    name, block = block_before(vit, f"blocks.{len(vit.blocks) - 1}.norm1") or ("", vit)
    assert name == f"blocks.{len(vit.blocks) - 2}" and block is vit.blocks[-2]
    assert block_before(vit, "blocks.0.norm1") is None
    assert block_before(resnet, "layer4") is None
