"""Which scans look alike enough to be compared pixel by pixel: candidates for copies.

Each thumbnail is described by 16×16 local contrasts: area means of the square root of its grey
(speckle grows with the signal), less their surroundings, over the local spread. What is the same
in all scans of the set (the layering, a mask, a screen's surround) is taken off. Copies of a
scan have nearly the same contrasts, or minus the same if inverted. A scan is also described as it
looks with 5 or 10 % cut off each side, mirrored, and turned, so that such copies are found; the
products of all with all are taken in blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.ndimage import gaussian_filter1d

from octoscope.progress import track
from octoscope.scans.audit.thumbnail import SIDE

CELLS = 16
COARSE = 1.5
"""Standard deviation, in cells, of what counts as the surroundings of a cell."""
DIMENSIONS = 96
"""Principal components kept of the 256 contrasts."""
SHRINK = 32
"""Scans at which half of what is common is taken off: with two scans, all would be common."""
ALIKE = 0.7
"""Least correlation of two descriptions to be a candidate."""
PARTNERS = 4
"""Candidates kept for each scan and description."""
BLOCK = 512
"""Descriptions compared with all others at a time."""

LONG = 2_000
"""Thumbnails from which a progress bar is shown."""

CUTS = ((0.0, 1.0), (0.05, 0.95), (0.1, 0.9), (0.0, 0.9), (0.1, 1.0))
"""Parts of the height and of the width as which a scan is described."""
TURNS = tuple(range(8))
"""Orientations: number of quarter turns, plus 4 if mirrored (left-right) before."""
MIRRORED = 4
Variant = tuple[int, tuple[float, float], tuple[float, float]]
"""Turn, rows and columns of the turned whole that a description shows."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs of thumbnails to be compared pixel by pixel; one entry of each array per pair.

    Attributes:
        part: ``(P,)`` the thumbnail that may be a part, a copy, of the other.
        whole: ``(P,)`` the other.
        turn: ``(P,)`` how the whole must be turned, as in `TURNS`.
        rows: ``(P, 2)`` part of the height of the turned whole that is shown, in [0, 1].
        columns: ``(P, 2)`` part of its width.
        inverted: ``(P,)`` whether bright is dark in one of them.
    """

    part: np.ndarray
    whole: np.ndarray
    turn: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    inverted: np.ndarray


def turned(pictures: np.ndarray, turn: int) -> np.ndarray:
    """Return pictures ``(..., H, W)`` mirrored and turned as `TURNS` says."""
    if turn >= MIRRORED:
        pictures = pictures[..., ::-1]
    return np.rot90(pictures, turn % MIRRORED, axes=(-2, -1))


def find_candidates(
    pictures: np.ndarray, owners: np.ndarray, framed: np.ndarray | None = None
) -> Candidates:
    """Find pairs of thumbnails that look alike.

    Args:
        pictures: ``(N, SIDE, SIDE)`` uint8.
        owners: ``(N,)`` scan that each shows; no thumbnail is paired with one of its own scan.
        framed: ``(N,)`` bool, pictures with a uniform surround, whose inside is among the pictures
            too; two of them are not paired, for their surrounds would be what is alike.

    Returns:
        At most `PARTNERS` pairs per thumbnail, the most alike ones.
    """
    cut = _Described(pictures)
    plain = cut.contrasts(CUTS[0], CUTS[0]).reshape(len(pictures), CELLS**2)  # (N, 256)
    mean = plain.mean(axis=0) * (len(plain) / (len(plain) + SHRINK))
    axes = _principal_axes(plain - mean)  # (256, D)
    parts = _unit((plain - mean) @ axes)
    best = _Best(len(pictures))
    variants: list[Variant] = []
    cuts = list(product(CUTS, CUTS))
    for rows, columns in track(cuts, "comparing scans") if len(pictures) > LONG else cuts:
        contrasts = cut.contrasts(rows, columns)
        for turn in TURNS if rows == columns == CUTS[0] else (0, MIRRORED):
            # What is cut off the left of a scan is cut off the right of the mirrored one.
            seen = columns if turn == 0 else (1 - columns[1], 1 - columns[0])
            flat = np.ascontiguousarray(turned(contrasts, turn)).reshape(plain.shape)
            whole = _unit((flat - mean) @ axes)
            for start in range(0, len(parts), BLOCK):
                likeness = parts[start : start + BLOCK] @ whole.T  # (B, N)
                block = slice(start, start + BLOCK)
                likeness[owners[block, None] == owners[None]] = 0
                if framed is not None and framed[block].any():
                    likeness[framed[block, None] & framed[None]] = 0
                best.add(start, likeness, len(variants))
            variants.append((turn, rows, seen))
    return best.candidates(variants)


class _Best:
    """The most alike partners of every thumbnail, with the variant that showed it."""

    def __init__(self, count: int) -> None:
        self.likeness = np.zeros((count, PARTNERS), np.float32)  # of either sign
        self.partner = np.full((count, PARTNERS), -1, np.int64)
        self.variant = np.zeros((count, PARTNERS), np.int64)

    def add(self, start: int, likeness: np.ndarray, variant: int) -> None:
        """Merge a block ``(B, N)`` of likenesses of thumbnails start…start+B-1 to all."""
        size = np.abs(likeness)
        block = slice(start, start + len(size))
        least = np.maximum(np.abs(self.likeness[block]).min(axis=1), ALIKE)
        for row in np.flatnonzero(size.max(axis=1) > least):
            partners = np.flatnonzero(size[row] > least[row])
            partners = partners[np.argsort(-size[row][partners], kind="stable")[:PARTNERS]]
            for partner in partners.tolist():
                self._insert(start + int(row), partner, float(likeness[row, partner]), variant)

    def _insert(self, row: int, partner: int, likeness: float, variant: int) -> None:
        known = np.flatnonzero(self.partner[row] == partner)
        at = int(known[0]) if len(known) else int(np.argmin(np.abs(self.likeness[row])))
        if abs(likeness) > abs(self.likeness[row, at]):
            self.likeness[row, at], self.partner[row, at] = likeness, partner
            self.variant[row, at] = variant

    def candidates(self, variants: list[Variant]) -> Candidates:
        """Return the pairs, each once, as the more alike of its two directions."""
        part, place = np.nonzero(self.partner >= 0)
        whole, likeness = self.partner[part, place], self.likeness[part, place]
        variant = self.variant[part, place]
        order = np.argsort(-np.abs(likeness), kind="stable")
        key = np.minimum(part, whole) * len(self.partner) + np.maximum(part, whole)
        _, first = np.unique(key[order], return_index=True)
        kept = np.sort(order[first])
        chosen = [variants[v] for v in variant[kept]]
        return Candidates(
            part=part[kept],
            whole=whole[kept],
            turn=np.array([turn for turn, _, _ in chosen], np.int64),
            rows=np.array([rows for _, rows, _ in chosen]).reshape(-1, 2),
            columns=np.array([columns for _, _, columns in chosen]).reshape(-1, 2),
            inverted=likeness[kept] < 0,
        )


class _Described:
    """The local contrasts of parts of thumbnails (N, SIDE, SIDE)."""

    def __init__(self, pictures: np.ndarray) -> None:
        half = SIDE // 2
        self.root = np.empty((len(pictures), half, half), np.float32)
        for i, picture in enumerate(pictures):
            means = picture.reshape(half, 2, half, 2).mean(axis=(1, 3), dtype=np.float32)
            self.root[i] = np.sqrt(means + 4)

    def contrasts(self, rows: tuple[float, float], columns: tuple[float, float]) -> np.ndarray:
        """Return the local contrasts (N, 16, 16) float32 of a part of the height and the width."""
        side = self.root.shape[1]
        cells = _averaging(*rows, side) @ self.root @ _averaging(*columns, side).T
        contrast = cells - _smooth(cells, COARSE)
        contrast /= np.sqrt(_smooth(contrast**2, 1.5 * COARSE)) + 0.03
        return contrast


def _smooth(cells: np.ndarray, sigma: float) -> np.ndarray:
    """Blur each of the pictures (N, n, n) by a Gaussian, its edges extended."""
    blur = gaussian_filter1d(np.eye(cells.shape[-1], dtype=np.float32), sigma, 0, mode="nearest")
    return np.asarray(blur @ cells @ blur.T)


def _averaging(low: float, high: float, side: int) -> np.ndarray:
    """Return the matrix (CELLS, side) of means over equal cells of [low, high] of a side."""
    edges = (low + (high - low) * np.arange(CELLS + 1) / CELLS) * side
    pixel = np.arange(side)
    shared = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    shared = np.maximum(shared, 0)
    return np.asarray(shared / shared.sum(axis=1, keepdims=True), np.float32)


def _principal_axes(centred: np.ndarray) -> np.ndarray:
    """Return the directions (256, D) along which the descriptions (N, 256) differ most."""
    _, axes = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
    return np.asarray(axes[:, ::-1][:, :DIMENSIONS], np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors (N, D) to length 1; those of nothing stay 0."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-6), np.float32)
