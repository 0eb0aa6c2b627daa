"""Pairs of alike hashes among many, without comparing all pairs.

Multi-index hashing (Norouzi, Punjani, Fleet, "Fast Search in Hamming Space with Multi-Index
Hashing", CVPR 2012): cut 256 bits into 16 bands of 16. Two hashes that differ in at most 31 bits
differ in at most one bit of at least one band (pigeonhole), so only hashes whose band is equal or
one bit away are compared. Nothing within the radius is missed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from octoscope.progress import track
from octoscope.scans.audit.fingerprint import unpack

BANDS, BAND_BITS = 16, 16
RADIUS = 2 * BANDS - 1
"""Differing bits up to which no pair is missed."""
NEAR = 20
"""Differing bits per 256 telling ones up to which two scans are called near duplicates."""
LEAST_TELLING = 64
"""Hashes with fewer telling bits in common are too plain to be compared."""
LONG = 20_000
"""Hashes from which a progress bar is shown."""
CHUNK = 2**21
"""Candidate pairs compared at a time (bounds the memory)."""


def near_pairs(hashes: np.ndarray, near: float = NEAR) -> np.ndarray:
    """Find the pairs of hashes of near duplicates.

    A pair is near when at most `RADIUS` of the 256 bits differ, and at most `near` in 256 of the
    bits that are telling in both.

    Args:
        hashes: ``(N, 2, 4)`` uint64 as `difference_hash` gives them.
        near: Differing bits per 256 telling ones.

    Returns:
        ``(P, 2)`` int64 rows ``i < j``, sorted. Of hashes with the same 256 bits each is paired
        with the first of them only, so that m copies cost m pairs and not m².
    """
    bits, telling = hashes[:, 0], hashes[:, 1]
    comparable = np.flatnonzero(np.bitwise_count(telling).sum(1) >= LEAST_TELLING)
    first, copy_of = _distinct(bits[comparable])
    firsts = comparable[first]  # row of each distinct hash
    later = np.setdiff1d(np.arange(len(comparable)), first)
    pairs = [np.stack([firsts[copy_of[later]], comparable[later]], axis=1)]
    pairs += [firsts[p] for p in _within_radius(bits[firsts])]
    found = np.concatenate(pairs)
    found = np.sort(found[_alike(bits, telling, found, near)], axis=1)
    return np.unique(found, axis=0)


def _distinct(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of every distinct hash, and for each row (N,) which one it is."""
    rows = np.ascontiguousarray(bits).view(np.dtype((np.void, bits.shape[1] * 8))).ravel()
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    return first, inverse


def _alike(bits: np.ndarray, telling: np.ndarray, pairs: np.ndarray, near: float) -> np.ndarray:
    """Say for each pair (P, 2) whether few of the commonly telling bits differ, ``(P,)`` bool."""
    left, right = pairs.T
    common = telling[left] & telling[right]
    count = np.bitwise_count(common).sum(1, dtype=np.int64)
    differing = np.bitwise_count((bits[left] ^ bits[right]) & common).sum(1, dtype=np.int64)
    return (count >= LEAST_TELLING) & (differing * 256 <= near * count)


def _within_radius(bits: np.ndarray) -> Iterator[np.ndarray]:
    """Yield pairs (P, 2) of rows of distinct hashes (N, 4) that differ in at most RADIUS bits."""
    if len(bits) < 2:
        return
    keys = _bands(bits)
    for key in track(keys, "comparing scans") if len(bits) > LONG else keys:
        for left, right in _candidates(key):
            # Half of the words decides most of the pairs.
            half = np.bitwise_count(bits[left, :2] ^ bits[right, :2]).sum(1)
            hopeful = half <= RADIUS
            left, right, half = left[hopeful], right[hopeful], half[hopeful]
            other = np.bitwise_count(bits[left, 2:] ^ bits[right, 2:]).sum(1)
            close = half + other <= RADIUS
            yield np.stack([left[close], right[close]], axis=1)


def _bands(bits: np.ndarray) -> np.ndarray:
    """Return 16 keys per hash, ``(16, N)`` uint16.

    Any division of the bits into bands is right. Dealing them out by how evenly they split the
    scans gives every band its share of the telling ones and keeps its buckets small.
    """
    flags = unpack(bits)  # (N, 256)
    by_balance = np.argsort(np.abs(flags.mean(axis=0) - 0.5), kind="stable")
    place = (1 << np.arange(BAND_BITS)).astype(np.uint16)
    return np.stack([flags[:, by_balance[band::BANDS]] @ place for band in range(BANDS)])


def _candidates(key: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows ``left, right`` of all pairs whose keys (N,) differ in at most one bit, once."""
    order = np.argsort(key, kind="stable")
    key = key[order].astype(np.int64)
    start = np.searchsorted(key, np.arange(2**BAND_BITS + 1))
    own = np.arange(len(key))
    yield from _pairs(order, own + 1, start[key + 1])
    for bit in range(BAND_BITS):
        lower = np.flatnonzero(key & (1 << bit) == 0)  # each pair of buckets from one side
        upper = key[lower] | (1 << bit)
        first, last = np.zeros_like(own), np.zeros_like(own)
        first[lower], last[lower] = start[upper], start[upper + 1]
        yield from _pairs(order, first, last)


def _pairs(
    order: np.ndarray, first: np.ndarray, last: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, in chunks, each sorted place k paired with the places ``first[k]:last[k]``."""
    counts = np.maximum(last - first, 0)
    ends = np.cumsum(counts)
    begin = 0
    while begin < len(counts):
        done = ends[begin - 1] if begin else 0
        stop = max(int(np.searchsorted(ends, done + CHUNK, side="right")), begin + 1)
        size = counts[begin:stop]
        total = int(size.sum())
        if total:
            step = np.arange(total) - np.repeat(np.cumsum(size) - size, size)
            left = np.repeat(np.arange(begin, stop), size)
            yield order[left], order[np.repeat(first[begin:stop], size) + step]
        begin = stop
