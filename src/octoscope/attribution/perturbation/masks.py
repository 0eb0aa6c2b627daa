"""The random masks of RISE: coarse grids of ones and zeros, drawn smooth and shifted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Masks:
    """N masks in pairs: mask 2k + 1 keeps with the numbers 1 - u where mask 2k keeps with u.

    Every mask by itself is distributed as in the paper. What the masks of a pair share cancels in
    their sum; where half the cells are kept, they are each other's complement.

    Attributes:
        grids: (N, cells, …) ones and zeros, an axis of cells per spatial axis.
        shifts: (N, n) first pixel of the crop along each axis.
        lines: For each axis (U, cells): the weights of linear interpolation to the U pixels that
            the crop is taken from, (cells + 1) ⌈S / cells⌉.
        size: *S.
    """

    grids: Tensor
    shifts: Tensor
    lines: tuple[Tensor, ...]
    size: tuple[int, ...]

    def __call__(self, rows: Tensor) -> Tensor:
        """Return masks (m, *S), values in [0, 1], by their numbers (m,)."""
        masks = self.grids[rows]
        for axis, (line, side) in enumerate(zip(self.lines, self.size, strict=True), start=1):
            crop = self.shifts[rows, axis - 1, None] + torch.arange(side, device=rows.device)
            weights = line[crop]  # (m, S, cells)
            moved = masks.movedim(axis, 1)  # (m, cells, …)
            masks = torch.bmm(weights, moved.flatten(2)) if moved.ndim > 2 else weights @ moved
            masks = masks.unflatten(2, moved.shape[2:]).movedim(1, axis)
        return masks


def draw_masks(
    size: Sequence[int], count: int, cells: int, kept: float, seed: int, like: Tensor
) -> Masks:
    """Draw masks, the same for the same seed on every device.

    Args:
        size: *S.
        count: Number N of masks, even.
        cells: Cells of the grid along every axis.
        kept: Probability p that a cell is kept.
        seed: Of the random numbers.
        like: A tensor on the device and of the type that masks shall have.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = [-(-side // cells) for side in size]
    numbers = torch.rand(
        (count // 2, *[cells] * len(size)), generator=generator, dtype=torch.float32
    )
    shift = torch.rand((count // 2, len(size)), generator=generator, dtype=torch.float32)
    shift = shift * torch.tensor(steps)
    grids = torch.stack([numbers < kept, 1 - numbers < kept], dim=1).flatten(0, 1)
    lines = tuple(_interpolation(cells, (cells + 1) * step).to(like) for step in steps)
    return Masks(
        grids=grids.to(like),
        shifts=shift.long().repeat_interleave(2, dim=0).to(like.device),
        lines=lines,
        size=tuple(size),
    )


def _interpolation(cells: int, pixels: int) -> Tensor:
    """Return the matrix (pixels, cells) of linear interpolation: what it makes of unit vectors."""
    return F.interpolate(
        torch.eye(cells, dtype=torch.float32)[None], pixels, mode="linear", align_corners=False
    )[0].mT
