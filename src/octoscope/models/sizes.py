"""Image sizes near one that a network cannot take, which it can."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Size = tuple[int, int]
"""Rows and columns of an image."""

STRIDES = (4, 8, 14, 16, 24, 28, 32, 48, 56, 64, 112)
"""Multiples that networks ask of an image side: patches, strides and windows."""


def nearest_sizes(
    fits: Callable[[Size], bool], size: Size, strides: Sequence[int] = STRIDES
) -> list[Size]:
    """Return the sizes just below and above `size` on the finest grid where any fits.

    Args:
        fits: Whether a network can take a size.
        size: The size that it cannot take.
        strides: Grids to try, finest first.

    Returns:
        At most two sizes; if no grid helps, square ones near it; else none.
    """
    for square in (False, True):
        for stride in strides:
            low, high = (max(min(size), 1),) * 2, (max(size),) * 2
            below = _snap(low if square else size, stride, up=False)
            above = _snap(high if square else size, stride, up=True)
            good = [s for s in (below, above) if min(s) > 0 and s != size and fits(s)]
            if good:
                return list(dict.fromkeys(good))
    return []


def _snap(size: Size, stride: int, *, up: bool) -> Size:
    rows, columns = (-(-side // stride) if up else side // stride for side in size)
    return rows * stride, columns * stride


def say(size: Sequence[int]) -> str:
    """Return a size as ``64×96``."""
    return "×".join(map(str, size))
