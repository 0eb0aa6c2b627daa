"""The order in which rows are seen: a function of (seed, epoch) and of nothing else.

Nothing here keeps a state between epochs, so a run resumed at an epoch boundary sees the same
batches as an unbroken one.
"""

from __future__ import annotations

import numpy as np

_ORDER, _AUGMENT = 0, 1  # which stream of random numbers


def epoch_order(
    count: int, *, seed: int, epoch: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the positions to visit in one epoch.

    Args:
        count: Number of rows n.
        seed: Seed of the run, ≥ 0.
        epoch: Epoch, counted from 0.
        weights: How often each row is drawn, relative to the others ``(n,)``; None visits every
            row once.

    Returns:
        ``(n,)`` int64: a permutation, or with `weights` n draws with replacement.
    """
    random = np.random.default_rng([seed, epoch, _ORDER])
    if weights is None:
        return random.permutation(count)
    return random.choice(count, size=count, replace=True, p=weights / weights.sum())


def augmentation_seed(seed: int, epoch: int, step: int, rank: int = 0) -> int:
    """Return the seed of the augmentation of one batch, 0 … 2⁶³-1."""
    state = np.random.SeedSequence([seed, epoch, step, rank, _AUGMENT])
    return int(state.generate_state(1, np.uint64)[0] >> np.uint64(1))


def shard(order: np.ndarray, rank: int, world: int) -> np.ndarray:
    """Return every `world`-th position from `rank` on.

    All ranks get the same number, ⌈n / world⌉: the order is filled up from its own beginning,
    because ranks with unequal numbers of steps would wait for each other for ever.
    """
    steps = -(-len(order) // world)
    return np.resize(order, steps * world)[rank::world]


def cut_batches(order: np.ndarray, batch_size: int, *, drop_single: bool) -> list[np.ndarray]:
    """Cut an order into batches; the last one may be smaller.

    Args:
        order: Positions ``(n,)``.
        batch_size: Rows per batch.
        drop_single: Leave out a last batch of one row when batches are larger: batch
            normalisation has no variance to work with there.
    """
    count = len(order)
    if drop_single and batch_size > 1 and count > 1 and count % batch_size == 1:
        count -= 1
    return [order[i : min(i + batch_size, count)] for i in range(0, count, batch_size)]


def class_weights(targets: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the inverse frequency of each class, ``n / (K' · nₖ)``.

    K' is the number of classes that occur; a class without a row has weight 0. The mean weight
    of a row is 1, so a loss weighted so keeps its scale.

    Args:
        targets: Class indices ``(n,)``.
        num_classes: K.

    Returns:
        ``(K,)`` float64.
    """
    counts = np.bincount(targets, minlength=num_classes)
    present = counts > 0
    return np.where(present, len(targets) / (present.sum() * np.maximum(counts, 1)), 0.0)
