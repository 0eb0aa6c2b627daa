"""`ScanData`: the cache as Lightning wants it, one loader per split."""

from __future__ import annotations

from typing import Literal, get_args

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from octoscope.data.augment import Augment
from octoscope.data.batches import Batches
from octoscope.data.cache import ScanCache
from octoscope.data.sampling import class_weights
from octoscope.errors import OctoscopeError, did_you_mean

Balance = Literal["none", "sampler", "loss"]


class ScanData(pl.LightningDataModule):
    """Batches of a cache by split, for a Lightning Trainer or a loop of one's own.

    Rows without a label are in no batch. The test split has no loader unless asked for.

    Args:
        cache: The scans.
        batch_size: Scans per batch and process, ≥ 1.
        augment: Applied to training batches, or None.
        balance: What is done about classes of unequal size: ``sampler`` draws training scans
            with replacement so that classes come equally often; ``loss`` offers
            `class_weights` to the loss; ``none`` does nothing.
        seed: Seed of order and augmentation, ≥ 0.
        open_test: Allow `test_dataloader`.
        device: Where batches are made; by default where the Trainer trains, else the CPU.

    Raises:
        OctoscopeError: If an option is out of range.
    """

    def __init__(
        self,
        cache: ScanCache,
        *,
        batch_size: int = 32,
        augment: Augment | None = None,
        balance: Balance = "none",
        seed: int = 0,
        open_test: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if balance not in get_args(Balance):
            raise OctoscopeError(
                f'balance "{balance}" is unknown{did_you_mean(str(balance), get_args(Balance))}; '
                f"use {', '.join(get_args(Balance))}"
            )
        if batch_size < 1 or seed < 0:
            raise OctoscopeError(
                f"batch_size must be at least 1 and seed at least 0, not {batch_size} and {seed}"
            )
        self.cache = cache
        self.batch_size = batch_size
        self.augment = augment
        self.balance = balance
        self.seed = seed
        self.open_test = open_test
        self.device = device
        self.targets = cache.table.targets

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.cache.table.classes

    @property
    def class_weights(self) -> Tensor:
        """Inverse frequency of the classes among the training scans ``(K,)`` float32."""
        weights = class_weights(self.targets[self.rows("train")], len(self.classes))
        return torch.from_numpy(weights).to(torch.float32)

    def rows(self, split: str) -> np.ndarray:
        """Return the rows of the cache that are in a split and labelled ``(n,)`` int64.

        Raises:
            OctoscopeError: If there is none.
        """
        in_split = (self.cache.table.frame["split"] == split).to_numpy(dtype=bool)
        rows = np.flatnonzero(in_split & (self.targets >= 0))
        if len(rows) == 0:
            why = "is in it" if not in_split.any() else "in it has a label"
            raise OctoscopeError(
                f'{self.cache.table.root}: the split "{split}" cannot be used, for no readable '
                f"scan {why}; split the table anew"
            )
        return rows

    def train_dataloader(self) -> Batches:
        """Return shuffled (or balanced), augmented batches of the training split."""
        rows = self.rows("train")
        if len(rows) == 1 and self.batch_size > 1:
            raise OctoscopeError(
                f"{self.cache.table.root}: only one scan to train on; give more scans"
            )
        weights = None
        if self.balance == "sampler":
            weights = class_weights(self.targets[rows], len(self.classes))[self.targets[rows]]
        return self._batches(rows, shuffle=True, weights=weights, augment=self.augment)

    def val_dataloader(self) -> Batches:
        """Return the validation split in the order of the table, as it is."""
        return self._batches(self.rows("val"))

    def test_dataloader(self) -> Batches:
        """Return the test split in the order of the table, as it is.

        Raises:
            OctoscopeError: Unless it was asked for with ``open_test=True``.
        """
        if not self.open_test:
            raise OctoscopeError(
                "the test split is opened on purpose only; use `octoscope evaluate --split test`, "
                "which records it (or ScanData(..., open_test=True))"
            )
        return self._batches(self.rows("test"))

    def _batches(
        self,
        rows: np.ndarray,
        *,
        shuffle: bool = False,
        weights: np.ndarray | None = None,
        augment: Augment | None = None,
    ) -> Batches:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        return Batches(
            self.cache.images,
            self.targets,
            rows,
            batch_size=self.batch_size,
            shuffle=shuffle,
            seed=self.seed,
            weights=weights,
            augment=augment,
            device=self._where(),
            rank=torch.distributed.get_rank() if distributed else 0,
            world=torch.distributed.get_world_size() if distributed else 1,
        )

    def _where(self) -> torch.device:
        """Return the device that batches are made on."""
        if self.device is not None:
            return torch.device(self.device)
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
