"""A live bar over the steps of a run, on terminals only; logs get one line per epoch."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from octoscope.progress import console, quiet

SECONDS_BETWEEN_UPDATES = 0.3


class StepBar(Callback):
    """Shows how far a run is, without costing it anything that can be measured."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self._bar: Progress | None = None
        self._next = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar."""
        if quiet() or not console.is_terminal:
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bar = Progress(
            *columns, TimeRemainingColumn(), console=console, transient=True, auto_refresh=False
        )
        total = self.epochs * int(trainer.num_training_batches)
        self._bar.add_task("training", total=total, completed=trainer.global_step)
        self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move it on, a few times a second."""
        now = time.monotonic()
        if self._bar is not None and now >= self._next:
            self._next = now + SECONDS_BETWEEN_UPDATES
            description = f"epoch {trainer.current_epoch + 1}/{self.epochs}"
            self._bar.update(
                self._bar.task_ids[0], completed=trainer.global_step, description=description
            )
            self._bar.refresh()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take it away."""
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Take it away, so that what is printed next stands on a line of its own."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
