"""Any network, wrapped in any way, gives the map of the network itself or of a plain oracle."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attribution import wrapped_nets as nets
from octoscope.attribution.explain import explain
from octoscope.attribution.maps import Maps
from octoscope.errors import OctoscopeError
from octoscope.models.layers import resolve_target
from octoscope.models.layout import TargetLayer

OF_LAYERS = ["cam", "attention", "head", "-scorecam", "-fullgrad"]
"""All methods that ask a layer or attention; the two left out are those that take long."""


def seeded(build: Callable[[], Any]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()


def images(*size: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(1))


def require_equal(found: Maps, expected: Maps) -> None:
    for name, maps in found.native.items():
        torch.testing.assert_close(
            maps,
            expected.native[name],
            rtol=0,
            atol=1e-5 * float(expected.native[name].abs().max()),
        )


def pair(build: Callable[[], nn.Module], wrap: Callable[[nn.Module], nn.Module]) -> Any:
    """Return how to build a network as it is, and the same network wrapped."""
    return lambda: (seeded(build).eval(), wrap(seeded(build)).eval())


def swin() -> nn.Module:
    small = {"embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}
    return timm.models.SwinTransformer((32, 48), num_classes=nets.CLASSES, **small)


def convnext() -> nn.Module:
    return timm.models.ConvNeXt(num_classes=nets.CLASSES, depths=(1,) * 4, dims=(8, 8, 12, 16))


def heads_apart(network: nn.Module) -> nn.Module:
    classifier = network.get_classifier()  # type: ignore[operator]
    return nn.Sequential(nets.without_head(network), classifier)


def calibrated(network: nn.Module) -> nn.Module:
    """Return a network whose head is that of `Temperature`."""
    with torch.no_grad():
        for parameter in network.get_classifier().parameters():  # type: ignore[operator]
            parameter /= 2
    return network


WRAPPED: dict[str, Any] = {
    "vit, sequential": (pair(nets.vit, heads_apart), "0.blocks.1.norm1"),
    "vit, backbone and head": (pair(nets.vit, nets.Backbone), "encoder.blocks.1.norm1"),
    "vit, class token of the features": (pair(nets.vit, nets.Features), "encoder.blocks.1.norm1"),
    "vit, temperature": (
        lambda: (calibrated(seeded(nets.vit)).eval(), nets.Temperature(seeded(nets.vit)).eval()),
        "net.blocks.1.norm1",
    ),
    "vit, lightning": (pair(nets.vit, nets.Lit), "model.1.encoder.blocks.1.norm1"),
    "vit, mean of patches": (
        pair(lambda: nets.vit(global_pool="avg", fc_norm=False), nets.MeanOfPatches),
        "encoder.blocks.1.norm1",
    ),
    "vit, LoRA": (
        lambda: tuple(one.eval() for one in seeded(lambda: nets.lora(nets.vit())))[::-1],
        "base_model.model.blocks.1.norm1",
    ),
    "vit, lightning around LoRA": (
        lambda: (lambda one: (one[1].eval(), nn.Sequential(one[0]).eval()))(
            seeded(lambda: nets.lora(nets.vit()))
        ),
        "0.base_model.model.blocks.1.norm1",
    ),
    "resnet, backbone and head": (pair(nets.resnet, nets.Backbone), "encoder.layer4"),
    "resnet, lightning": (pair(nets.resnet, nets.Lit), "model.1.encoder.layer4"),
    "resnet, list of its parts": (
        pair(nets.resnet, lambda one: nn.Sequential(*one.children())),
        "7",
    ),
    "convnext, backbone and head": (pair(convnext, nets.Backbone), "encoder.stages.3"),
    "swin, sequential": (pair(swin, heads_apart), "0.norm"),
}


@pytest.mark.parametrize("how", WRAPPED)
def test_wrapped_is_the_network_itself(how: str) -> None:
    build, layer = WRAPPED[how]
    network, wrapped = build()
    x = images(64, 96) if how.startswith(("resnet", "convnext")) else images(32, 48)
    torch.testing.assert_close(wrapped(x), network(x))
    plain = explain(network, x, OF_LAYERS, targets=1, signed=True)
    found = explain(wrapped, x, OF_LAYERS, targets=1, signed=True)
    assert found.layer == layer
    require_equal(found, plain)
    for name in set(plain) - set(found):  # relevance has rules for heads of the network alone
        assert name in ("chefer_lrp", "attnlrp") and "use chefer" in found.refused[name]
    if "vit" in how:
        assert {"rollout", "chefer", "legrad", "vit_reciprocam"} <= set(found)
    again = explain(wrapped, x, ["gradcam", "hirescam"], targets=1, layer=layer, signed=True)
    require_equal(again, plain)


def plain_maps(network: nn.Module, layer: str, x: Tensor, view: Any) -> dict[str, Tensor]:
    """CAM methods as their papers define them, from one hook and autograd.

    Args:
        network: The network.
        layer: Name of the layer.
        x: (B, C, *S).
        view: The layer's output as (B, C, *grid).
    """
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, out: Any) -> None:
        kept.append(out[0] if isinstance(out, tuple) else out)

    hook = network.get_submodule(layer).register_forward_hook(keep)
    out = network(x)
    hook.remove()
    logits = getattr(out, "logits", out)
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), kept[0])
    a, g = view(kept[0]).detach(), view(gradient)
    weights = g.flatten(2).mean(2)
    return {
        "gradcam": torch.einsum("bc,bc...->b...", weights, a),
        "hirescam": (g * a).sum(1),
        "layercam": (g.relu() * a).sum(1),
    }


def nchw(out: Tensor) -> Tensor:
    return out


def tokens(grid: tuple[int, ...], places: Any) -> Callable[[Tensor], Tensor]:
    """View tokens (B, N, C) as maps; `places` says which they are, in raster order."""
    return lambda out: out[:, places].mT.unflatten(-1, grid)


def order(grid: tuple[int, ...], arrange: Callable[[Tensor], Tensor], others: int) -> list[int]:
    """Say where each patch comes to stand when others and patches are arranged."""
    arranged = arrange(torch.arange(others + prod(grid))).tolist()
    return [arranged.index(others + patch) for patch in range(prod(grid))]


def last(o: Tensor) -> Tensor:
    return o.roll(-1)


def middle(o: Tensor) -> Tensor:
    return torch.cat([o[1:25], o[:1], o[25:]])


def around(o: Tensor) -> Tensor:
    return torch.cat([o[:1], o[3:], o[1:3]])


def columns(o: Tensor) -> Tensor:
    return torch.cat([o[:1], o[1:].view(6, 8).T.flatten()])


def winding(o: Tensor) -> Tensor:
    rows = o[1:].view(6, 8).clone()
    rows[1::2] = rows[1::2].flip(1)
    return torch.cat([rows.flatten(), o[:1]])


def own(grid: tuple[int, ...], others: int = 1, arrange: Any = None, read: int | None = 0) -> Any:
    arrange = arrange or (lambda o: o)
    layer = "trunk" if read is None else "trunk.layers.1.norm1"
    view = tokens(grid, order(grid, arrange, others))
    return lambda: nets.OwnViT(grid, others, arrange, read), layer, [4 * n for n in grid], view


BEFORE = "vit.encoder.layer.2.layernorm_before"
OWN: dict[str, Any] = {
    "ViT of transformers": (nets.HFViT, BEFORE, (32, 48), tokens((4, 6), slice(1, None))),
    "DeiT of transformers, distilled": (
        lambda: nets.HFViT(others=2),
        BEFORE,
        (32, 48),
        tokens((4, 6), slice(2, None)),
    ),
    "DINOv2 of transformers, registers": (
        lambda: nets.HFViT("both", 5),
        "vit.layernorm",
        (32, 48),
        tokens((4, 6), slice(5, None)),
    ),
    "BEiT of transformers": (
        lambda: nets.HFViT("mean"),
        "vit.layernorm",
        (32, 48),
        tokens((4, 6), slice(1, None)),
    ),
    "Swin of transformers": (
        nets.HFSwin,
        "swin.layernorm",
        (32, 48),
        tokens((4, 6), slice(None)),
    ),
    "ConvNeXt of transformers": (nets.HFConvNext, "convnext.stages.2", (32, 48), nchw),
    "CNN with norm1": (nets.OwnResNet, "blocks", (32, 48), nchw),
    "CNN of six layers": (nets.SixLayers, "layer6", (32, 48), nchw),
    "CNN with bn2 in its stem": (nets.StemNorm, "conv_head", (32, 48), nchw),
    "CNN with an attention pool": (nets.AttentionPool, "features", (32, 48), nchw),
    "CNN that ends in branches": (nets.Inception, "mixed", (32, 48), nchw),
    "ViT, 6×8 and class token": own((6, 8)),
    "ViT, 14×16 and class token": own((14, 16)),
    "ViT, 8×10 and class token": own((8, 10)),
    "ViT, mean of all tokens": own((6, 8), 0, None, None),
    "ViT, class token last": own((6, 8), 1, last, -1),
    "ViT, class token between": own((6, 8), 1, middle, 24),
    "ViT, registers after": own((6, 8), 3, around, 0),
    "ViT, columns": own((6, 8), 1, columns, 0),
    "ViT, winding rows": own((6, 8), 1, winding, -1),
    "ViT of volumes": own((3, 4, 5)),
    "ViT that normalises after": (
        lambda: nets.OwnViT((6, 8), norm_first=False),
        "trunk.layers.0",
        (24, 32),
        tokens((6, 8), slice(1, None)),
    ),
    "ViT that reshapes pixels": (
        lambda: nets.PixelViT((6, 8)),
        "layers.2.0.norm",
        (24, 32),
        tokens((6, 8), slice(1, None)),
    ),
}
LAYER_METHODS = ["gradcam", "hirescam", "layercam"]


@pytest.mark.parametrize("how", OWN)
@pytest.mark.parametrize("within", [False, True], ids=["bare", "wrapped"])
def test_own_networks_give_the_plain_map(how: str, within: bool) -> None:
    build, layer, size, view = OWN[how]
    network, x = seeded(build).eval(), images(*size)
    model = nn.ModuleList([network])[0] if not within else nets.Temperature(network).eval()
    found = explain(model, x, LAYER_METHODS, targets=1, signed=True)
    assert found.layer == ("net." if within else "") + layer
    expected = plain_maps(network, layer, x, view)
    for name in LAYER_METHODS:
        right = expected[name] / (2 if within else 1)
        torch.testing.assert_close(
            found.native[name], right, rtol=0, atol=1e-5 * float(right.abs().max())
        )


@pytest.mark.parametrize(
    ("build", "size", "says", "stated"),
    [
        (
            lambda: nets.TwoNetworks(nets.vit),
            (32, 48),
            "not all that the logits come from goes through layer first.blocks.1.norm1",
            "second.blocks.1.norm1",
        ),
        (
            lambda: nets.TwoNetworks(nets.resnet),
            (64, 96),
            "not all that the logits come from goes through layer first.layer4",
            "first.layer4",
        ),
        (nets.InlineResNet, (32, 48), "made by operations of its forward.*nn.Identity", "convs.3"),
    ],
    ids=["two ViTs", "two ResNets", "residuals in the forward"],
)
def test_what_has_no_such_layer_is_refused(
    build: Any, size: tuple[int, int], says: str, stated: str
) -> None:
    """Nor does a layer below one that was refused stand in for it; what is asked for is done."""
    network, x = seeded(build).eval(), images(*size)
    with pytest.raises(OctoscopeError, match=says) as refusal:
        explain(network, x, "gradcam")
    assert "\n" not in str(refusal.value)
    view = tokens((4, 6), slice(1, None)) if "norm1" in stated else nchw
    right = plain_maps(network, stated, x, view)["hirescam"]
    found = explain(network, x, "hirescam", targets=1, layer=stated, signed=True)
    torch.testing.assert_close(found.native["hirescam"], right)


@pytest.mark.parametrize("size", [(28, 42), (30, 41)])
def test_a_padded_grid_is_laid_over_what_it_spans(size: tuple[int, int]) -> None:
    network = seeded(lambda: nets.vit(dynamic_img_size=True, dynamic_img_pad=True)).eval()
    x = images(*size)
    found = explain(nn.Sequential(network), x, ["hirescam", "rollout"], targets=1, signed=True)
    view = tokens((4, 6), slice(1, None))
    native = plain_maps(network, "blocks.1.norm1", x, view)["hirescam"]
    whole = F.interpolate(native[None], (32, 48), mode="bilinear")[0]
    torch.testing.assert_close(found["hirescam"], whole[:, : size[0], : size[1]])
    padded = F.pad(x, (0, 48 - size[1], 0, 32 - size[0]))
    same = explain(network, padded, "rollout", targets=1)
    torch.testing.assert_close(found["rollout"], same["rollout"][:, : size[0], : size[1]])


def test_pixels_that_no_patch_sees_show_what_the_nearest_does() -> None:
    network = seeded(lambda: nets.OwnViT((6, 8))).eval()
    x = images(26, 35)
    found = explain(network, x, "hirescam", targets=1, signed=True)
    view = tokens((6, 8), slice(1, None))
    native = plain_maps(network, "trunk.layers.1.norm1", x, view)["hirescam"]
    whole = F.interpolate(native[None], (24, 32), mode="bilinear")
    expected = F.pad(whole, (0, 3, 0, 2), mode="replicate")[0]
    torch.testing.assert_close(found["hirescam"], expected)


BLANK = {
    "own CNN": lambda: dim_cnn(),
    "own ViT": lambda: nets.OwnViT((6, 8)),
    "resnet": lambda: nets.Lit(nets.resnet(channels=(4, 4, 8, 8))),
    "vit": lambda: nets.Backbone(nets.vit((24, 32))),
}


def dim_cnn() -> nn.Module:
    """A CNN whose last layer is silent where the image is dark."""
    convs = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.Conv2d(8, 8, 3, 2, 1)
    nn.init.constant_(convs[1].bias, -0.02)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = convs
            self.fc = nn.Linear(8, nets.CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(F.relu(self.second(F.relu(self.first(x)))).mean((2, 3)))

    return Net()


@pytest.mark.parametrize("how", BLANK)
@pytest.mark.parametrize("factor", [0.0, 0.01], ids=["blank", "dim"])
def test_the_first_image_changes_nothing(how: str, factor: float) -> None:
    x = images(64, 96) if how == "resnet" else images(24, 32)
    dark = x[:1] * factor
    names = [*OF_LAYERS, *(["-head"] if how == "own ViT" else [])]  # it has a class token
    after = explain(seeded(BLANK[how]).eval(), torch.cat([x, dark]), names, 1, signed=True)
    before = explain(seeded(BLANK[how]).eval(), torch.cat([dark, x]), names, 1, signed=True)
    assert before.layer == after.layer and set(before) == set(after)
    for name, maps in before.native.items():
        scale = float(after.native[name][:2].abs().max())
        torch.testing.assert_close(maps[1:], after.native[name][:2], rtol=0, atol=1e-5 * scale)


def test_two_readings_are_refused_until_one_is_stated() -> None:
    """Patches that are mixed from the start: 24×24 and a token, or 23×25 and two?"""

    class Overlapping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fold, self.embed = nn.Unfold(6, stride=4, padding=1), nn.Linear(108, nets.D)
            self.cls, self.head = nn.Parameter(torch.randn(1, 1, nets.D)), nn.Linear(nets.D, 4)
            self.norm = nn.LayerNorm(nets.D)

        def forward(self, x: Tensor) -> Tensor:
            patches = self.embed(self.fold(x).mT)
            patches = torch.cat(
                [self.cls.expand(len(x), -1, -1), patches + patches.mean(1, True)], 1
            )
            return self.head(self.norm(patches).mean(1))

    network, x = seeded(Overlapping).eval(), images(98, 98)
    with pytest.raises(
        OctoscopeError, match="may be 24×24 after 1 others or 23×25 after 2"
    ) as refusal:
        explain(network, x, "hirescam", layer="norm")
    assert "TargetLayer" in str(refusal.value)
    grid = tuple((n + 2 - 6) // 4 + 1 for n in (98, 98))
    stated = TargetLayer("norm", network.norm, "tokens", grid, 1)
    found = explain(network, x, "hirescam", targets=1, layer=stated, signed=True)
    right = plain_maps(network, "norm", x, tokens(grid, slice(1, None)))["hirescam"]
    torch.testing.assert_close(found.native["hirescam"], right)


def test_a_network_that_changed_is_looked_at_again() -> None:
    network, x = seeded(nets.SixLayers).eval(), images(32, 48)
    assert resolve_target(network, x).name == "layer6"
    network.layer6 = nn.Sequential(network.layer6, nn.Conv2d(8, 8, 3, 1, 1))
    assert resolve_target(network, x).name == "layer6"
    network.layer6 = nn.AdaptiveAvgPool2d(1)
    assert resolve_target(network, x).name == "layer5"
