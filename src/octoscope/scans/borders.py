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

WHITE_FROM = 243
"""Grey value from which a pixel can belong to a white border (JPEG makes white waver)."""
BLACK_TO = 40
"""Grey value up to which a border counts as black; those in between are grey."""
NARROWEST = 31
"""Runs that are long over fewer neighbours than this are tissue (a saturated RPE), in pixels."""
SEAM_WAVER = 8
"""Pixels by which JPEG makes the end of a sloping seam waver from column to column."""
SEAM_HALO = 3
"""Pixels beside a seam that interpolation and JPEG have mixed with the border."""
CHUNK = 32
"""Rows that are searched at once for the ends of flat runs."""
FLAT = 6
"""Grey values over which the pixels of a flat stretch of the frame's edge may range."""
RINGING = 4.0
"""Mean difference of `NEIGHBOURS` from a border's grey value up to which they belong to it."""
NEIGHBOURS = 5
MOST_WAVER = 1.5
"""Mean difference of a border's pixels, away from the seam, from its grey value."""
SHORT, LONG = 9, 4
"""Pixels by which a flat run may end before its seam (JPEG rings in blocks of 8), and after it."""
STEEPEST = 0.8
"""Slope of a seam; a steeper one is found from the edge beside."""
LEAST_ENDS = 8
"""Columns through whose ends a seam can be laid."""
LEAST_SUPPORT, MOST_AGAINST = 0.7, 0.1
"""Part of a seam's columns that must end at it, and that may show scan on the border's side."""
BRIGHT, MOST_BRIGHT = 0.45, 0.6
"""A seam along which more than `MOST_BRIGHT` of the columns continue with tissue (brighter than
`BRIGHT` of the frame's range) is the inner surface of the retina below a flat vitreous."""


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
        level = _flat_level(turned)
        if level is None:
            continue
        depth = _flat_depth(turned, level)
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
        runs = _white_seam(_run_lengths(turned))
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


def _white_seam(runs: np.ndarray) -> np.ndarray:
    """Keep of the runs along one edge (N,) what a border can be, and add the seam's halo."""
    size = min(NARROWEST, len(runs))
    padded = np.pad(runs, 2 * size, mode="edge")
    eroded = ndimage.minimum_filter1d(padded, size)
    opened = ndimage.maximum_filter1d(eroded, size, origin=-(1 - size % 2))[2 * size : -2 * size]
    kept = np.zeros_like(runs)
    for start, stop in _stretches(opened > 0):
        # Registration leaves a corner, or most of a side, empty; tissue at the edge does neither.
        at_corner = start == 0 or stop == len(runs)
        if at_corner or stop - start >= len(runs) / 2:
            seam = np.minimum(runs[start:stop], opened[start:stop] + SEAM_WAVER)
            kept[start:stop] = seam + SEAM_HALO
    return kept


