"""Pairs of scans that show one picture: candidates by likeness, confirmed on the pixels."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from octoscope.progress import track
from octoscope.scans.audit.confirm import (
    ALIKE,
    NEIGHBOURLY,
    NEIGHBOURS,
    Match,
    compare,
    is_copy,
)
from octoscope.scans.audit.likeness import LONG, MIRRORED, Candidates, find_candidates, turned
from octoscope.scans.audit.measure import MOST_KEPT, Measurement, measure
from octoscope.scans.audit.near import near_pairs
from octoscope.scans.audit.registration import Registrable
from octoscope.scans.audit.thumbnail import SIDE, common_surround

CACHED = 512
"""Thumbnails kept ready for registration (a quarter of a megabyte each, few of them twice that)."""
BLOCK = 32
"""Pairs registered at a time."""


@dataclass(frozen=True, eq=False)
class Copies:
    """Pairs of rows ``(P, 2)`` int64, each ``i < j``, sorted.

    Attributes:
        confirmed: Show one picture.
        look_alikes: Look alike, but their fine structure does not show that they are one picture.
    """

    confirmed: np.ndarray
    look_alikes: np.ndarray


def find_copies(
    measured: Sequence[Measurement], rows: Sequence[int], workers: int | None = None
) -> Copies:
    """Find the near copies among scans whose pixels differ.

    Args:
        measured: Measurements of all scans.
        rows: Those to compare.
        workers: Threads; by default one per core.
    """
    if len(rows) < 2:
        nothing = np.zeros((0, 2), np.int64)
        return Copies(nothing, nothing)
    if len(rows) > MOST_KEPT:
        owners, candidates = _by_hash(measured, rows)
        picture: Callable[[int], np.ndarray] = _Reread(measured, owners)
    else:
        pictures, owners, framed = _pictures(measured, rows)
        candidates = find_candidates(pictures, owners, framed)
        picture = pictures.__getitem__
    return _confirmed(candidates, owners, picture, workers)


def _pictures(
    measured: Sequence[Measurement], rows: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all thumbnails (N, SIDE, SIDE), the row that each shows (N,), and which are framed.

    Scans of one frame size lose the surround that all of them share.
    """
    inside = [i for i in rows if len(measured[i].thumbnails) > 1]
    parts = [np.zeros((0, SIDE, SIDE), np.uint8)]
    for place, members in enumerate((rows, inside)):
        if members:
            views = np.stack([measured[i].thumbnails[place] for i in members])
            sizes = np.array([measured[i].words["frame size"] for i in members])
            for size in np.unique(sizes):
                surround = common_surround(views[sizes == size])
                if surround is not None:
                    views = surround.removed(views)  # of resized copies too
            parts.append(views)
    pictures = np.concatenate(parts)
    framed = np.isin(rows, inside)
    return (
        pictures,
        np.array([*rows, *inside], np.int64),
        np.concatenate([framed, np.zeros(len(inside), bool)]),
    )


def _by_hash(measured: Sequence[Measurement], rows: Sequence[int]) -> tuple[np.ndarray, Candidates]:
    """Return the candidates among very many scans: of whole and of mirrored ones only."""
    hashes = np.concatenate(
        [h for i in rows for h in (measured[i].hashes, measured[i].mirrored_hashes)]
    )
    views = np.array([len(measured[i].hashes) for i in rows])
    owners = np.repeat(rows, 2 * views)  # (N,) of each hash: those of a row, then the mirrored
    mirrored = np.concatenate([np.arange(2 * count) >= count for count in views])
    pairs = near_pairs(hashes)
    pairs = pairs[(owners[pairs[:, 0]] != owners[pairs[:, 1]]) & ~mirrored[pairs].all(axis=1)]
    part = np.where(mirrored[pairs[:, 0]], pairs[:, 1], pairs[:, 0])
    whole = pairs.sum(axis=1) - part
    all_of_it = np.tile([0.0, 1.0], (len(pairs), 1))
    turn = np.where(mirrored[whole], MIRRORED, 0)
    found = Candidates(part, whole, turn, all_of_it, all_of_it, np.zeros(len(pairs), bool))
    return owners, found


class _Reread:
    """Reads a scan again for its thumbnails, where there are too many to keep."""

    def __init__(self, measured: Sequence[Measurement], owners: np.ndarray) -> None:
        self.measured, self.owners = measured, owners

    def __call__(self, index: int) -> np.ndarray:
        """Return the thumbnail behind hash `index`, which for a mirrored one is not mirrored."""
        row = self.owners[index]
        views = measure(self.measured[row].path).thumbnails
        place = index - int(np.searchsorted(self.owners, row))
        return np.asarray(views[place % len(views)])


def _confirmed(
    candidates: Candidates,
    owners: np.ndarray,
    picture: Callable[[int], np.ndarray],
    workers: int | None,
) -> Copies:
    """Compare the candidates on their pixels."""

    @lru_cache(CACHED)
    def ready(index: int, turn: int) -> Registrable:
        return Registrable(np.ascontiguousarray(turned(picture(index), turn)))

    c = candidates

    def match(start: int) -> list[Match | None]:
        some = range(start, min(start + BLOCK, count))
        return compare(
            [ready(int(c.part[i]), 0) for i in some],
            [ready(int(c.whole[i]), int(c.turn[i])) for i in some],
            starts[start : start + BLOCK],
            np.where(c.inverted[start : start + BLOCK], -1, 1),
        )

    count = len(c.part)
    starts = np.zeros((count, 2, 3))
    for axis, shown in enumerate((c.columns, c.rows)):
        starts[:, axis, axis] = shown[:, 1] - shown[:, 0]
        starts[:, axis, 2] = shown.sum(axis=1) - 1
    blocks = range(0, count, BLOCK)
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        done = pool.map(match, blocks)
        steps = track(done, "confirming copies", total=len(blocks)) if count > LONG else done
        matches = [found for block in steps for found in block]
    best: dict[tuple[int, int], Match] = {}
    for one, two, found in zip(
        owners[candidates.part].tolist(), owners[candidates.whole].tolist(), matches, strict=True
    ):
        pair = (min(one, two), max(one, two))
        if found is not None and found.correlation[-1] >= ALIKE:
            known = best.get(pair)
            if known is None or found.correlation.sum() > known.correlation.sum():
                best[pair] = found
    return _judged(best)


def _judged(matches: dict[tuple[int, int], Match]) -> Copies:
    """Tell copies from look-alikes, given the best match of each pair of rows."""
    neighbours: defaultdict[int, set[int]] = defaultdict(set)
    for (one, two), match in matches.items():
        if match.correlation[1] >= NEIGHBOURLY and not is_copy(match, crowded=False):
            neighbours[one].add(two)
            neighbours[two].add(one)
    confirmed: list[tuple[int, int]] = []
    alike: list[tuple[int, int]] = []
    for pair, match in sorted(matches.items()):
        further = (neighbours[pair[0]] | neighbours[pair[1]]) - set(pair)
        (confirmed if is_copy(match, len(further) >= NEIGHBOURS) else alike).append(pair)
    return Copies(*(np.array(p, np.int64).reshape(-1, 2) for p in (confirmed, alike)))
