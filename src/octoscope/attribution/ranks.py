"""Ranks of values in which equal values share the mean of their ranks."""

from __future__ import annotations

import torch
from torch import Tensor


def mid_ranks(values: Tensor) -> Tensor:
    """Return the ranks 1…P along the last axis; equal values share the mean of theirs.

    Args:
        values: (…, P), finite.

    Returns:
        (…, P) float64.
    """
    ordered = values.sort(-1).values
    below = torch.searchsorted(ordered, values)
    not_above = torch.searchsorted(ordered, values, right=True)
    return (below + not_above + 1).double() / 2


def standard_ranks(values: Tensor) -> Tensor:
    """Return ranks of mean 0 and length 1, so that their products are rank correlations.

    Args:
        values: (…, P), finite.

    Returns:
        (…, P) float64; zeros where all P values are equal.
    """
    ranks = mid_ranks(values)
    ranks = ranks - ranks.mean(-1, keepdim=True)
    length = ranks.norm(dim=-1, keepdim=True)
    return ranks / length.where(length > 0, 1)
