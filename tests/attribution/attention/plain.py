"""A plain pass, whole matrices and N³ chains: what the attention methods are compared with."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from timm_families import FAMILIES, Family

ATTENDING = [
    family for family in FAMILIES if family.name.startswith(("vit_", "deit", "beit", "eva"))
]
WITHOUT = [family for family in FAMILIES if family not in ATTENDING]


def sharp(family: Family) -> nn.Module:
    """The family's network with attention and logits far from uniform, in double precision."""
    model = deepcopy(family.build()).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "qkv.weight" in name or "q_proj.weight" in name or "kv.weight" in name:
                parameter.mul_(12)
            if name.startswith("head") and parameter.ndim == 2:
                parameter.mul_(30)
            if name.endswith("latent"):
                parameter.mul_(30)
    return model


@dataclass
class PlainPass:
    """What a textbook keeps of one image's pass.

    Attributes:
        model: Unfused.
        attention: Per layer (h, N, N).
        gradients: Per layer and class: (K, h, N, N).
        blocks: Tokens after every block (1, N, D), in the graph.
        raw: The attention matrices in the graph.
        weights: (N,) by which the head reads tokens; 0 with a latent.
        latent: (h, N) the latent's attention, and its gradients (K, h, N); None without a latent.
        logits: (K,).
    """

    model: Any
    attention: list[Tensor]
    gradients: list[Tensor]
    blocks: list[Tensor]
    raw: list[Tensor]
    weights: Tensor
    latent: tuple[Tensor, Tensor] | None
    logits: Tensor


def plain_pass(model: nn.Module, image: Tensor, family: Family) -> PlainPass:
    """Run one image (1, 3, H, W) through an unfused copy, keeping the whole graph."""
    model = deepcopy(model)
    raw: list[Tensor] = []
    blocks: list[Tensor] = []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda _m, _i, out: raw.append(out))
        block.register_forward_hook(lambda _m, _i, out: blocks.append(out))
    logits = model(image)[0]
    by_class = [torch.autograd.grad(y, raw, retain_graph=True) for y in logits]
    tokens = raw[0].shape[-1]
    prefix, weights = family.prefix, torch.zeros(tokens, dtype=image.dtype)
    latent = None
    if "siglip" in family.name:
        latent = by_hand(model, blocks[-1].detach())
        torch.testing.assert_close(latent[2], logits)
        latent = latent[:2]
    elif any(word in family.name for word in ("dinov3", "beit", "eva02")):
        weights[prefix:] = 1 / (tokens - prefix)
    elif "distilled" in family.name:
        weights[:2] = 0.5
    else:
        weights[0] = 1
    return PlainPass(
        model,
        [one[0].detach() for one in raw],
        [torch.stack([grads[layer][0] for grads in by_class]) for layer in range(len(raw))],
        blocks,
        raw,
        weights,
        latent,
        logits.detach(),
    )


def by_hand(model: Any, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The attention pool of SigLIP from its parameters, with a graph from the attention on."""
    pool, heads = model.attn_pool, model.attn_pool.num_heads
    seen = model.norm(tokens)[0]  # (N, D)
    key_weights, value_weights = pool.kv.weight.chunk(2)
    key_bias, value_bias = pool.kv.bias.chunk(2)
    q = pool.q(pool.latent[0])  # (1, D)
    k, v = seen @ key_weights.T + key_bias, seen @ value_weights.T + value_bias
    width = q.shape[-1] // heads
    rows = []
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        rows.append((q[:, part] @ k[:, part].T / width**0.5).softmax(-1)[0])
    attention = torch.stack(rows).detach().requires_grad_()  # (h, N)
    joined = torch.cat([attention[h] @ v.split(width, 1)[h] for h in range(heads)])[None]
    pooled = pool.proj(joined)
    pooled = pooled + pool.mlp(pool.norm(pooled))
    logits = model.head(model.fc_norm(pooled))[0]
    gradients = torch.stack(
        [torch.autograd.grad(y, attention, retain_graph=True)[0] for y in logits]
    )
    return attention.detach(), gradients, logits


def whole_rollout(plain: PlainPass) -> Tensor:
    """(N,) the row of the product of all N×N matrices."""
    tokens = plain.attention[0].shape[-1]
    product = torch.eye(tokens, dtype=plain.weights.dtype)
    for matrix in plain.attention:
        mixed = matrix.mean(0) + torch.eye(tokens)
        product = (mixed / mixed.sum(1, keepdim=True)) @ product
    start = plain.weights if plain.latent is None else plain.latent[0].mean(0)
    return start @ product


def whole_chefer(plain: PlainPass, c: int) -> Tensor:
    """(N,) the row of R, less that of R = I where the head reads tokens themselves."""
    identity = torch.eye(plain.attention[0].shape[-1], dtype=plain.weights.dtype)
    relevance = identity.clone()
    for matrix, gradients in zip(plain.attention, plain.gradients, strict=True):
        relevance = relevance + (gradients[c] * matrix).clamp(min=0).mean(0) @ relevance
    if plain.latent is None:
        return plain.weights @ (relevance - identity)
    attention, gradient = plain.latent
    return (gradient[c] * attention).clamp(min=0).mean(0) @ relevance


def whole_gradient_rollout(plain: PlainPass, c: int, discard: float) -> Tensor:
    """(N,) by sorting all entries of each matrix."""
    tokens = plain.attention[0].shape[-1]
    alone = torch.ones(tokens, dtype=plain.weights.dtype)
    product = torch.eye(tokens, dtype=plain.weights.dtype)
    for matrix, gradients in zip(plain.attention, plain.gradients, strict=True):
        fused = (gradients[c] * matrix).mean(0).clamp(min=0)
        order = fused.flatten().argsort()
        fused.view(-1)[order[: int(discard * tokens * tokens)]] = 0
        mixed = fused + torch.eye(tokens)
        product = (mixed / mixed.sum(1, keepdim=True)) @ product
        alone = alone / mixed.sum(1)  # a token that is itself in every layer
    if plain.latent is None:
        return plain.weights @ (product - alone.diag())
    attention, gradient = plain.latent
    return (gradient[c] * attention).mean(0).clamp(min=0) @ product


def whole_legrad(plain: PlainPass, c: int) -> Tensor:
    """(N,) with the head called on every block's tokens and the whole graph below."""
    layers = []
    for tokens, matrix in zip(plain.blocks, plain.raw, strict=True):
        score = plain.model.forward_head(plain.model.norm(tokens))[0, c]
        (gradient,) = torch.autograd.grad(score, matrix, retain_graph=True)
        layers.append(F.relu(gradient[0]).mean((0, 1)))
    return torch.stack(layers).mean(0)


def whole_attention_gradcam(plain: PlainPass, c: int, prefix: int) -> Tensor:
    """(n,) the patches alone, before the final ReLU."""
    if plain.latent is None:
        rows = torch.einsum("i,hij->hj", plain.weights, plain.attention[-1])
        gradients = torch.einsum("i,hij->hj", plain.weights, plain.gradients[-1][c])
    else:
        rows, gradients = plain.latent[0], plain.latent[1][c]
    total = torch.zeros(rows.shape[1] - prefix, dtype=rows.dtype)
    for row, gradient in zip(rows, gradients, strict=True):
        total += gradient[prefix:].mean() * row[prefix:] / len(rows)
    return total
