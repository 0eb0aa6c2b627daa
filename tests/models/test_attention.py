"""Finding attention from attributes alone, and refusing what cannot be read."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from octoscope.errors import OctoscopeError
from octoscope.models.attention import find_attention
from timm_families import FAMILIES, Family

ATTENDING = {
    "vit_tiny_patch16_224": ("token", slice(0, 1)),
    "deit3_small_patch16_224": ("token", slice(0, 1)),
    "deit_tiny_distilled_patch16_224": ("token", slice(0, 2)),
    "vit_small_patch14_reg4_dinov2": ("token", slice(0, 1)),
    "vit_small_patch16_dinov3": ("avg", slice(5, None)),
    "vit_base_patch16_siglip_224": ("map", slice(0, None)),
    "beit_base_patch16_224": ("avg", slice(1, None)),
    "eva02_tiny_patch14_224": ("avg", slice(1, None)),
}
KNOWN = [family for family in FAMILIES if family.name in ATTENDING]
OTHERS = [family for family in FAMILIES if family.name not in ATTENDING]


@pytest.mark.parametrize("family", KNOWN, ids=lambda f: f.name)
def test_layers_and_what_the_head_reads(family: Family) -> None:
    model = family.build()
    stack = find_attention(model)
    assert (stack.pooling, stack.read) == ATTENDING[family.name]
    assert stack.prefix_tokens == family.prefix and stack.network is model
    assert [layer.block_name for layer in stack.layers] == ["blocks.0", "blocks.1"]
    for layer in stack.layers:
        assert model.get_submodule(layer.name) is layer.matrix
        assert model.get_submodule(layer.block_name) is layer.block
        assert layer.attention is layer.block.attn


@pytest.mark.parametrize("family", KNOWN, ids=lambda f: f.name)
def test_the_head_reads_these_tokens_and_no_others(family: Family) -> None:
    """The gradient of the logits in the last tokens says which are read; weights may differ."""
    model, stack = family.build(), find_attention(family.build())
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, out: Tensor) -> Tensor:
        seen.append(out.detach().requires_grad_())
        return seen[-1]

    hook = stack.layers[-1].block.register_forward_hook(keep)
    try:
        logits = model(family.images(1))
    finally:
        hook.remove()
    (gradient,) = torch.autograd.grad(logits.pow(2).sum(), seen[0])
    used = gradient[0].abs().sum(-1) > 0
    expected = torch.zeros_like(used)
    expected[stack.read] = True
    assert used.equal(expected)


@pytest.mark.parametrize("family", KNOWN, ids=lambda f: f.name)
def test_the_matrix_is_the_attention(family: Family) -> None:
    model = family.build()
    stack = find_attention(model)
    seen: list[Tensor] = []
    hooks = [
        layer.matrix.register_forward_hook(lambda _m, _i, out: seen.append(out))
        for layer in stack.layers
    ]
    before = [(part, name, getattr(part, name)) for part, name, _ in stack.switches]
    try:
        for part, name, value in stack.switches:
            setattr(part, name, value)
        with torch.no_grad():
            model(family.images(1))
    finally:
        for hook in hooks:
            hook.remove()
        for part, name, value in before:
            setattr(part, name, value)
    tokens = family.prefix + family.grid[0] * family.grid[1]
    assert len(seen) == len(stack.switches) == 2
    for matrix in seen:
        assert matrix.shape == (1, 3, tokens, tokens)
        torch.testing.assert_close(matrix.sum(-1), torch.ones(1, 3, tokens))


@pytest.mark.parametrize("family", OTHERS, ids=lambda f: f.name)
def test_others_are_refused(family: Family) -> None:
    with pytest.raises(OctoscopeError, match="use gradcam or layercam") as fault:
        find_attention(family.build())
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet10t", "ResNet has no attention; use gradcam or layercam"),
        ("mixer_s16_224", "MlpMixer has no attention"),
        ("swin_tiny_patch4_window7_224", "SwinTransformer attends within shifted windows"),
        ("xcit_nano_12_p16_224", "Xcit attends between channels"),
        ("levit_128s", "no attention that is one matrix between all tokens"),
        ("pvt_v2_b0", "no attention that is one matrix between all tokens"),
    ],
)
def test_reasons(name: str, sentence: str) -> None:
    family = next(family for family in FAMILIES if family.name == name)
    with pytest.raises(OctoscopeError, match=sentence):
        find_attention(family.build())


def vit(**options: object) -> nn.Module:
    small = {"embed_dim": 24, "depth": 1, "num_heads": 2, "img_size": 32, "num_classes": 3}
    return timm.models.vision_transformer.VisionTransformer(**(small | options))


@pytest.mark.parametrize("pool", ["max", "avgmax", "prr"])
def test_pools_without_weights_are_refused(pool: str) -> None:
    with pytest.raises(OctoscopeError, match=f'pools tokens by "{pool}"'):
        find_attention(vit(global_pool=pool))


def test_differences_of_attention_are_refused() -> None:
    with pytest.raises(OctoscopeError, match="subtracts one attention from another"):
        find_attention(vit(attn_layer="diff"))


def test_prefix_in_the_mean_and_registers_before_a_pool() -> None:
    assert find_attention(vit(global_pool="avg")).read == slice(1, None)
    within = vit(global_pool="avg", pool_include_prefix=True)
    assert find_attention(within).read == slice(0, None)
    pooled = vit(global_pool="map", class_token=False, reg_tokens=3)
    assert find_attention(pooled).read == slice(3, None)


def test_torchvision_and_transformers_are_refused() -> None:
    model = torchvision.models.VisionTransformer(32, 16, 1, 2, 24, 24, num_classes=3)
    with pytest.raises(OctoscopeError, match=r"nn\.MultiheadAttention.*build it with timm"):
        find_attention(model)
    theirs = nn.Sequential(
        type("ViTAttention", (nn.Module,), {"__module__": "transformers.models"})()
    )
    with pytest.raises(OctoscopeError, match=r"built by transformers.*build it with timm"):
        find_attention(theirs)


def test_wrappers_are_looked_into() -> None:
    network = vit()
    wrapped = nn.DataParallel(nn.Sequential(nn.Identity(), network))
    stack = find_attention(wrapped)
    assert stack.network is network
    assert stack.layers[0].name == "1.blocks.0.attn.attn_drop"
    assert stack.layers[0].block_name == "1.blocks.0"
