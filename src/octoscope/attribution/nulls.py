"""Maps that know nothing of the model: a floor for every score.

A method that finds lesions no better than the middle of the picture, its edges or its brightness
has not shown that the model looks at lesions. None of these takes a pass of the model, and none
depends on the class.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from octoscope.attribution.method import Method

STRIDE = 16
"""Pixels per cell of the random map: as coarse as usual class activation maps."""
FEWEST_CELLS = 4
"""Cells per axis of the random map of a small image, as far as it has that many pixels."""


def null_random(images: Tensor) -> Tensor:
    """White noise on a coarse grid, uniform in [0, 1), to be interpolated to the image.

    The noise is a hash of the image's pixels and the number of the cell. The same image has the
    same map, on any device and whatever else is in the batch; an image that differs in one pixel
    has another one.

    Args:
        images: (b, C, *S).

    Returns:
        (b, *s) with one cell per 16 pixels.
    """
    size = images.shape[2:]
    grid = [max(-(-length // STRIDE), min(length, FEWEST_CELLS)) for length in size]
    pixels = images.float().flatten(1).contiguous().view(torch.int32).to(torch.int64)
    places = torch.arange(pixels.shape[1], device=images.device)
    seeds = _mixed(_mixed(places) ^ pixels).sum(1)  # whole numbers: any order gives the same sum
    cells = torch.arange(prod(grid), device=images.device)
    noise = _mixed(_mixed(seeds)[:, None] ^ _mixed(cells))
    return ((noise & 0xFFFFFF).float() / 2**24).unflatten(1, grid)


def null_centre(images: Tensor) -> Tensor:
    """A bell in the middle: exp(-½ Σ_i ((p_i - S_i/2) / σ_i)²), σ_i a quarter of side i.

    Args:
        images: (b, C, *S).

    Returns:
        (b, *S).
    """
    bell = images.new_ones((), dtype=torch.float32)
    for length in images.shape[2:]:
        pixels = torch.arange(length, device=images.device) + 0.5  # centres of the pixels
        bell = bell[..., None] * torch.exp(-0.5 * ((pixels - length / 2) / (length / 4)) ** 2)
    return bell.expand(len(images), *bell.shape).clone()


def null_edges(images: Tensor) -> Tensor:
    """Strength of edges: √(Σ_i (∂_i m)²) of the mean m over channels, ∂_i Sobel's derivative.

    Sobel: (-1, 0, 1) along the axis, (1, 2, 1) along every other; pixels at the border are repeated
    outwards.

    Args:
        images: (b, C, *S).

    Returns:
        (b, *S).
    """
    mean = images.float().mean(1)
    axes = range(1, mean.ndim)
    total = torch.zeros_like(mean)
    for along in axes:
        slope = mean
        for axis in axes:
            slope = _filtered(slope, axis, (-1.0, 0.0, 1.0) if axis == along else (1.0, 2.0, 1.0))
        total += slope**2
    return total.sqrt()


def null_intensity(images: Tensor) -> Tensor:
    """Brightness: the mean over channels, less its minimum.

    Args:
        images: (b, C, *S).

    Returns:
        (b, *S).
    """
    mean = images.float().mean(1)
    return mean - mean.flatten(1).amin(1).view(-1, *[1] * (mean.ndim - 1))


def _filtered(maps: Tensor, axis: int, weights: tuple[float, float, float]) -> Tensor:
    """Return Σ_j w_j m(p + j - 1) along one axis, the border repeated."""
    ends = (maps.narrow(axis, 0, 1), maps, maps.narrow(axis, maps.shape[axis] - 1, 1))
    wide, length = torch.cat(ends, axis), maps.shape[axis]
    shifted = [w * wide.narrow(axis, j, length) for j, w in enumerate(weights)]
    return shifted[0] + shifted[1] + shifted[2]


def _mixed(numbers: Tensor) -> Tensor:
    """Scramble 64-bit integers, each to another one (the finaliser of SplitMix64).

    Steele, Lea & Flood, OOPSLA 2014. Products wrap around.
    """
    numbers = numbers + _signed(0x9E3779B97F4A7C15)
    numbers = (numbers ^ _shifted(numbers, 30)) * _signed(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ _shifted(numbers, 27)) * _signed(0x94D049BB133111EB)
    return numbers ^ _shifted(numbers, 31)


def _shifted(numbers: Tensor, bits: int) -> Tensor:
    """Shift right, filling with zeros, where ``>>`` would repeat the sign."""
    return (numbers >> bits) & ((1 << (64 - bits)) - 1)


def _signed(number: int) -> int:
    """Return the signed integer of the same 64 bits."""
    return number - (1 << 64) if number >> 63 else number


def _row(
    name: str, title: str, function: Callable[[Tensor], Tensor], paper: str, sentence: str
) -> Method:
    return Method(
        name,
        title,
        "null",
        function,
        ("images",),
        paper,
        rectified=False,
        unsigned=True,
        class_specific=False,
        sentence=sentence,
    )


ROWS = (
    _row(
        "null_random",
        "Noise (null)",
        null_random,
        "White noise, one cell per 16 pixels",
        "Noise that knows neither image nor model.",
    ),
    _row(
        "null_centre",
        "Centre (null)",
        null_centre,
        "Gaussian of a quarter of each side",
        "The middle of the picture.",
    ),
    _row(
        "null_edges",
        "Edges (null)",
        null_edges,
        "Sobel's derivative of the mean over channels",
        "Where the picture has edges.",
    ),
    _row(
        "null_intensity",
        "Brightness (null)",
        null_intensity,
        "Mean over channels less its minimum",
        "Where the picture is bright.",
    ),
)
"""The null maps."""
