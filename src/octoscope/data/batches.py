"""`Batches`: the rows of a cache, gathered in this process, as tensors on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from octoscope.data.augment import Augment
from octoscope.data.sampling import augmentation_seed, cut_batches, epoch_order, shard


class Batch(TypedDict):
    """What a model is trained or validated on.

    Attributes:
        image: ``(B, 1, H, W)`` float32 in [0, 1].
        target: Class indices ``(B,)`` int64.
        index: Rows of the cache's table ``(B,)`` int64.
    """

    image: Tensor
    target: Tensor
    index: Tensor


class Batches:
    """One pass over some rows of a cache, to be iterated over as often as there are epochs.

    Reading a mapped cache takes microseconds per scan, so it is done where the batch is needed:
    worker processes would make it several times slower. What an epoch contains depends on the
    seed and the epoch only, so a loop that resumes at an epoch sees what an unbroken one saw.

    Lightning's Trainer announces the epoch by itself; other loops call `set_epoch`.

    Args:
        images: ``(N, H, W)`` uint8.
        targets: Class indices ``(N,)``.
        rows: Which of the N rows to go over ``(n,)``.
        batch_size: Rows per batch (and process).
        shuffle: Visit the rows in an order drawn anew every epoch, else as they are. When
            shuffled, a last batch of one row is left out: batch normalisation fails on it.
        seed: Seed of order and augmentation.
        weights: How often each of `rows` is drawn ``(n,)``, see `epoch_order`.
        augment: Applied to every batch, or None.
        device: Where the tensors go.
        rank: Which of the processes this one is; each goes over rows of its own, except that
            some come twice where there are not enough for all.
        world: How many processes train together.
    """

    def __init__(
        self,
        images: np.ndarray,
        targets: np.ndarray,
        rows: np.ndarray,
        *,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        weights: np.ndarray | None = None,
        augment: Augment | None = None,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.images = images
        self.targets = torch.from_numpy(np.asarray(targets, dtype=np.int64))
        self.rows = rows
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.weights = weights
        self.augment = augment
        self.device = torch.device(device)
        self.rank = rank
        self.world = world
        self.epoch = 0

    @property
    def sampler(self) -> Batches:
        """Itself: where Lightning looks for `set_epoch`."""
        return self

    @property
    def batch_sampler(self) -> None:
        """None: where Lightning looks next."""
        return None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass, counted from 0."""
        self.epoch = epoch

    def order(self) -> list[np.ndarray]:
        """Return the rows of every batch of this epoch."""
        order = self.rows
        if self.shuffle:
            drawn = epoch_order(len(order), seed=self.seed, epoch=self.epoch, weights=self.weights)
            order = order[drawn]
        mine = shard(order, self.rank, self.world)
        return cut_batches(mine, self.batch_size, drop_single=self.shuffle)

    def __len__(self) -> int:
        mine = -(-len(self.rows) // self.world)
        return len(cut_batches(np.empty(mine), self.batch_size, drop_single=self.shuffle))

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.epoch  # announced before the pass; the next may be announced during it
        generator = torch.Generator(self.device)
        for step, rows in enumerate(self.order()):
            image = self._gather(rows)
            if self.augment is not None:
                generator.manual_seed(augmentation_seed(self.seed, epoch, step, self.rank))
                image = self.augment(image, generator)
            index = torch.from_numpy(rows)
            target = self.targets[index]
            yield Batch(image=image, target=target.to(self.device), index=index.to(self.device))

    def _gather(self, rows: np.ndarray) -> Tensor:
        """Return rows of the cache as ``(B, 1, H, W)`` float32 in [0, 1] on the device."""
        pixels = np.take(self.images, rows, axis=0)[:, None]  # (B, 1, H, W) uint8
        if self.device.type == "cpu":
            # numpy rather than torch: one thread is enough, and waits for no other.
            return torch.from_numpy(np.divide(pixels, np.float32(255), dtype=np.float32))
        moved = torch.from_numpy(pixels)
        if self.device.type == "cuda":
            moved = moved.pin_memory()
        return moved.to(self.device, non_blocking=True).to(torch.float32).div_(255)
