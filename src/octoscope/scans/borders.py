"""Where a frame holds no scan: the borders and wedges that registration leaves.

Averaging and registration shift, tilt and bow a B-scan inside its frame; the export fills what
lies outside of it with one grey value: white, black, or any other. Such an area starts at the
frame's edge, is flat where a scan is speckled, and ends in a straight or slightly bowed seam.
Here it is found by the length of the flat run that starts at each edge, column by column and row
by row, which takes no labelling of regions. White is bright enough to be told by its grey value
alone; any other value must show the seam, since a vitreous can be flat and dark as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from octoscope.errors import OctoscopeError
from octoscope.scans.seams import (
    NARROWEST,
    SEAM_HALO,
    flat_depth,
    flat_level,
    run_lengths,
    stretches,
)

WHITE_FROM = 243
"""Grey value from which a pixel can belong to a white border (JPEG makes white waver)."""
BLACK_TO = 40
"""Grey value up to which a border counts as black; those in between are grey."""
SEAM_WAVER = 8
"""Pixels by which JPEG makes the end of a sloping seam waver from column to column."""


@dataclass(frozen=True, eq=False)
class FrameBorder:
    """The parts of one frame that are not scan, with the mixed pixels at their seams.

    Attributes:
        white: ``(H, W)`` bool, white border or wedge.
        black: ``(H, W)`` bool, likewise for black, whether it is quite black or nearly so.
        grey: ``(H, W)`` bool, likewise for any grey value in between.
    """

    white: np.ndarray
    black: np.ndarray
    grey: np.ndarray

    @property
    def valid(self) -> np.ndarray:
        """``(H, W)`` bool, true where the frame shows the scan."""
        return ~(self.white | self.black | self.grey)

    @property
    def white_fraction(self) -> float:
        """Part of the frame that is white border, in [0, 1]."""
        return float(self.white.mean())

    @property
    def black_fraction(self) -> float:
        """Part of the frame that is black border, in [0, 1]."""
        return float(self.black.mean())


def frame_border(image: np.ndarray) -> FrameBorder:
    """Find the borders and wedges that are connected to the frame's edge, of any grey value.

    A vitreous that was cut to plain black also starts at the edge with a flat run; it is told
    from a border by its end, which follows the ILM and is no smooth seam, or has tissue all along.

    Args:
        image: ``(H, W)`` grey, uint8 or float in [0, 1].

    Returns:
        The masks, of the same shape; no pixel is in two of them.

    Raises:
        OctoscopeError: If `image` is not a grey picture of that kind.
    """
    grey = as_grey8(image)
    white = _white_from_edges(grey >= WHITE_FROM)
    black, between = np.zeros(grey.shape, bool), np.zeros(grey.shape, bool)
    if not grey.any():
        black[:] = True
    for turns in range(4):
        # Views: with the frame turned, every edge in its turn is the upper one.
        turned = np.rot90(grey, turns)
        level = flat_level(turned)
        if level is None:
            continue
        depth = flat_depth(turned, level)
        if depth is not None:
            kind = black if level <= BLACK_TO else between if level < WHITE_FROM else white
            found = np.rot90(kind, turns)
            found |= np.arange(len(turned))[:, None] < depth
    black &= ~white
    return FrameBorder(white=white, black=black, grey=between & ~white & ~black)


def as_grey8(image: np.ndarray) -> np.ndarray:
    """Return an ``(H, W)`` picture as uint8; float in [0, 1] is scaled by 255.

    Raises:
        OctoscopeError: If it is empty, not two-dimensional, or of another type or range.
    """
    if image.ndim != 2 or image.size == 0:
        raise OctoscopeError(f"an image of shape {image.shape} is no grey B-scan; pass (H, W)")
    if image.dtype == np.uint8:
        return image
    in_range = np.issubdtype(image.dtype, np.floating) and image.min() >= 0 and image.max() <= 1
    if not in_range:
        raise OctoscopeError(
            f"an image of type {image.dtype} is neither uint8 nor float in [0, 1]; "
            "pass it through octoscope.scans.readers.to_uint8 first"
        )
    return np.round(image * 255).astype(np.uint8)


def _white_from_edges(uniform: np.ndarray) -> np.ndarray:
    """Return the part of `uniform` (H, W) bool that fills the frame from one of its edges."""
    found = np.zeros(uniform.shape, bool)
    for turns in range(4):
        turned, turned_found = np.rot90(uniform, turns), np.rot90(found, turns)
        if not _starts_at_the_top(turned):
            continue
        runs = _white_seam(run_lengths(turned))
        deepest = min(int(runs.max()), len(turned))
        turned_found[:deepest] |= np.arange(deepest)[:, None] < runs
    return found


def _starts_at_the_top(uniform: np.ndarray) -> bool:
    """Whether the upper edge of `uniform` has a stretch of runs wide enough to be kept."""
    first = uniform[0] | uniform[2] if len(uniform) > 3 else uniform[0]
    return bool(ndimage.minimum_filter1d(first, min(NARROWEST, len(first)), mode="nearest").any())


def _white_seam(runs: np.ndarray) -> np.ndarray:
    """Keep of the runs along one edge (N,) what a border can be, and add the seam's halo."""
    size = min(NARROWEST, len(runs))
    padded = np.pad(runs, 2 * size, mode="edge")
    eroded = ndimage.minimum_filter1d(padded, size)
    opened = ndimage.maximum_filter1d(eroded, size, origin=-(1 - size % 2))[2 * size : -2 * size]
    kept = np.zeros_like(runs)
    for start, stop in stretches(opened > 0):
        # Registration leaves a corner, or most of a side, empty; tissue at the edge does neither.
        at_corner = start == 0 or stop == len(runs)
        if at_corner or stop - start >= len(runs) / 2:
            seam = np.minimum(runs[start:stop], opened[start:stop] + SEAM_WAVER)
            kept[start:stop] = seam + SEAM_HALO
    return kept
