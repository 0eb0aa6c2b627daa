"""Which token is which patch of the image, read from derivatives of a network that was watched.

The derivative of a weighted sum of tokens, Σ_n w_n ⟨r, x_n⟩, in what the patch embedding gave at
one place is w_n times the same derivative with all weights 1, if that place feeds token n alone.
So a few sums, whose weights spell n in digits, tell for every place which token it becomes: class
and register tokens, wherever they stand, are those that no place becomes, and any order of the
patches is seen. It holds as long as tokens have not been mixed, which the derivatives show as well.
In the same way the pixels tell to which patch they belong, and whether the image was padded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod

import torch
from torch import Tensor

from octoscope.models.layout import Patches, covers
from octoscope.models.trace import Point, Trace

BASE = 16
"""Of the digits: few passes, and apart by more than the rounding of half precision."""
NEAR = 0.1
"""Deviation of a digit that is rounding."""
UNMIXED = 0.05
"""Share of a derivative that may come from other tokens."""
MOST_LOOKS = 12
"""Tensors of one number of tokens that are looked at, the first ones."""


def patches_of(trace: Trace) -> dict[int, Patches]:
    """Read, for every number N of tokens that a network has, where the patches are among them.

    Args:
        trace: The network, watched.

    Returns:
        N to the patches, as far as it can be read.
    """
    points = [call.point for call in trace.calls] + trace.cuts
    by_count: dict[int, list[Point]] = {}
    for point in sorted(dict.fromkeys(points), key=lambda one: one.time):
        if len(point.shape) == 3 and point.shape[0] == 1 and point.shape[1] > 1:
            by_count.setdefault(point.shape[1], []).append(point)
    found: dict[int, Patches] = {}
    spans: dict[Point, Patches] = {}
    for count, tokens in by_count.items():
        newest = None
        for looks, point in enumerate(tokens[:MOST_LOOKS]):
            seen = _at(trace, point, count)
            if seen is None and (newest is not None or looks >= 1):
                break  # mixed from here on
            newest = seen or newest
        if newest is not None:
            patches, embedding, channels = newest
            if embedding is not None:
                if embedding not in spans:
                    spans[embedding] = _spanned(trace, embedding, patches, channels)
                span = spans[embedding]
                patches = replace(patches, extent=span.extent, offset=span.offset)
            found[count] = patches
    return found


def _at(trace: Trace, tokens: Point, count: int) -> tuple[Patches, Point | None, int] | None:
    """Read the patches from one tensor of tokens, None if that cannot be done.

    Returns:
        The patches, and the embedding that they were read from with the axis of its channels; no
        embedding if they were read from the pixels, which also tell what the grid spans.
    """
    axes = len(trace.size)
    before = [
        point
        for point in trace.cuts
        if point.time < tokens.time and len(point.shape) == 2 + axes and point.shape[0] == 1
    ]
    embedding = before[-1] if before else trace.image
    first = covers(embedding.shape[2:], trace.size) or not covers(embedding.shape[1:-1], trace.size)
    channels = 1 if first else -1

    def spread(weights: Tensor) -> Tensor:
        return weights[None, :, None] * _mixture(tokens.shape[-1], weights)

    index = _origin(trace, tokens, embedding, count, spread, channels)
    if index is None or (cells := _cells(index)) is None:
        return None
    places = tuple(cells[0].flatten().tolist())
    if len(places) < 2 or len(set(places)) != len(places):
        return None
    patches = Patches(tuple(cells[0].shape), places)
    if cells[0].shape == index.shape:
        return patches, embedding, channels
    if tuple(index.shape) == trace.size:
        extent, offset = _whole(cells[1])
        patches = replace(patches, extent=extent, offset=offset)
    return patches, None, channels


def _mixture(channels: int, like: Tensor) -> Tensor:
    """Return weights r (channels,) that no norm over the channels is blind to."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(channels, generator=generator).to(like.device, like.dtype)