def _stretches(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return the half-open intervals over which `flags` (N,) is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _flat_level(image: np.ndarray) -> int | None:
    """Return the commonest grey value of flat stretches along the upper edge, None without any."""
    line = image[min(2, len(image) - 1)].astype(np.int16)
    size = min(NARROWEST, len(line))
    highest, lowest = ndimage.maximum_filter1d(line, size), ndimage.minimum_filter1d(line, size)
    flat = line[highest - lowest <= FLAT]
    return int(np.bincount(flat).argmax()) if len(flat) else None


def _flat_depth(image: np.ndarray, level: int) -> np.ndarray | None:
    """Return how deep the border of a grey value reaches from the upper edge.

    Args:
        image: ``(H, W)`` uint8.
        level: The border's grey value.

    Returns:
        ``(W,)`` rows, with the seam's halo; None if what is flat there ends in no seam.
    """
    height, width = image.shape
    runs = _flat_runs(image, level)
    seam = _seam(runs, height)
    if seam is None:
        return None
    off = runs - seam
    covered = seam >= 1
    # At the ends of the edge the runs go on into the borders of the neighbouring edges.
    deeper = _at_ends(np.where(covered, off > LONG, runs > LONG))
    judged = covered & ~deeper
    early = np.maximum(-SHORT, -seam / 2)
    ending = judged & (off >= early) & (off <= LONG)
    against = np.sum(judged & (off < early)) + np.sum(~covered & ~deeper & (runs > SHORT))
    if (
        ending.sum() < max(min(NARROWEST, width), LEAST_SUPPORT * judged.sum())
        or against > MOST_AGAINST * judged.sum()
        or _scan_along(image, level, seam, ending)
    ):
        return None
    reach = np.where(ending, np.maximum(runs, seam), seam) + SEAM_HALO
    return np.where(seam > -SEAM_HALO, reach, 0)


def _flat_runs(image: np.ndarray, level: int) -> np.ndarray:
    """Return per column how many pixels from the upper edge are as grey as `level`, ``(W,)``."""
    runs = np.zeros(image.shape[1])
    going = np.arange(image.shape[1])
    for top in range(0, len(image), CHUNK):
        part = _near(image[top : top + CHUNK, going], level)
        lengths = (
            _run_lengths(part) if top == 0 else np.where(part.all(0), len(part), part.argmin(0))
        )
        runs[going] += lengths
        going = going[lengths == len(part)]
        if not len(going):
            break
    return runs


def _near(image: np.ndarray, level: int) -> np.ndarray:
    """Return where the pixels side by side are as grey as `level`, on the mean, (H, W) bool."""
    apart = np.maximum(image, np.uint8(level)) - np.minimum(image, np.uint8(level))
    apart = np.minimum(apart, np.uint8(255 // NEIGHBOURS))  # so that the sums stay in eight bits
    half = NEIGHBOURS // 2
    padded = np.pad(apart, ((0, 0), (half, half)), mode="edge")
    width = image.shape[1]
    total = padded[:, :width].copy()
    for shift in range(1, NEIGHBOURS):
        total += padded[:, shift : shift + width]
    return total <= RINGING * NEIGHBOURS


def _seam(runs: np.ndarray, height: int) -> np.ndarray | None:
    """Return the row of the line, slightly bowed, at which most runs end ``(W,)``; None if none."""
    column = np.arange(len(runs))
    ends = np.flatnonzero((runs > 0) & (runs < height))
    if len(ends) < LEAST_ENDS:
        return None
    some = ends[np.linspace(0, len(ends) - 1, min(len(ends), 24)).astype(int)]
    first, second = np.triu_indices(len(some), 1)
    first, second = some[first], some[second]
    apart = np.maximum(second - first, 1)
    slopes = (runs[second] - runs[first]) / apart
    usable = (np.abs(slopes) <= STEEPEST) & (second > first)
    if not usable.any():
        return None
    first, slopes = first[usable], slopes[usable]
    asked = ends[:: max(1, len(ends) // 128)]
    lines = runs[first, None] + slopes[:, None] * (asked - first[:, None])
    off = runs[asked] - lines
    votes = np.sum((off >= -SHORT) & (off <= LONG), axis=1) + np.sum(np.abs(off) <= 1.5, axis=1)
    best = int(votes.argmax())
    seam = runs[first[best]] + slopes[best] * (column - first[best])
    inlier = (runs[ends] - seam[ends] >= -SHORT) & (runs[ends] - seam[ends] <= LONG)
    for _ in range(3):
        if np.sum(inlier) < LEAST_ENDS:
            return None
        bowed = np.polynomial.Polynomial.fit(ends[inlier], runs[ends][inlier], 2)
        inlier = np.abs(runs[ends] - bowed(ends)) <= LONG
    return np.asarray(bowed(column))


def _at_ends(flags: np.ndarray) -> np.ndarray:
    """Return the stretches of `flags` (N,) that begin or end at an end, but for few gaps."""
    closed = ndimage.binary_closing(np.pad(flags, 8, mode="edge"), np.ones(9))[8:-8]
    kept = np.zeros_like(flags)
    for start, stop in _stretches(closed):
        if start == 0 or stop == len(flags):
            kept[start:stop] = True
    return kept


def _scan_along(image: np.ndarray, level: int, seam: np.ndarray, columns: np.ndarray) -> bool:
    """Whether what lies before the seam in `columns` is scan too: smooth, or a flat vitreous."""
    at = np.flatnonzero(columns)
    steps = np.linspace(0, 1, SHORT)[:, None]
    depth = np.rint(steps * np.maximum(seam[at] - SHORT, seam[at] / 2)).astype(int)
    inside = image[depth.clip(0, len(image) - 1), at]
    row = np.rint(seam[at]).astype(int) + np.arange(SHORT, 2 * SHORT)[:, None]
    beyond = image[row.clip(0, len(image) - 1), at]
    waver, speckle = (np.abs(part.astype(float) - level).mean() for part in (inside[1:], beyond))
    dark, bright = np.percentile(image[::4, ::4], [10, 99])
    tissue = np.mean(beyond.mean(axis=0) > dark + BRIGHT * (bright - dark))
    return bool(waver > MOST_WAVER or speckle < 3 * waver or tissue > MOST_BRIGHT)
