"""The order in which a map names pixels."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor


def ranks(maps: Tensor, seed: int = 0) -> Tensor:
    """Return the place of every pixel in the order of a map's raw values, highest first.

    Pixels of equal value are in the order of a shuffle that depends on the seed and the number of
    pixels alone. A rectified map is zero over much of the image, a coarse one constant over a cell:
    in reading order the upper left of every such patch would go first. The shuffle is the same for
    every map, so that ranks depend neither on the batch nor on the method.

    Args:
        maps: (B, *S), any finite values.
        seed: Of the shuffle.

    Returns:
        (B, N) int32, N the number of pixels: 0 for the highest.
    """
    pixels = prod(maps.shape[1:])
    shuffle = torch.randperm(pixels, generator=torch.Generator().manual_seed(seed)).to(maps.device)
    values = maps.flatten(1)[:, shuffle] + 0.0  # makes 0.0 of -0.0, which some sorts tell apart
    order = values.argsort(dim=1, descending=True, stable=True)
    place = torch.empty(len(maps), pixels, dtype=torch.int32, device=maps.device)
    rising = torch.arange(pixels, dtype=torch.int32, device=maps.device)
    return place.scatter_(1, shuffle[order], rising.expand_as(place))


def says_an_order(maps: Tensor) -> Tensor:
    """Say of maps (B, *S) whether they rank pixels at all: finite and not constant, (B,) bool."""
    low, high = maps.flatten(1).amin(1), maps.flatten(1).amax(1)  # NaN anywhere makes both NaN
    return low.isfinite() & high.isfinite() & (high > low)
