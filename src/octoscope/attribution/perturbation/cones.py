"""Covering windows of an image at less than a forward pass each, where the first layers are local.

What a window changes in the first layers of a convolutional network is a small square, growing from
layer to layer. Everything outside it is as for the whole image, and computed once: each layer runs
on a crop around the square, and only where the crops would be nearly the image, the whole goes on.
Nothing is approximated; the logits are those of the covered images but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from octoscope.attribution.perturbation.chain import Link, chain_of, replaced
from octoscope.attribution.perturbation.windows import Windows
from octoscope.models.probe import logits_of

LARGEST = 0.6
"""Share of a layer's area beyond which crops are not worth it."""

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Crops:
    """Where, along one axis, a link is run for each of the windows.

    Attributes:
        start: First position of the crop in the link's input, for each window.
        length: Its length, the same for all windows.
        first: First position of the patch in the link's output, for each window.
        width: Its length, the same for all windows.
        inset: First position of the patch in the output of the crop.
        changed: The part of the output that the window may change.
    """

    start: Tensor
    length: int
    first: Tensor
    width: int
    inset: Tensor
    changed: Spans


def crops_along(spans: Spans, side: int, out: int, stride: int, reach: int) -> Crops:
    """Lay crops so that the output is right wherever it may be changed.

    Output j sees the input from j·stride - reach to j·stride + reach. A crop that ends inside the
    image is wrong within that of its edge; one that ends at the border is padded as the image is.

    Args:
        spans: What is changed in the input, for each window.
        side: Length of the input.
        out: Length of the output.
        stride: Of the link.
        reach: Of the link.
    """
    changed = tuple(
        (max(0, -(-(a - reach) // stride)), min(out, (b - 1 + reach) // stride + 1))
        for a, b in spans
    )
    width = max(b - a for a, b in changed)
    first = [min(a, out - width) for a, _ in changed]
    start = [max(0, (f * stride - reach) // stride * stride) for f in first]
    stop = [min(side, (f + width - 1) * stride + reach + 1) for f in first]
    needed = max(b - a for a, b in zip(start, stop, strict=True))
    length = side - (side - needed) // stride * stride  # the last crop starts in step, too
    start = [min(a, side - length) for a in start]
    return Crops(
        start=torch.tensor(start),
        length=length,
        first=torch.tensor(first),
        width=width,
        inset=torch.tensor([f - a // stride for f, a in zip(first, start, strict=True)]),
        changed=changed,
    )


class Cones:
    """The first layers of a network, run on crops around windows.

    Args:
        module: The lent model.
        images: (b, C, *S).
        baseline: (b, C, *S), what covers.
        windows: Where.

    Attributes:
        links: The links that are worth running on crops; empty where none is.
    """

    def __init__(
        self, module: nn.Module, images: Tensor, baseline: Tensor, windows: Windows
    ) -> None:
        self._module = module
        self._shape = images.shape[1:]
        self._windows = windows
        self.links: list[Link] = []
        self._crops: list[tuple[Crops, ...]] = []
        spans: Sequence[Spans] = windows.spans
        # In lower precision, what looks everywhere but weakly would pass for rounding.
        with torch.autocast(images.device.type, enabled=False):
            for link in chain_of(module, images[:1]):
                along = zip(spans, link.size, link.out, link.stride, link.reach, strict=True)
                crops = tuple(crops_along(*axis) for axis in along)
                if prod(crop.length for crop in crops) > LARGEST * prod(link.size):
                    break
                self.links.append(link)
                self._crops.append(crops)
                spans = [crop.changed for crop in crops]
        if len(self.links) < 2:  # a patch embedding alone is not worth it
            self.links = []
        if self.links:
            self.keep(images, baseline)

    def keep(self, images: Tensor, baseline: Tensor) -> None:
        """Turn to other images (b, C, *S): run the links on them whole, and keep what they give."""
        self._kept = [self._entry(images)]
        self._cover = self._entry(baseline)
        for link in self.links:
            given = self._kept[-1].movedim(-1, 1)
            self._kept.append(link(given.clone()).movedim(1, -1).contiguous())

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the logits (m, K) of rows (m,), each image · W + window."""
        device = self._cover.device
        count = len(self._windows)
        image = (rows // count).to(device)
        place = torch.unravel_index(rows % count, self._windows.grid)
        starts = [torch.tensor([a for a, _ in axis]) for axis in self._windows.spans]
        ends = [torch.tensor([b for _, b in axis]) for axis in self._windows.spans]
        first = [axis[at] for axis, at in zip(starts, place, strict=True)]
        widths = [axis[at] - one for axis, at, one in zip(ends, place, first, strict=True)]
        patch: Tensor | None = None
        for kept, link, crops in zip(self._kept, self.links, self._crops, strict=False):
            start = [crop.start[at] for crop, at in zip(crops, place, strict=True)]
            grid = _positions(start, [crop.length for crop in crops], device)
            crop = kept[(_along(image, kept.ndim - 2), *grid)]  # (m, *length, C)
            if patch is None:
                inside = _inside(grid, first, widths)
                cover = self._cover[(_along(image, kept.ndim - 2), *grid)]
                crop = torch.where(inside[..., None], cover, crop)
            else:
                _paste(crop, patch, [a - b for a, b in zip(first, start, strict=True)])
            out = link(crop.movedim(-1, 1)).movedim(1, -1)
            inset = [one.inset[at] for one, at in zip(crops, place, strict=True)]
            within = _positions(inset, [one.width for one in crops], device)
            patch = out[(_along(torch.arange(len(rows), device=device), out.ndim - 2), *within)]
            first = [one.first[at] for one, at in zip(crops, place, strict=True)]
        assert patch is not None
        whole = self._kept[-1][image]
        _paste(whole, patch, first)
        return self._rest(whole.movedim(-1, 1))

    def _entry(self, images: Tensor) -> Tensor:
        """Return what reaches the first link, channels last: the images, perhaps normalised."""
        seen: list[Tensor] = []

        def keep(given: Tensor) -> Tensor:
            seen.append(given.clone())
            raise _Reached

        with replaced(self.links[0].modules[0], keep), suppress(_Reached):
            self._module(images)
        return seen[0].movedim(1, -1).contiguous()

    def _rest(self, features: Tensor) -> Tensor:
        """Run the network from the end of the links on: (m, C, *out) to (m, K).

        The layers before give nan, so that nothing which passes the links by stays unseen.
        """
        nothing = torch.full((), torch.nan, dtype=features.dtype, device=features.device)
        parts = [
            pair for link in self.links for pair in zip(link.modules, link.shapes, strict=True)
        ]
        with ExitStack() as undo:
            for module, shape in parts[:-1]:
                given = nothing.expand(len(features), *shape)
                undo.enter_context(replaced(module, lambda _x, given=given: given))
            undo.enter_context(replaced(parts[-1][0], lambda _x: features))
            images = torch.zeros((), dtype=self._cover.dtype, device=features.device)
            return logits_of(self._module(images.expand(len(features), *self._shape)))


class _Reached(Exception):
    """The first link is reached; nothing after it needs to run."""


def _positions(
    start: Sequence[Tensor], lengths: Sequence[int], device: torch.device
) -> list[Tensor]:
    """Return indices of boxes: for each axis (m, 1, …, length, …, 1)."""
    axes = len(start)
    found = []
    for axis, (first, length) in enumerate(zip(start, lengths, strict=True)):
        line = first.to(device)[:, None] + torch.arange(length, device=device)
        found.append(line.view(len(first), *(length if a == axis else 1 for a in range(axes))))
    return found


def _along(rows: Tensor, axes: int) -> Tensor:
    return rows.view(-1, *[1] * axes)


def _inside(grid: Sequence[Tensor], first: Sequence[Tensor], widths: Sequence[Tensor]) -> Tensor:
    """Say which positions of the crops (m, *length) belong to the windows."""
    inside: Tensor | None = None
    for line, a, width in zip(grid, first, widths, strict=True):
        low = _along(a.to(line.device), line.ndim - 1)
        high = low + _along(width.to(line.device), line.ndim - 1)
        between = (line >= low) & (line < high)
        inside = between if inside is None else inside & between
    assert inside is not None
    return inside


def _paste(into: Tensor, patch: Tensor, first: Sequence[Tensor]) -> None:
    """Write patches (m, *width, C) into (m, *length, C)."""
    rows = torch.arange(len(into), device=into.device)
    grid = _positions(first, patch.shape[1:-1], into.device)
    into[(_along(rows, len(grid)), *grid)] = patch
