"""The relevance rules of Chefer, Gur and Wolf (CVPR 2021, Eq 3-9), each for a whole batch.

Every rule takes the relevance R of an output and what the output was computed from, and returns
the relevance of that, of the same shape. What a rule sums over, it sums within one image: the
first axis is the batch. Sums are kept: Σ R in = Σ R out, unless an output has nothing that the rule
may give its relevance to.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

NEAR_ZERO = 1e-9
"""Denominators closer to zero than this are moved here, with their sign."""


def linear(
    relevance: Tensor, inputs: Tensor, weight: Tensor, total: Tensor | None = None
) -> Tensor:
    """Give relevance to the positive products alone: LRP with α = 1, β = 0 (Eq 4).

    R_j = Σ_i (x_j w_ij)⁺ R_i / Σ_k (x_k w_ik)⁺; biases take none.

    Args:
        relevance: R_i, (b, …, out).
        inputs: x, (b, …, in).
        weight: w, (out, in).
        total: The denominators, if `positive_products` has computed them before.

    Returns:
        R_j, (b, …, in).
    """
    total = positive_products(inputs, weight) if total is None else total
    share = ratio(relevance, total)
    # A positive product has two positive factors or two negative ones.
    return inputs.clamp(min=0) * (share @ weight.clamp(min=0)) + inputs.clamp(max=0) * (
        share @ weight.clamp(max=0)
    )


def positive_products(inputs: Tensor, weight: Tensor) -> Tensor:
    """Return Σ_k (x_k w_ik)⁺, (b, …, out)."""
    return F.linear(inputs.clamp(min=0), weight.clamp(min=0)) + F.linear(
        inputs.clamp(max=0), weight.clamp(max=0)
    )


def mean(relevance: Tensor, inputs: Tensor) -> Tensor:
    """Give relevance (b, D) of a mean over tokens to those of (b, N, D), as `linear` does."""
    positive = inputs.clamp(min=0)
    return positive * ratio(relevance[:, None], positive.sum(1, keepdim=True))


def add(relevance: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Share relevance between two summands of the same shape (b, …) (Eq 6-9).

    Each takes its part of every sum, R u / (u + v). Because u and v may cancel, these parts may be
    huge, so they are scaled to |Σ R_u| : |Σ R_v|, which together make Σ R, in every image.
    """
    share = ratio(relevance, first + second)
    parts = first * share, second * share
    axes = tuple(range(1, relevance.ndim))
    sums = [part.sum(axes, keepdim=True) for part in parts]
    whole = relevance.sum(axes, keepdim=True) / (sums[0].abs() + sums[1].abs()).clamp(min=NEAR_ZERO)
    return parts[0] * sums[0].sign() * whole, parts[1] * sums[1].sign() * whole


def matmul(relevance: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Share relevance between the factors of a product A B (Eq 6-9).

    Each takes x ⊙ ∂(AB)/∂x · R/(AB). Both of these sum to Σ R, so the scaling of Eq 9 is to half.

    Args:
        relevance: (b, …, N, M).
        first: A, (b, …, N, d).
        second: B, (b, …, d, M).
    """
    share = ratio(relevance, first @ second) / 2
    return first * (share @ second.mT), second * (first.mT @ share)


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide; a denominator near zero is moved to ±`NEAR_ZERO`, and 0 gives 0."""
    tiny = denominator.abs() < NEAR_ZERO
    moved = torch.where(tiny, denominator.sign() * NEAR_ZERO, denominator)
    return (numerator / moved.masked_fill(denominator == 0, 1)).masked_fill(denominator == 0, 0)
