"""A grid of windows over an image: where they lie, and means over those that cover a position."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

import torch
from torch import Tensor

Box = tuple[slice, ...]


@dataclass(frozen=True)
class Windows:
    """Windows of one size at regular steps; those that reach over the border end there.

    Attributes:
        size: *S of the images.
        window: Side of a window along each axis, in pixels.
        stride: Step along each axis, in pixels, at most the side, so that nothing is left out.
    """

    size: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]

    @cached_property
    def spans(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """First pixel and end of the windows along each axis."""
        return tuple(
            tuple(
                (step * stride, min(step * stride + window, side))
                for step in range(max(0, -(-(side - window) // stride)) + 1)
            )
            for side, window, stride in zip(self.size, self.window, self.stride, strict=True)
        )

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of windows along each axis."""
        return tuple(map(len, self.spans))

    def __len__(self) -> int:
        return prod(self.grid)

    @cached_property
    def boxes(self) -> tuple[Box, ...]:
        """The windows as slices of *S, the last axis running fastest."""
        return tuple(tuple(slice(*span) for span in box) for box in product(*self.spans))

    def spread(self) -> Tensor:
        """Return the numbers of some windows: at all corners, and in the middle."""
        middle = tuple(count // 2 for count in self.grid)
        places = {middle, *product(*((0, count - 1) for count in self.grid))}
        numbered = {place: number for number, place in enumerate(product(*map(range, self.grid)))}
        return torch.tensor(sorted(numbered[place] for place in places))

    def corners(self) -> Tensor:
        """Return (W, 2 n): first pixel along each of the n axes, then side along each."""
        rows = [
            [*(span.start for span in box), *(span.stop - span.start for span in box)]
            for box in self.boxes
        ]
        return torch.tensor(rows)

    def mean(self, values: Tensor) -> Tensor:
        """Return at every position the mean of the values of the windows that cover it.

        Args:
            values: (b, W), one value per window.

        Returns:
            (b, *S). Windows form a grid, so the sum over them goes axis by axis.
        """
        total = values.unflatten(1, self.grid)
        for axis, (side, spans) in enumerate(zip(self.size, self.spans, strict=True), start=1):
            position = torch.arange(side)
            covers = torch.stack([(position >= a) & (position < b) for a, b in spans])  # (w, S)
            share = (covers / covers.sum(0)).to(total)
            total = torch.tensordot(total, share, dims=([axis], [0])).movedim(-1, axis)
        return total
