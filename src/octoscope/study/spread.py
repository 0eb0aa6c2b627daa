"""A few scans that stand for many: as many classes and patients as there are, by a rule."""

from __future__ import annotations

import numpy as np


def spread(labels: np.ndarray, patients: np.ndarray, most: int, *, seed: int = 0) -> np.ndarray:
    """Choose scans evenly over classes, and within a class one of every patient before two of any.

    Args:
        labels: Class of each scan, ``(N,)``.
        patients: Patient of each scan, ``(N,)``.
        most: How many to choose.
        seed: Of the order in which patients and their scans are taken.

    Returns:
        Positions among the N, rising; all of them where there are no more than `most`.
    """
    labels, patients = np.asarray(labels, dtype=str), np.asarray(patients, dtype=str)
    if len(labels) <= most:
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    turn = _counted(np.char.add(np.char.add(labels, "\n"), patients), order)  # of its patient
    order = order[np.argsort(turn[order], kind="stable")]
    place = _counted(labels, order)  # of its class
    order = order[np.argsort(place[order], kind="stable")]
    return np.sort(order[:most])


def _counted(names: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return for each scan (N,) how many of the same name come before it in an order."""
    seen: dict[str, int] = {}
    out = np.empty(len(names), dtype=np.intp)
    for place in order:
        name = str(names[place])
        out[place] = seen.get(name, 0)
        seen[name] = out[place] + 1
    return out
