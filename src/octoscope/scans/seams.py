"""The seam at which a flat border of any grey value ends, seen from one edge of the frame.

Every function takes the frame turned so that the edge in question is its upper one.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

NARROWEST = 31
"""Runs that are long over fewer neighbours than this are tissue (a saturated RPE), in pixels."""
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


def run_lengths(uniform: np.ndarray) -> np.ndarray:
    """Return per column how many uniform pixels follow the first row, ``(W,)`` int."""
    if len(uniform) > 3:
        uniform = uniform.copy()
        uniform[:2] |= uniform[2]  # the outermost rows may be darkened by resampling
    lengths = np.argmin(uniform, axis=0)
    lengths[uniform.all(axis=0)] = len(uniform)
    return lengths


def stretches(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return the half-open intervals over which `flags` (N,) is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def flat_level(image: np.ndarray) -> int | None:
    """Return the commonest grey value of flat stretches along the upper edge, None without any."""
    line = image[min(2, len(image) - 1)].astype(np.int16)
    size = min(NARROWEST, len(line))
    highest, lowest = ndimage.maximum_filter1d(line, size), ndimage.minimum_filter1d(line, size)
    flat = line[highest - lowest <= FLAT]
    return int(np.bincount(flat).argmax()) if len(flat) else None


def flat_depth(image: np.ndarray, level: int) -> np.ndarray | None:
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
    # Padding ends sharply, all along a row; only a sloping or a compressed seam has mixed pixels.
    sharp = len(ends := np.unique(runs[ending])) == 1 and ends[0] < height
    if (
        ending.sum() < max(min(NARROWEST, width), LEAST_SUPPORT * judged.sum())
        or against > MOST_AGAINST * judged.sum()
        or not (sharp or _ends_at_scan(image, level, seam, ending))
    ):
        return None
    halo = 0 if sharp else SEAM_HALO
    reach = np.where(ending, np.maximum(runs, seam), seam) + halo
    return np.where(seam > -SEAM_HALO, reach, 0)


def _flat_runs(image: np.ndarray, level: int) -> np.ndarray:
    """Return per column how many pixels from the upper edge are as grey as `level`, ``(W,)``."""
    runs = np.zeros(image.shape[1])
    going = np.arange(image.shape[1])
    for top in range(0, len(image), CHUNK):
        part = _near(image[top : top + CHUNK, going], level)
        lengths = (
            run_lengths(part) if top == 0 else np.where(part.all(0), len(part), part.argmin(0))
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
    half, width = NEIGHBOURS // 2, image.shape[1]
    padded = apart.take(np.arange(-half, width + half).clip(0, width - 1), axis=1)
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
        seam = _parabola(ends[inlier], runs[ends[inlier]], len(runs))
        inlier = np.abs(runs[ends] - seam[ends]) <= LONG
    return seam


def _parabola(at: np.ndarray, values: np.ndarray, width: int) -> np.ndarray:
    """Return the parabola of least squares through values at columns, at every column ``(W,)``.

    By its normal equations, over columns scaled so that those given span -1…1; to a millionth of a
    row, so that a seam along a row lies on it and not by a rounding below.
    """
    middle, half = (at[0] + at[-1]) / 2, (at[-1] - at[0]) / 2
    scaled = (np.arange(width) - middle) / half
    powers = np.stack([np.ones(width), scaled, scaled**2])  # (3, W)
    some = powers[:, at]
    return np.asarray(np.round(np.linalg.solve(some @ some.T, some @ values) @ powers, 6))


def _at_ends(flags: np.ndarray) -> np.ndarray:
    """Return the stretches of `flags` (N,) that begin or end at an end, but for few gaps."""
    closed = ndimage.binary_closing(np.pad(flags, 8, mode="edge"), np.ones(9))[8:-8]
    kept = np.zeros_like(flags)
    for start, stop in stretches(closed):
        if start == 0 or stop == len(flags):
            kept[start:stop] = True
    return kept


def _ends_at_scan(image: np.ndarray, level: int, seam: np.ndarray, columns: np.ndarray) -> bool:
    """Whether the scan begins at the seam; not if scan is before it, or retina after."""
    at = np.flatnonzero(columns)
    steps = np.linspace(0, 1, SHORT)[:, None]
    depth = np.rint(steps * np.maximum(seam[at] - SHORT, seam[at] / 2)).astype(int)
    inside = image[depth.clip(0, len(image) - 1), at]
    row = np.rint(seam[at]).astype(int) + np.arange(SHORT, 2 * SHORT)[:, None]
    beyond = image[row.clip(0, len(image) - 1), at]
    waver, speckle = (np.abs(part.astype(float) - level).mean() for part in (inside[1:], beyond))
    dark, bright = np.percentile(image[::4, ::4], [10, 99])
    tissue = np.mean(beyond.mean(axis=0) > dark + BRIGHT * (bright - dark))
    return bool(waver <= MOST_WAVER and speckle >= 3 * waver and tissue <= MOST_BRIGHT)
