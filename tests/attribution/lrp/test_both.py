"""What both methods must do: find what is planted, follow wrappers, leave nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.layers import Attention, SwiGLUPacked
from timm.models import vision_transformer as timm_vit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from octoscope.attribution.explain import explain
from octoscope.attribution.lrp.rows import ROWS
from octoscope.errors import OctoscopeError
from octoscope.models.classifier import Classifier
from octoscope.models.preprocess import Preprocess
from octoscope.scans.framing import Framing
from timm_families import FAMILIES, Family

NAMES = [row.name for row in ROWS]
VIT = next(f for f in FAMILIES if f.name == "vit_tiny_patch16_224")
PLAIN = (
    "vit_tiny_patch16_224",
    "deit3_small_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "vit_small_patch14_reg4_dinov2",
)
OTHERS = (
    "vit_small_patch16_dinov3",
    "vit_base_patch16_siglip_224",
    "beit_base_patch16_224",
    "eva02_tiny_patch14_224",
)
WHERE = {"attnlrp": (*PLAIN, *OTHERS), "chefer_lrp": PLAIN}
"""Families that each method is defined for."""


class Gated(Attention):
    """Attention with a gate."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, gated=True, **options)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_defined_or_refused(family: Family, name: str) -> None:
    """A finite map, or a sentence that names what to use instead; never a number out of nothing."""
    model, images = family.build(), family.images(2)
    if family.name in WHERE[name]:
        maps = explain(model, images, name, targets="all")
        size = family.size if name == "attnlrp" else family.grid
        assert maps.native[name].shape == (2, 4, *size)
        assert maps[name].shape == (2, 4, *family.size) and maps[name].isfinite().all()
        assert not maps.flags[name]["all_zero"].any()
        assert bool((maps.native[name] < 0).any()) == (name == "attnlrp")
        return
    with pytest.raises(OctoscopeError, match=r"use (gradcam|chefer)") as refusal:
        explain(model, images, name)
    assert type(model).__name__ in str(refusal.value) and "\n" not in str(refusal.value)
    behind = explain(model, images, ["gradcam", "attention"]) if family.kind != "nchw" else None
    assert behind is None or name in behind.refused


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({"act_layer": "hard_swish"}, {"attnlrp": "no rule for layer blocks.0.mlp.act"}),
        ({"act_layer": "quick_gelu"}, {}),
        ({"act_layer": "gelu_tanh", "norm_layer": "rmsnorm"}, {}),
        ({"block_fn": timm_vit.ResPostBlock}, {"chefer_lrp": "blocks of another kind"}),
        ({"mlp_layer": SwiGLUPacked}, {"chefer_lrp": "an MLP of another kind"}),
        (
            {"attn_layer": Gated},
            {"attnlrp": "no rule for its gate", "chefer_lrp": "gates its attention"},
        ),
        ({"qk_norm": True, "scale_attn_norm": True, "scale_mlp_norm": True}, {}),
        ({"pre_norm": True, "qkv_bias": False}, {}),
    ],
    ids=str,
)
def test_variants(options: dict[str, Any], refused: dict[str, str]) -> None:
    """Vision transformers out of unusual parts."""
    network = VisionTransformer(
        img_size=(32, 48),
        patch_size=8,
        embed_dim=24,
        depth=2,
        num_heads=2,
        num_classes=3,
        **options,
    )
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    for name in NAMES:
        if name in refused:
            with pytest.raises(OctoscopeError, match=refused[name]):
                explain(network, images, name)
        else:
            assert explain(network, images, name)[name].isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_any_image_size(name: str) -> None:
    """A ViT that takes any size, in one channel: 4 × 6 patches, then 2 × 5."""
    torch.manual_seed(0)
    network = VisionTransformer(
        img_size=32, patch_size=8, in_chans=1, embed_dim=24, depth=2, num_heads=2, num_classes=3,
        dynamic_img_size=True,
    )  # fmt: skip
    for grid in ((4, 6), (2, 5)):
        images = torch.rand(2, 1, 8 * grid[0], 8 * grid[1])
        maps = explain(network, images, name)
        assert maps.native[name].shape[1:] in (grid, images.shape[2:])
        assert maps[name].shape == (2, *images.shape[2:]) and maps[name].isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_our_own_classifier(name: str) -> None:
    """Grey images through `Classifier`: the map of what its network is fed."""
    network = VIT.build()
    preprocess = Preprocess(Framing(height=64, width=96), 3, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
    classifier = Classifier(network, ["CNV", "DME", "DRUSEN", "NORMAL"], preprocess)
    grey = VIT.images(2)[:, :1]
    grey[:, :, :16] = 0  # the background, which the network sees as -μ/σ
    found = explain(classifier, grey, name, targets="all").native[name]
    inside = explain(network, classifier.normalise(grey), name, targets="all").native[name]
    assert (found - inside).abs().max() <= 1e-5 * inside.abs().max()
    assert (found[:, :, 0] != 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_permuted_classes_and_shifted_logits(name: str) -> None:
    class Changed(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = x + 0
            return self.network(x)[:, [2, 0, 3, 1]] + 5

    model, images = VIT.build(), VIT.images(2)
    original = explain(model, images, name, targets="all").native[name]
    changed = explain(Changed(model), images, name, targets="all").native[name]
    expected = original[:, [2, 0, 3, 1]]
    assert (changed - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert explain(Changed(model), images, name, targets=1).native[name].equal(changed[:, 1])


@pytest.mark.parametrize("name", NAMES)
def test_a_bright_patch_is_found(name: str) -> None:
    """A ViT made by hand whose class token attends to bright patches, and adds what it finds."""
    network = bright_patch_vit()
    images = 0.2 + 0.05 * torch.rand(4, 1, 32, 48, generator=torch.Generator().manual_seed(0))
    places = [(0, 0), (1, 4), (3, 5), (2, 2)]
    for image, (row, column) in zip(images, places, strict=True):
        image[:, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = 1.0
    maps = explain(network, images, name, targets=0).native[name]
    patches = nn.functional.adaptive_avg_pool2d(maps[:, None], (4, 6))[:, 0]
    assert [divmod(int(one.argmax()), 6) for one in patches] == places


def bright_patch_vit() -> VisionTransformer:
    """Channel 0 is brightness, 2 and 3 mark patch and class token, 4 gathers brightness."""
    network: Any = VisionTransformer(
        img_size=(32, 48),
        patch_size=8,
        in_chans=1,
        embed_dim=8,
        depth=2,
        num_heads=1,
        num_classes=2,
        mlp_ratio=1,
        qkv_bias=True,
    ).eval()
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.LayerNorm):
                part.weight.fill_(1)
        network.patch_embed.proj.weight[0].fill_(1 / 64)
        network.pos_embed[:, 1:, 2] = 1
        network.cls_token[..., 3] = 1
        network.blocks[0].mlp.fc1.weight.fill_(0.01)
        for block in network.blocks:
            block.attn.qkv.weight[0, 3] = 4  # the class token asks …
            block.attn.qkv.weight[8, 0] = 4  # … for brightness
            block.attn.qkv.weight[16, 0] = 1
            block.attn.proj.weight[4, 0] = 1
        network.head.weight[0, 4], network.head.weight[1, 4] = 1, -1
    return network


class Broken(nn.Module):
    """A ViT that raises after its network has run, if told to."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls_left = 10**6

    def forward(self, x: Tensor) -> Tensor:
        self.calls_left -= 1
        out = self.network(x)
        if self.calls_left < 0:
            raise ValueError("broken")
        return out


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("calls", [10**6, 0, 1, 2])
def test_nothing_is_left_behind(name: str, calls: int) -> None:
    model = Broken(VIT.build()).train()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.calls_left = calls
    raised = False
    try:
        explain(model, VIT.images(2), name, classes=[0, 1])
    except ValueError:
        raised = True
    if calls != 2:  # the shared pass, one of the method's own, and perhaps one that measures
        assert raised == (calls < 2)
    assert torch._C._len_torch_function_stack() == 0
    assert torch.is_grad_enabled()
    for part in model.modules():
        assert not part._forward_hooks and not part._forward_pre_hooks
        assert not part._backward_hooks and "forward" not in vars(part)
        assert part.training and getattr(part, "fused_attn", True)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())
    VIT.build().eval()
