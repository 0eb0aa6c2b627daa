"""Whole patients into splits or folds: near the wanted shares of every class, and repeatable."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def assign_patients(
    patients: Sequence[str], counts: np.ndarray, shares: np.ndarray, seed: int
) -> np.ndarray:
    """Choose a split for each patient.

    The classes with fewest patients come first, in a class the patients with most scans (those
    alike within a factor of two in an order drawn by `seed`). Each goes to the split that is
    furthest behind its share of the scans of its class seen so far: so far, not in the end, for
    else the patients with many scans would fill train and test would hold the others. While a
    class has no more patients left than there are splits without one, only those splits are open
    (the first of them, if there are too few patients), so that a class is in every split wherever
    it has the patients. A patient of several classes counts in each.

    The draw is a hash of patient and seed: it depends on no row order and no library version.

    Args:
        patients: P distinct ids.
        counts: Scans by patient and class ``(P, K)``.
        shares: Wanted share of each class by split ``(S, K)``; columns sum to 1.
        seed: Any number.

    Returns:
        Index of the split of each patient ``(P,)`` int64.
    """
    draw = np.array([_draw(patient, seed) for patient in patients], dtype=np.uint64)
    holds = counts > 0  # (P, K)
    total = counts.sum(axis=0)  # (K,)
    left = holds.sum(axis=0)  # patients still to be assigned, by class (K,)
    scarcest = np.where(holds, left, np.iinfo(np.int64).max).argmin(axis=1)  # (P,)
    octave = np.floor(np.log2(np.maximum(counts.sum(axis=1), 1)))
    order = np.lexsort((draw, -octave, scarcest, left[scarcest]))

    chosen = np.zeros(len(patients), dtype=np.int64)
    given = np.zeros(shares.shape)  # scans assigned, by split and class (S, K)
    seen = np.zeros(shares.shape, dtype=bool)  # any patient (S, K)
    for patient in order:
        own = np.flatnonzero(holds[patient])
        scans = counts[patient, own]
        due = shares[:, own] * (given[:, own].sum(axis=0) + scans)
        behind = ((due - given[:, own]) / total[own]) @ (scans / scans.sum())  # (S,)
        open_ = (shares[:, own] > 0).any(axis=1)
        empty = (shares > 0) & ~seen  # (S, K)
        for k in (scarcest[patient], *own):
            waiting = empty[:, k] & (empty[:, k].cumsum() <= left[k])
            if left[k] <= empty[:, k].sum() and (open_ & waiting).any():
                open_ &= waiting
        behind = np.where(open_, behind, -np.inf)
        best = np.flatnonzero(behind >= behind.max() - 1e-12)
        split = best[int(draw[patient]) % len(best)]
        chosen[patient] = split
        given[split] += counts[patient]
        seen[split] |= holds[patient]
        left[own] -= 1
    return chosen


def _draw(patient: str, seed: int) -> int:
    """Return 64 bits that look random and are the same everywhere."""
    text = f"{seed}:{patient}".encode("utf-8", errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
