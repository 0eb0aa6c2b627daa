"""Ranks of values in which equal values share the mean of their ranks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def mid_ranks(values: Tensor) -> Tensor:
    """Return the ranks 1…P along the last axis; equal values share the mean of theirs.

    Args:
        values: (…, P), finite.

    Returns:
        (…, P) float64.
    """
    if values.device.type == "cpu":  # NumPy sorts 8 to 30 times as fast as torch does there
        rows = values.detach().reshape(-1, values.shape[-1]).numpy()
        ranks = np.empty(rows.shape)
        for row, out in zip(rows, ranks, strict=True):
            _rank(row, out)
        return torch.from_numpy(ranks).view(values.shape)
    ordered = values.sort(-1).values
    below = torch.searchsorted(ordered, values)
    not_above = torch.searchsorted(ordered, values, right=True)
    return (below + not_above + 1).double() / 2


def _rank(row: np.ndarray, out: np.ndarray) -> None:
    """Write the ranks of one row (P,) into `out`."""
    order = np.argsort(row)
    ordered = row[order]
    starts = np.r_[0, 1 + np.flatnonzero(ordered[1:] != ordered[:-1]), len(row)]  # of equal values
    out[order] = np.repeat((starts[:-1] + starts[1:] + 1) / 2, np.diff(starts))


def standard_ranks(values: Tensor) -> Tensor:
    """Return ranks of mean 0 and length 1, so that their products are rank correlations.

    Args:
        values: (…, P), finite.

    Returns:
        (…, P) float64; zeros where all P values are equal.
    """
    ranks = mid_ranks(values).sub_((values.shape[-1] + 1) / 2)  # the mean, whatever the ties
    length = ranks.norm(dim=-1, keepdim=True)
    return ranks.div_(length.where(length > 0, 1))