def _origin(
    trace: Trace,
    of: Point,
    to: Point,
    count: int,
    spread: Callable[[Tensor], Tensor],
    channels: int,
) -> Tensor | None:
    """Tell for every place of a tensor which of the parts of a later one it becomes.

    Args:
        trace: The network, watched.
        of: The later tensor.
        to: The earlier one.
        count: Number of parts of the later one.
        spread: Shapes weights (count,) of the parts like the later tensor.
        channels: Axis of the channels of the earlier one.

    Returns:
        (*s) numbers of the parts, -1 where nothing is used; None if a place becomes several.
    """
    numbers = torch.arange(count)
    digits: list[Tensor] = []
    while not digits or BASE ** len(digits) < count:
        digits.append(numbers.div(BASE ** len(digits), rounding_mode="floor") % BASE + 1)

    def derivative(weights: Tensor) -> Tensor | None:
        found = trace.gradient(of.edge, to, spread(weights.to(of.device, of.dtype)))
        if found is None:
            return None
        by_place = found[0].movedim(channels - (channels > 0), -1)
        return by_place.float() if by_place.dtype in (torch.float16, torch.bfloat16) else by_place

    plain = derivative(torch.ones(count))
    if plain is None:
        return None
    squares = plain.square().sum(-1)
    used = squares > 0
    index = torch.zeros(used.shape, dtype=torch.long)
    for place, digit in enumerate(digits):
        weighted = derivative(digit.float())
        assert weighted is not None
        ratio = (weighted * plain).sum(-1) / squares.where(used, 1)
        rest = (weighted - ratio[..., None] * plain).norm(dim=-1)
        whole = ratio.round()
        exact = ((ratio - whole).abs() < NEAR) & (rest <= UNMIXED * weighted.norm(dim=-1))
        exact &= (whole >= 1) & (whole <= BASE)
        if not bool((exact | ~used).all()):
            return None
        index += (whole.long().cpu() - 1) * BASE**place
    return index.masked_fill(~used.cpu(), -1) if bool(used.any()) else None


def _spanned(trace: Trace, embedding: Point, patches: Patches, channels: int) -> Patches:
    """Add what the grid spans to the patches that an embedding cuts the image into."""
    grid = patches.grid

    def spread(weights: Tensor) -> Tensor:
        wide = embedding.shape[channels]
        mixture = _mixture(wide, weights)
        if channels == 1:
            return weights.reshape(1, 1, *grid) * mixture.reshape(1, wide, *[1] * len(grid))
        return weights.reshape(1, *grid, 1) * mixture

    pixels = _origin(trace, embedding, trace.image, prod(grid), spread, 1)
    cells = None if pixels is None else _cells(pixels)
    if cells is None or cells[0].flatten().tolist() != list(range(prod(grid))):
        return patches  # its patches overlap
    extent, offset = _whole(cells[1])
    return replace(patches, extent=extent, offset=offset)


def _cells(pixels: Tensor) -> tuple[Tensor, list[list[int]]] | None:
    """Read a lattice of cells from the number of the cell that every pixel (*S) is in.

    Returns:
        (*s) number of every cell, and for every axis the pixels before the first cell, in each
        cell, and after the last; None if the cells are no lattice.
    """
    cells, lengths = pixels, []
    for axis in range(pixels.ndim):
        rows = pixels.movedim(axis, 0).flatten(1)
        starts = [0, *((rows[1:] != rows[:-1]).any(1).nonzero()[:, 0] + 1).tolist(), len(rows)]
        runs = [stop - start for start, stop in pairwise(starts)]
        empty = [bool((rows[start] < 0).all()) for start in starts[:-1]]
        first, last = int(empty[0]), len(runs) - int(empty[-1])
        if first >= last:
            return None
        kept = torch.tensor(starts[first:last])
        cells = cells.index_select(axis, kept)
        lengths.append([starts[first], *runs[first:last], len(rows) - starts[last]])
    return None if bool((cells < 0).any()) else (cells, lengths)


def _whole(
    lengths: Sequence[Sequence[int]],
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Return extent and offset of cells of the same size, of which the outer ones may be cut."""
    extent, offset = [], []
    for before, *cells, _after in lengths:
        side = max(cells)
        if any(length != side for length in cells[1:-1]):
            return None, None
        extent.append(side * len(cells))
        cut = side - cells[0] if len(cells) > 1 else 0
        offset.append(cut if cut else -before)
    return tuple(extent), tuple(offset)
