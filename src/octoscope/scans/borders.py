"""Where a frame holds no scan: white or black borders and wedges left by registration.

Averaging and registration shift, tilt and bow a B-scan inside its frame; the export fills what
lies outside of it with white or black. Such an area starts at the frame's edge, is uniform, and
ends in a straight or slightly bowed seam. Here it is found by the length of the uniform run that
starts at each edge, column by column and row by row, which takes no labelling of regions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from octoscope.errors import OctoscopeError

WHITE_FROM = 243
"""Grey value from which a pixel can belong to a white border (JPEG makes white waver)."""
BLACK_TO = 3
"""Grey value up to which a pixel can belong to a black border."""
NARROWEST = 31
"""Runs that are long over fewer neighbours than this are tissue (a saturated RPE), in pixels."""
SEAM_WAVER = 8
"""Pixels by which JPEG makes the end of a sloping seam waver from column to column."""
SEAM_HALO = 3
"""Pixels beside a seam that interpolation and JPEG have mixed with the border."""


@dataclass(frozen=True, eq=False)
class FrameBorder:
    """The parts of one frame that are not scan.

    Attributes:
        white: ``(H, W)`` bool, white border or wedge, including the mixed pixels at its seam.
        black: ``(H, W)`` bool, likewise for black.
    """

    white: np.ndarray
    black: np.ndarray

    @property
    def valid(self) -> np.ndarray:
        """``(H, W)`` bool, true where the frame shows the scan."""
        return ~(self.white | self.black)

    @property
    def white_fraction(self) -> float:
        """Part of the frame that is white border, in [0, 1]."""
        return float(self.white.mean())

    @property
    def black_fraction(self) -> float:
        """Part of the frame that is black border, in [0, 1]."""
        return float(self.black.mean())


def frame_border(image: np.ndarray) -> FrameBorder:
    """Find the white and black borders and wedges that are connected to the frame's edge.

    A vitreous that was cut to plain black also starts at the edge with a uniform run; it is told
    from a border by its end, which follows the ILM and is no smooth seam.

    Args:
        image: ``(H, W)`` grey, uint8 or float in [0, 1].

    Returns:
        The masks, of the same shape.

    Raises:
        OctoscopeError: If `image` is not a grey picture of that kind.
    """
    grey = as_grey8(image)
    white = _uniform_from_edges(grey >= WHITE_FROM, straight=False)
    black = _uniform_from_edges(grey <= BLACK_TO, straight=True)
    return FrameBorder(white=white, black=black & ~white)


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


def _uniform_from_edges(uniform: np.ndarray, *, straight: bool) -> np.ndarray:
    """Return the part of `uniform` (H, W) bool that fills the frame from one of its edges."""
    found = np.zeros(uniform.shape, bool)
    for turns in range(4):
        # Views: with the frame turned, every edge in its turn is the upper one.
        turned, turned_found = np.rot90(uniform, turns), np.rot90(found, turns)
        if not _starts_at_the_top(turned):
            continue
        runs = _seam(_run_lengths(turned), straight)
        deepest = min(int(runs.max()), len(turned))
        turned_found[:deepest] |= np.arange(deepest)[:, None] < runs
    return found


def _starts_at_the_top(uniform: np.ndarray) -> bool:
    """Whether the upper edge of `uniform` has a stretch of runs wide enough to be kept."""
    first = uniform[0] | uniform[2] if len(uniform) > 3 else uniform[0]
    return bool(ndimage.minimum_filter1d(first, min(NARROWEST, len(first)), mode="nearest").any())


def _run_lengths(uniform: np.ndarray) -> np.ndarray:
    """Return per column how many uniform pixels follow the first row, ``(W,)`` int."""
    if len(uniform) > 3:
        uniform = uniform.copy()
        uniform[:2] |= uniform[2]  # the outermost rows may be darkened by resampling
    lengths = np.argmin(uniform, axis=0)
    lengths[uniform.all(axis=0)] = len(uniform)
    return lengths


def _seam(runs: np.ndarray, straight: bool) -> np.ndarray:
    """Keep of the runs along one edge (N,) what a border can be, and add the seam's halo."""
    size = min(NARROWEST, len(runs))
    padded = np.pad(runs, 2 * size, mode="edge")
    eroded = ndimage.minimum_filter1d(padded, size)
    opened = ndimage.maximum_filter1d(eroded, size, origin=-(1 - size % 2))[2 * size : -2 * size]
    kept = np.zeros_like(runs)
    for start, stop in _stretches(opened > 0):
        # Registration leaves a corner, or most of a side, empty; tissue at the edge does neither.
        at_corner = start == 0 or stop == len(runs)
        if not (at_corner or stop - start >= len(runs) / 2):
            continue
        if straight and not _is_smooth(opened[start:stop]):
            continue
        seam = np.minimum(runs[start:stop], opened[start:stop] + SEAM_WAVER)
        kept[start:stop] = seam + SEAM_HALO
    return kept


def _stretches(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return the half-open intervals over which `flags` (N,) is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _is_smooth(seam: np.ndarray) -> bool:
    """Whether a parabola passes within 2 pixels of four fifths of `seam` (N,)."""
    if len(seam) < 4:
        return True
    at = np.linspace(-1, 1, len(seam))
    inlier = np.ones(len(seam), bool)
    for _ in range(3):
        parabola = np.polynomial.Polynomial.fit(at[inlier], seam[inlier], 2, domain=[-1, 1])
        distance = np.abs(seam - parabola(at))
        inlier = distance <= max(2.0, float(np.quantile(distance, 0.8)))
    return bool(np.mean(distance <= 2) >= 0.8)
