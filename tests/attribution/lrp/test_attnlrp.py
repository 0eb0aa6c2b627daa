"""AttnLRP of whole networks against relevance that is propagated step by step, by formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from octoscope.attribution.explain import explain
from octoscope.attribution.lrp import attnlrp
from timm_families import FAMILIES, Family

TINY: dict[str, Any] = {
    "img_size": (16, 24),
    "patch_size": 8,
    "embed_dim": 12,
    "num_heads": 3,
    "num_classes": 3,
    "mlp_ratio": 2,
}
KINDS: dict[str, dict[str, Any]] = {
    "one block": {"depth": 1},
    "two blocks": {"depth": 2},
    "grey, averaged, scaled": {"depth": 2, "in_chans": 1, "global_pool": "avg", "init_values": 0.5},
    "registers, normed queries": {"depth": 2, "reg_tokens": 2, "qk_norm": True},
}
VIT = next(f for f in FAMILIES if f.name == "vit_tiny_patch16_224")
SUPPORTED = [f for f in FAMILIES if f.name.startswith(("vit_", "deit", "beit", "eva02"))]


def tiny(**options: Any) -> VisionTransformer:
    """A ViT of random numbers, biases and norms too, in double precision."""
    torch.manual_seed(0)
    network = VisionTransformer(**TINY | options).double().eval()
    for name, parameter in network.named_parameters():
        scale = 0.3 if parameter.ndim > 1 else 0.2
        nn.init.normal_(parameter, mean="norm" in name and "weight" in name, std=scale)
    return network


class StepByStep:
    """Relevance of a ViT for one image, from the logit to the pixels, one formula per step.

    What does not reach the step before is counted: biases, positions, the class token, softmax.
    """

    def __init__(self, network: VisionTransformer, image: Tensor) -> None:
        self.network: Any = network
        self.image = image  # (C, H, W)
        self.kept = 0.0

    def linear(self, layer: nn.Linear, x: Tensor, relevance: Tensor) -> Tensor:
        """R_j = Σ_i x_j w_ij R_i / z_i; the bias keeps b_i R_i / z_i."""
        share = relevance / layer(x)
        self.kept += float((layer.bias * share).sum()) if layer.bias is not None else 0
        return torch.einsum("nj,ij,ni->nj", x, layer.weight, share)

    def norm(self, layer: nn.Module, x: Tensor, relevance: Tensor) -> Tensor:
        if isinstance(layer, nn.Identity):
            return relevance
        share = relevance / layer(x)
        self.kept += float((layer.bias * share).sum())  # type: ignore[operator]
        of_scaled = relevance - layer.bias * share  # type: ignore[operator]
        centred = x - x.mean(-1, keepdim=True)
        width = x.shape[-1]
        centring = torch.eye(width, dtype=x.dtype) - 1 / width
        return torch.einsum("...i,ji,...j->...i", x, centring, of_scaled / centred)

    def attention(self, layer: Any, x: Tensor, relevance: Tensor) -> Tensor:
        """Take relevance of the block's attention (N, D) to its input, head by head."""
        count, width = x.shape
        heads, size = layer.num_heads, layer.head_dim
        raw = layer.qkv(x).reshape(count, 3, heads, size)
        queries, keys, values = layer.q_norm(raw[:, 0]), layer.k_norm(raw[:, 1]), raw[:, 2]
        mixed = torch.zeros(count, heads, size, dtype=x.dtype)
        matrices = []
        for h in range(heads):
            logits = queries[:, h] @ keys[:, h].T / size**0.5
            matrices.append((logits, logits.softmax(-1)))
            mixed[:, h] = matrices[h][1] @ values[:, h]
        upper = self.linear(layer.proj, mixed.flatten(1), relevance).reshape(count, heads, size)
        of_raw = torch.zeros_like(raw)
        for h, (logits, a) in enumerate(matrices):
            v, o = values[:, h], mixed[:, h]
            of_a = torch.einsum("ji,ip,jp->ji", a, v, upper[:, h] / (2 * o))
            of_raw[:, 2, h] = torch.einsum("ji,ip,jp->ip", a, v, upper[:, h] / (2 * o))
            of_logits = logits * (of_a - a * of_a.sum(-1, keepdim=True))
            self.kept += float(of_a.sum() - of_logits.sum())
            q, k = queries[:, h], keys[:, h]
            share = of_logits / (2 * q @ k.T)
            of_q = torch.einsum("id,jd,ij->id", q, k, share)
            of_k = torch.einsum("id,jd,ij->jd", q, k, share)
            of_raw[:, 0, h] = self.norm(layer.q_norm, raw[:, 0, h], of_q)
            of_raw[:, 1, h] = self.norm(layer.k_norm, raw[:, 1, h], of_k)
        return self.linear(layer.qkv, x, of_raw.reshape(count, 3 * width))

    def block(self, block: Any, x: Tensor, relevance: Tensor) -> Tensor:
        attended = block.ls1(block.attn(block.norm1(x)[None])[0])
        middle = x + attended
        changed = block.ls2(block.mlp(block.norm2(middle)))
        share = relevance / (middle + changed)
        hidden = block.mlp.fc1(block.norm2(middle))
        upper = self.linear(block.mlp.fc2, block.mlp.act(hidden), changed * share)
        upper = self.linear(block.mlp.fc1, block.norm2(middle), upper)  # GELU hands R on
        of_middle = middle * share + self.norm(block.norm2, middle, upper)
        share = of_middle / middle
        upper = self.attention(block.attn, block.norm1(x), attended * share)
        return x * share + self.norm(block.norm1, x, upper)

    def __call__(self, target: int) -> Tensor:
        """Return R of the pixels, (H, W)."""
        net = self.network
        grid, patch = net.patch_embed.grid_size, net.patch_embed.patch_size[0]
        embedded = net.patch_embed(self.image[None])
        tokens = [net._pos_embed(embedded)[0]]
        for block in net.blocks:
            tokens.append(block(tokens[-1][None])[0])
        prefix = net.num_prefix_tokens
        token = net.global_pool == "token"
        normed = net.norm(tokens[-1])
        pooled = normed[:1] if token else normed[prefix:].mean(0, keepdim=True)
        logits = net.head(net.fc_norm(pooled))
        relevance = torch.zeros_like(logits)
        relevance[0, target] = logits[0, target]
        upper = self.linear(net.head, net.fc_norm(pooled), relevance)
        upper = self.norm(net.fc_norm, pooled, upper)
        of_normed = torch.zeros_like(normed)
        if token:
            of_normed[:1] = upper
        else:
            of_normed[prefix:] = normed[prefix:] * (upper / pooled) / len(normed[prefix:])
        relevance = self.norm(net.norm, tokens[-1], of_normed)
        for block, x in zip(list(net.blocks)[::-1], tokens[-2::-1], strict=True):
            relevance = self.block(block, x, relevance)
        self.kept += float(relevance[:prefix].sum())
        share = relevance[prefix:] / tokens[0][prefix:]
        position = tokens[0][prefix:] - embedded[0]
        self.kept += float((position * share).sum())
        weight, bias = net.patch_embed.proj.weight, net.patch_embed.proj.bias
        self.kept += float((bias * share).sum())
        found = torch.zeros(self.image.shape[1:], dtype=self.image.dtype)
        for n, (row, column) in enumerate((r, c) for r in range(grid[0]) for c in range(grid[1])):
            rows = slice(row * patch, (row + 1) * patch)
            columns = slice(column * patch, (column + 1) * patch)
            pixels = self.image[:, rows, columns]
            found[rows, columns] = torch.einsum("cxy,dcxy,d->xy", pixels, weight, share[n])
        return found


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_step_by_step(kind: str) -> None:
    """The efficient form is the explicit one, and every bit of the logit is accounted for."""
    network = tiny(**KINDS[kind])
    generator = torch.Generator().manual_seed(1)
    channels = network.patch_embed.proj.in_channels
    images = torch.randn(3, channels, 16, 24, generator=generator, dtype=torch.float64)
    maps = explain(network, images, "attnlrp", targets=[0, 1, 2])
    for b in range(3):
        explicit = StepByStep(network, images[b])
        expected = explicit(b)
        scale = expected.abs().max()
        assert ((maps.native["attnlrp"][b] - expected) / scale).abs().max() <= 1e-4
        logit = float(maps.logits[b, b])
        assert float(expected.sum()) + explicit.kept == pytest.approx(logit, rel=1e-6)


