"""Relevance-weighed attention against a plain implementation of its paper, one image at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from octoscope.attribution.explain import explain
from octoscope.attribution.lrp.chefer_lrp import propagated
from octoscope.attribution.lrp.recording import record
from timm_families import FAMILIES, Family

TINY: dict[str, Any] = {
    "img_size": (32, 48),
    "patch_size": 8,
    "embed_dim": 24,
    "num_heads": 3,
    "num_classes": 3,
    "depth": 3,
}
KINDS: dict[str, tuple[type[VisionTransformer], dict[str, Any]]] = {
    "class token": (VisionTransformer, {}),
    "mean of patches": (VisionTransformer, {"global_pool": "avg"}),
    "mean of normed patches": (VisionTransformer, {"global_pool": "avg", "fc_norm": False}),
    "registers, layer scale": (VisionTransformer, {"reg_tokens": 4, "init_values": 0.5}),
    "normed queries, no bias": (VisionTransformer, {"qk_norm": True, "qkv_bias": False}),
    "distilled": (VisionTransformerDistilled, {}),
}
PLAIN = [f for f in FAMILIES if f.name.startswith(("vit_tiny", "deit", "vit_small_patch14"))]


def tiny(kind: str) -> VisionTransformer:
    """A ViT of random numbers in double precision."""
    constructor, options = KINDS[kind]
    torch.manual_seed(0)
    network = constructor(**TINY | options).double().eval()
    for name, parameter in network.named_parameters():
        scale = 0.3 if parameter.ndim > 1 else 0.2
        nn.init.normal_(parameter, mean="norm" in name and "weight" in name, std=scale)
    return network


def drawn(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, 32, 48, generator=generator, dtype=torch.float64)


class PlainChefer:
    """The method for one image; every rule is x ⊙ ∂z/∂x · R/z of a function z of autograd."""

    def __init__(self, network: VisionTransformer) -> None:
        self.network: Any = network

    def rule(
        self, function: Callable[..., Tensor], parts: list[Tensor], relevance: Tensor
    ) -> list[Tensor]:
        leaves = [part.detach().clone().requires_grad_() for part in parts]
        out = function(*leaves)
        share = torch.where(out == 0, 0, relevance / out.detach())
        gradients = torch.autograd.grad(out, leaves, share)
        return [leaf.detach() * g for leaf, g in zip(leaves, gradients, strict=True)]

    def linear(self, layer: nn.Linear, x: Tensor, relevance: Tensor) -> Tensor:
        """Positive products only: the positive parts of both, and the negative parts of both."""

        def products(plus: Tensor, minus: Tensor) -> Tensor:
            return plus @ layer.weight.relu().T + minus @ (-(-layer.weight).relu()).T

        return sum(self.rule(products, [x.relu(), -(-x).relu()], relevance))  # type: ignore[return-value]

    def both(
        self, function: Callable[..., Tensor], parts: list[Tensor], relevance: Tensor
    ) -> list[Tensor]:
        """Eq 8 and 9: the relevance of two operands, scaled to keep the sum."""
        u, v = self.rule(function, parts, relevance)
        whole = u.sum().abs() + v.sum().abs()
        return [one * (one.sum().abs() / whole) * (relevance.sum() / one.sum()) for one in (u, v)]

    def __call__(self, image: Tensor, target: int) -> Tensor:
        """Return the row of C that the head reads, less that of the identity, (tokens)."""
        net = self.network
        tokens = net.norm_pre(net._pos_embed(net.patch_embed(image[None])))[0]
        seen: list[dict[str, Tensor]] = []
        for block in net.blocks:
            kept: dict[str, Tensor] = {"x": tokens}
            attention = block.attn
            count, width = tokens.shape
            kept["normed"] = block.norm1(tokens)
            raw = attention.qkv(kept["normed"]).reshape(count, 3, attention.num_heads, -1)
            q, k, kept["v"] = raw.transpose(0, 2).unbind(1)
            kept["q"], kept["k"] = attention.q_norm(q), attention.k_norm(k)
            kept["a"] = (kept["q"] @ kept["k"].mT * attention.scale).softmax(-1)
            kept["a"].retain_grad() if kept["a"].requires_grad else kept["a"].requires_grad_()
            kept["mixed"] = (kept["a"] @ kept["v"]).transpose(0, 1).reshape(count, width)
            kept["attended"] = block.ls1(attention.proj(kept["mixed"]))
            kept["middle"] = tokens + kept["attended"]
            kept["mlp_in"] = block.norm2(kept["middle"])
            kept["hidden"] = block.mlp.act(block.mlp.fc1(kept["mlp_in"]))
            kept["changed"] = block.ls2(block.mlp.fc2(kept["hidden"]))
            tokens = kept["middle"] + kept["changed"]
            seen.append(kept)
        normed, prefix = net.norm(tokens), net.num_prefix_tokens
        row = torch.zeros(len(tokens), dtype=image.dtype)
        seed = F.one_hot(torch.tensor(target), 3).to(image)
        relevance = torch.zeros_like(normed)
        if hasattr(net, "head_dist"):
            row[:2] = 0.5
            outs = [net.head(normed[0]), net.head_dist(normed[1])]
            score = (outs[0] + outs[1])[target] / 2
            shares = self.both(torch.add, outs, seed)
            relevance[0] = self.linear(net.head, normed[0], shares[0])
            relevance[1] = self.linear(net.head_dist, normed[1], shares[1])
        elif net.global_pool == "token":
            row[0] = 1
            score = net.head(normed[0])[target]
            relevance[0] = self.linear(net.head, normed[0], seed)
        else:
            row[prefix:] = 1 / len(tokens[prefix:])
            pooled = net.fc_norm(normed[prefix:].mean(0))
            score = net.head(pooled)[target]
            upper = self.linear(net.head, pooled, seed)
            mean = nn.Linear(len(tokens[prefix:]), 1, bias=False).to(image)
            nn.init.constant_(mean.weight, 1 / len(tokens[prefix:]))
            relevance[prefix:] = self.linear(mean, normed[prefix:].T, upper[:, None]).T
        start = row
        gradients = torch.autograd.grad(score, [kept["a"] for kept in seen])
        for block, kept, gradient in zip(
            list(net.blocks)[::-1], seen[::-1], gradients[::-1], strict=True
        ):
            passed, upper = self.both(torch.add, [kept["middle"], kept["changed"]], relevance)
            upper = self.linear(block.mlp.fc2, kept["hidden"], upper)
            relevance = passed + self.linear(block.mlp.fc1, kept["mlp_in"], upper)
            passed, upper = self.both(torch.add, [kept["x"], kept["attended"]], relevance)
            upper = self.linear(block.attn.proj, kept["mixed"], upper)
            upper = upper.reshape(len(upper), block.attn.num_heads, -1).transpose(0, 1)
            of_a, of_v = self.both(torch.matmul, [kept["a"], kept["v"]], upper)
            row = row + row @ (gradient * of_a).relu().mean(0)
            of_q, of_k = self.both(lambda q, k: q @ k.mT, [kept["q"], kept["k"]], of_a)
            of_raw = torch.stack([of_q, of_k, of_v], 1).transpose(0, 2)
            upper = self.linear(block.attn.qkv, kept["normed"], of_raw.flatten(1))
            relevance = passed + upper
        return (row - start).detach()


@pytest.mark.parametrize("kind", KINDS)
def test_plain_implementation(kind: str) -> None:
    """Four images at once are four single ones of the paper."""
    network, images = tiny(kind), drawn(4)
    maps = explain(network, images, "chefer_lrp", targets="all").native["chefer_lrp"]
    for b in range(4):
        for target in range(3):
            row = PlainChefer(network)(images[b], target)
            expected = row[network.num_prefix_tokens :].reshape(4, 6)
            assert (maps[b, target] - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("family", PLAIN, ids=lambda f: f.name)
def test_a_batch_is_its_images(family: Family) -> None:
    """Whatever else is in the batch: the relevance of one image must not depend on the others."""
    model, images, classes = family.build(), family.images(8), [0, 1, 2, 3, 3, 2, 1, 0]
    together = explain(model, images, "chefer_lrp", targets=classes).native["chefer_lrp"]
    louder = torch.cat([images[:4], 20 * images[4:]])
    other = explain(model, louder, "chefer_lrp", targets=classes).native["chefer_lrp"]
    small = explain(model, images, "chefer_lrp", targets=classes, batch_size=3)
    for b in range(8):
        alone = explain(model, images[b : b + 1], "chefer_lrp", targets=classes[b])
        expected = alone.native["chefer_lrp"][0]
        scale = 1e-5 * expected.abs().max()
        assert (together[b] - expected).abs().max() <= scale
        assert (small.native["chefer_lrp"][b] - expected).abs().max() <= scale
        assert b >= 4 or (other[b] - expected).abs().max() <= scale


@pytest.mark.parametrize("kind", KINDS)
def test_relevance_is_conserved_through_all_blocks(kind: str) -> None:
    """Each attention gets half of what its branch gets, and with what passes by, that is all.

    The share of the branch is what the explicit sums of the normalised addition say, so sums over
    a block need nothing from inside it.
    """
    network, images = tiny(kind).requires_grad_(False), drawn(2)
    matrices: list[Tensor] = []
    hooks = []
    for block in network.blocks:
        block.attn.fused_attn = False
        keep = block.attn.attn_drop.register_forward_hook(lambda _m, _i, out: matrices.append(out))
        hooks.append(keep)
    network(images)
    for hook in hooks:
        hook.remove()
    recording = record(network, images)
    seed = recording.seed(torch.tensor([0, 1]))
    through: list[tuple[Tensor, Tensor]] = []
    plain = recording.through

    def watched(layer: nn.Module, relevance: Tensor) -> Tensor:
        found = plain(layer, relevance)
        through.append((relevance.flatten(1).sum(1), found.flatten(1).sum(1)))
        return found

    recording.through = watched  # type: ignore[method-assign]
    relevances = list(propagated(recording, matrices, seed))
    assert len(relevances) == 3
    for out, into in through:
        torch.testing.assert_close(into, out, atol=1e-4, rtol=1e-4)
    of_proj = [into for _, into in through][-1]  # the first block's: nothing follows it
    torch.testing.assert_close(relevances[-1].flatten(1).sum(1), of_proj / 2, atol=1e-4, rtol=1e-4)


def test_only_the_class_explained_counts() -> None:
    network, images = tiny("class token"), drawn(2)
    every = explain(network, images, "chefer_lrp", targets="all")
    alone = explain(network, images, "chefer_lrp", targets=2)
    assert every.native["chefer_lrp"][:, 2].equal(alone.native["chefer_lrp"])
    assert (every.native["chefer_lrp"][:, 0] != every.native["chefer_lrp"][:, 2]).any()
    assert (every.native["chefer_lrp"] >= 0).all()
