"""Whole patients into splits or folds: the wanted shares of every class, and few who ever move.

A patient's place is drawn by a hash. Neither the order of rows nor the number of scans has a part
in it, so that scans added to known patients move nobody, and a new patient at most those who stand
at a border between two splits.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it, modulo 1, fill the unit interval as evenly as any sequence can."""

LARGEST_SHARE = 1 / 3
"""The most that a class gives so that a split reaches its least number of patients."""


def assign_patients(
    patients: Sequence[str],
    holds: np.ndarray,
    classes: Sequence[str],
    shares: np.ndarray,
    seed: int,
    *,
    least: int = 1,
    unknown: np.ndarray | None = None,
) -> np.ndarray:
    """Choose a split for each patient.

    Patients of the same classes are a stratum. In it they stand in an order drawn by `seed` and
    their ids, and the splits are pieces of that order. How many patients a piece has depends on
    the size of the stratum alone, and grows by one in one piece when a patient is added; so at
    most one patient moves at each border. A class is in every split wherever it has the patients:
    a stratum of one class serves every split before one gets a second patient, and what patients
    of several classes leave undone is mended in the end.

    Args:
        patients: P distinct ids.
        holds: Which classes each has scans of ``(P, K)`` bool; none for unlabelled patients.
        classes: Names of the K classes, by which (and not by their number) a stratum is known.
        shares: Wanted share of the patients by split ``(S,)``, summing to 1; 0 leaves one empty.
        seed: Any number.
        least: Patients of a class that every split after the first should have, as long as it
            takes no more than a third of the class.
        unknown: Those ``(P,)`` that stand for scans of unknown patients: they go to the first
            split, since nobody can say that they are other people than the rest.

    Returns:
        Index of the split of each patient ``(P,)`` int64.
    """
    draw = np.array([hash_of(seed, patient) for patient in patients], dtype=np.uint64)
    pinned = np.zeros(len(patients), dtype=bool) if unknown is None else unknown
    chosen = np.zeros(len(patients), dtype=np.int64)
    strata: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for patient in np.argsort(draw, kind="stable"):
        strata[tuple(np.flatnonzero(holds[patient]).tolist())].append(int(patient))
    for own, members in strata.items():
        single = len(own) <= 1
        name = hash_of(seed, f"stratum {[classes[k] for k in own]}")
        sizes = _sizes(len(members), shares, least if single else 0, name, single)
        first = [patient for patient in members if pinned[patient]]
        others = [patient for patient in members if not pinned[patient]]
        first_split = int(np.flatnonzero(shares > 0)[0])
        chosen[first] = first_split
        sizes[first_split] -= len(first)
        chosen[others] = _pieces(sizes, shares)[: len(others)]
    _mend(chosen, holds, shares, draw, pinned)
    return chosen


def hash_of(seed: int, text: str) -> int:
    """Return 64 bits that look random and are the same on every machine."""
    words = f"{seed}:{text}".encode("utf-8", errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), "big")


def _sizes(number: int, shares: np.ndarray, least: int, name: int, single: bool) -> np.ndarray:
    """Count the patients of a stratum by split ``(S,)``; one more patient adds one to one split.

    Args:
        number: Patients of the stratum.
        shares: Wanted shares ``(S,)``.
        least: See `assign_patients`; 0 if the stratum has no class of its own to serve.
        name: Hash of the stratum, which settles ties.
        single: Whether the patients are of one class, which every split should have.
    """
    count = np.zeros(len(shares), dtype=np.int64)
    wanted = np.flatnonzero(shares > 0)
    if not single:  # small and many: each begins elsewhere, so that not all serve the first split
        places = (name / 2**64 + GOLDEN * np.arange(number)) % 1
        ends = np.cumsum(shares[wanted] / shares[wanted].sum())
        at = np.minimum(np.searchsorted(ends, places, side="right"), len(wanted) - 1)
        return count + np.bincount(wanted[at], minlength=len(shares))
    ties = np.array([(name >> (8 * (s % 8))) % 256 for s in range(len(shares))]) * 1e-9
    for place in range(number):
        empty = wanted[count[wanted] == 0]
        short = [s for s in wanted[1:] if count[s] < min(least, LARGEST_SHARE * (place + 1))]
        if len(empty):
            split = empty[0]
        elif short:
            split = min(short, key=lambda s: count[s])
        else:  # the divisor method of Sainte-Laguë: nearest to the shares, and never takes back
            split = wanted[np.argmax(shares[wanted] / (count[wanted] + 0.5) + ties[wanted])]
        count[split] += 1
    return count


def _pieces(sizes: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Lay the splits out along the order ``(n,)``, the largest in the middle.

    At a border with a share f on one side, a new patient moves another with probability
    2 f (1 - f): least if the large split has the small ones on its two sides.
    """
    largest = int(np.argmax(shares))
    others = [split for split in range(len(sizes)) if split != largest]
    half = (len(others) + 1) // 2
    order = np.array([*others[:half], largest, *others[half:]])
    return np.repeat(order, np.maximum(sizes[order], 0))


def _mend(
    chosen: np.ndarray,
    holds: np.ndarray,
    shares: np.ndarray,
    draw: np.ndarray,
    pinned: np.ndarray,
) -> None:
    """Move single patients so that each class is in every split for which it has the patients.

    Only classes that live on patients of several classes need it. A patient is taken where that
    leaves no class of his without anybody.
    """
    wanted = np.flatnonzero(shares > 0)
    for k in np.argsort(holds.sum(axis=0), kind="stable"):
        members = np.flatnonzero(holds[:, k])
        members = members[np.argsort(draw[members], kind="stable")]
        for split in wanted[: len(members)]:
            if (chosen[members] == split).any():
                continue
            by_split = np.stack([holds[chosen == s].sum(axis=0) for s in range(len(shares))])
            free = [
                p for p in members if not pinned[p] and (by_split[chosen[p]][holds[p]] > 1).all()
            ]
            if free:
                fullest = max(free, key=lambda p: by_split[chosen[p], k])
                chosen[fullest] = split
