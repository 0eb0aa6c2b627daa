"""Common tests over the registry: every method on every architecture."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attribution.quick import defined, quick
from octoscope.attribution.explain import explain
from octoscope.attribution.maps import Maps
from octoscope.attribution.registry import METHODS
from octoscope.errors import OctoscopeError
from timm_families import FAMILIES, Family

NARROW = Family("resnet10t", "layer4", "nchw", (2, 3), options={"channels": (8, 12, 16, 24)})
SOME = [
    NARROW,
    *(
        family
        for family in FAMILIES
        if family.name
        in (
            "swinv2_tiny_window8_256",
            "beit_base_patch16_224",
            "deit_tiny_distilled_patch16_224",
        )
    ),
]

ATTENDS = {
    "vit_tiny_patch16_224",
    "deit3_small_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
    "vit_base_patch16_siglip_224",
    "beit_base_patch16_224",
    "eva02_tiny_patch14_224",
}
"""Families whose attention is one matrix between all tokens."""
ATTENTION = {
    "raw_attention",
    "rollout",
    "gradient_rollout",
    "attention_gradcam",
    "chefer",
    "legrad",
    "dino_heads",
}


@cache
def everything(family: Family, name: str = "all") -> Maps:
    """Every method that is defined for a family, every class, in one call."""
    names = [name, "-scorecam"] if name == "all" else [name]
    count = 2 if name == "all" else 1
    return explain(family.build(), family.images(count), names, "all", options=quick(names))


@cache
def channels(family: Family) -> int:
    """Channels of the target layer, which are the passes that Score-CAM takes for an image."""
    shapes: list[torch.Size] = []
    network = family.build()
    layer = network.get_submodule(family.layer)
    hook = layer.register_forward_hook(lambda *call: shapes.append(call[-1].shape))
    with torch.no_grad():
        network(family.images(1))
    hook.remove()
    return shapes[0][1 if family.kind == "nchw" else -1]


MANY = 400
"""Channels above which Score-CAM is planned, not run: all such layers take one road."""


def maps_of(family: Family, name: str) -> Maps:
    """Score-CAM runs an image once per channel: one image is enough."""
    return everything(family, name) if name == "scorecam" else everything(family)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_every_method_on_every_family(family: Family, name: str) -> None:
    """Finite maps of the right shape with their flags, or a sentence that says why not."""
    if name == "scorecam" and channels(family) > MANY:
        plan = explain(family.build(), family.images(1), name, "all", dry_run=True)
        assert plan.forwards == channels(family) + 1 and not plan.refused
        return
    method, maps = METHODS[name], maps_of(family, name)
    images = len(maps.logits)
    assert maps.logits.shape == (images, 4) and maps.targets == "all"
    if name not in maps:
        reason = maps.refused[name]
        assert reason and "\n" not in reason
        with pytest.raises(OctoscopeError, match="is not defined here") as fault:
            explain(family.build(), family.images(1), name, options=quick(name))
        assert method.title in str(fault.value) and reason in str(fault.value)
        return
    assert maps.layer == family.layer
    native, full = maps.native[name], maps[name]
    leading = native.shape[:2]
    assert leading[0] == images and (method.parts or leading[1] == 4)
    assert full.shape == (*leading, *family.size) and full.dtype == torch.float32
    assert full.isfinite().all() and not maps.flags[name]["nonfinite"].any()
    assert all(flag.shape == leading for flag in maps.flags[name].values())
    if method.rectified or method.unsigned:
        assert (full >= 0).all()
    if not (method.class_specific or method.parts):
        assert native[:, :1].expand_as(native).equal(native)
    for values in maps.details.get(name, {}).values():
        assert values.shape[:2] == leading


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_attention_is_read_where_it_is(family: Family) -> None:
    maps = everything(family)
    if family.name in ATTENDS:
        assert set(maps) >= ATTENTION
    else:
        assert not {"rollout", "chefer", "legrad", "dino_heads"} & set(maps)


def equal_within(found: Tensor, expected: Tensor, tolerance: float) -> None:
    scale = expected.abs().amax((-2, -1), keepdim=True).clamp(min=1e-30)
    assert ((found - expected) / scale).abs().max() <= tolerance


def doubled(family: Family) -> tuple[nn.Module, Tensor]:
    """In float32, rounding flips a ReLU at its kink now and then, and gradients with it."""
    return deepcopy(family.build()).double(), family.images(8).double()


@cache
def together(family: Family) -> Maps:
    return explain(
        *doubled(family),
        "all",
        [0, 1, 2, 3, 3, 2, 1, 0],
        signed=True,
        options=quick("all"),
    )


@cache
def alone(family: Family) -> list[Maps]:
    model, images = doubled(family)
    return [
        explain(model, images[b : b + 1], "all", c, signed=True, options=quick("all"))
        for b, c in enumerate([0, 1, 2, 3, 3, 2, 1, 0])
    ]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", SOME, ids=lambda f: f.name)
def test_a_batch_of_eight_is_eight_singles(family: Family, name: str) -> None:
    if name not in together(family):
        assert all(name not in one for one in alone(family))
        return
    for b, one in enumerate(alone(family)):
        equal_within(together(family).native[name][b], one.native[name][0], 1e-4)
        for key, values in together(family).details.get(name, {}).items():
            torch.testing.assert_close(
                values[b], one.details[name][key][0], rtol=1e-3, atol=1e-4, equal_nan=True
            )


@pytest.mark.parametrize("name", METHODS)
def test_the_batch_size_does_not_matter(name: str) -> None:
    for family in (NARROW, SOME[-1]):
        model, images = doubled(family)
        images = images[:5]
        names = [name, *(["gradcam", "layercam"] if "maps" in METHODS[name].needs else [])]
        if not defined(model, name):
            continue
        whole = explain(model, images, names, [0, 1, 2, 3, 0], options=quick(names))
        chunked = explain(model, images, names, [0, 1, 2, 3, 0], options=quick(names), batch_size=2)
        equal_within(chunked.native[name], whole.native[name], 1e-4)


class Fails(nn.Module):
    """A network whose head fails in the n-th forward pass."""

    def __init__(self, network: nn.Module, at: int) -> None:
        super().__init__()
        self.network, self.left = network, at

    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        self.left -= 1
        if self.left == 0:
            raise ValueError("broken in the middle")
        return logits


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything that a call must leave as it was."""
    return {
        "training": [part.training for part in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [p.grad for p in model.parameters()],
        "hooks": [
            (
                len(part._forward_hooks),
                len(part._forward_pre_hooks),
                len(part._backward_hooks),
                len(part._backward_pre_hooks),
            )
            for part in model.modules()
        ],
        "fused": [getattr(part, "fused_attn", None) for part in model.modules()],
        "instance": [sorted(k for k in vars(part) if k != "left") for part in model.modules()],
        "inplace": [getattr(part, "inplace", None) for part in model.modules()],
        "buffers": [buffer.clone() for buffer in model.buffers()],
    }


def same(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for key, values in before.items():
        if key == "buffers":
            if not all(a.equal(b) for a, b in zip(values, after[key], strict=True)):
                yield key
        elif values != after[key]:
            yield key


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", [SOME[0], SOME[-1]], ids=lambda f: f.name)
def test_nothing_is_left_behind(family: Family, name: str) -> None:
    """Not after the call, and not when the model fails in the first or second pass."""
    network = family.build()
    flags = [part.training for part in network.modules()]
    names = [name, *(["gradcam", "layercam"] if "maps" in METHODS[name].needs else [])]
    images = family.images(2)
    try:
        for at in (0, 1, 2):
            model = Fails(network, at).train()
            before = state_of(model)
            try:
                explain(model, images, names, 0, options=quick(names))
            except ValueError as error:
                assert "broken in the middle" in str(error)
            except OctoscopeError:
                pass  # not defined: nothing was run
            assert not list(same(before, state_of(model)))
    finally:
        for part, flag in zip(network.modules(), flags, strict=True):
            part.training = flag


def test_grey_images() -> None:
    """One channel, as OCT has, through every method."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=4, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    maps = explain(model, torch.rand(2, 1, 64, 96), "all", "all", options=quick("all"))
    assert {"gradcam", "guided_backprop", "occlusion", "fullgrad", "consensus"} <= set(maps)
    for name in maps:
        assert maps[name].shape == (2, 3, 64, 96) and maps[name].isfinite().all(), name