@pytest.mark.parametrize("family", SUPPORTED, ids=lambda f: f.name)
def test_every_family(family: Family) -> None:
    """Finite maps; eight images are eight single ones; all classes are each class alone."""
    model, images, classes = family.build(), family.images(8), [0, 1, 2, 3, 3, 2, 1, 0]
    together = explain(model, images, "attnlrp", targets=classes).native["attnlrp"]
    assert together.shape == (8, *family.size) and together.isfinite().all()
    for b in range(8):
        alone = explain(model, images[b : b + 1], "attnlrp", targets=classes[b]).native["attnlrp"]
        assert (together[b] - alone[0]).abs().max() <= 1e-5 * alone.abs().max()
    every = explain(model, images[:2], "attnlrp", targets="all").native["attnlrp"]
    assert every[0, 0].equal(explain(model, images[:2], "attnlrp", targets=0).native["attnlrp"][0])
    assert (every[0, 0] != every[0, 1]).any()


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the graph of the whole batch has no room, it is built in pieces, to the same effect."""
    model, images = VIT.build(), VIT.images(8)
    whole = explain(model, images, "attnlrp", classes=[0, 2]).native["attnlrp"]
    monkeypatch.setattr(attnlrp, "fitting", lambda *_a, **_k: 3)
    pieces = explain(model, images, "attnlrp", classes=[0, 2]).native["attnlrp"]
    assert (whole - pieces).abs().max() <= 1e-5 * whole.abs().max()
    small = explain(model, images, "attnlrp", classes=[0, 2], batch_size=1).native["attnlrp"]
    assert (whole - small).abs().max() <= 1e-5 * whole.abs().max()


def test_what_pixels_do_not_get_is_told() -> None:
    """Biases, tokens and softmax keep a part: the by-product is what is missing from the logit."""
    torch.manual_seed(0)
    vit = VisionTransformer(**TINY, depth=2).eval()
    nn.init.normal_(vit.get_parameter("head.weight"))
    maps = explain(vit, torch.rand(2, 3, 16, 24), ["attnlrp"], classes=[1, 2])
    sums = maps["attnlrp"].sum((-2, -1))
    missing = maps.details["attnlrp"]["unexplained"]
    torch.testing.assert_close(sums + missing, maps.logits[:, [1, 2]], atol=1e-5, rtol=1e-5)
    assert missing.abs().max() > 1e-3
