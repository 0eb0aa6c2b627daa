"""The pixels of masks as a list: a lesion fills a few per cent of a scan, and only they are asked.

Every sum over a lesion runs over its own pixels in their order, so that it never depends on the
other scans of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Pixels:
    """The n pixels that lie in masks ``(B, P)``, mask after mask.

    Attributes:
        row: ``(n,)`` int64, the mask of each, rising.
        at: ``(n,)`` int64, where each lies among all B · P.
        count: ``(B,)`` int64, how many each mask has.
        size: P.
    """

    row: Tensor
    at: Tensor
    count: Tensor
    size: int

    @classmethod
    def of(cls, masks: Tensor) -> Pixels:
        """List those of masks ``(B, P)`` bool."""
        (at,) = masks.flatten().nonzero(as_tuple=True)
        return cls(at // masks.shape[-1], at, masks.sum(-1), masks.shape[-1])

    def take(self, values: Tensor) -> Tensor:
        """Return the values ``(..., B, P)`` of the pixels, ``(..., n)``."""
        return values.flatten(-2).index_select(-1, self.at)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over each mask of values ``(..., n)``, ``(..., B)`` float64."""
        first = values.double().movedim(-1, 0).contiguous()
        return torch.segment_reduce(first, "sum", lengths=self.count, unsafe=True).movedim(0, -1)

    def total_of(self, values: Tensor) -> Tensor:
        """Return the sum over each mask of values ``(..., B, P)``, ``(..., B)`` float64."""
        return self.total(self.take(values))
