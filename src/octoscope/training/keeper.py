"""What happens between epochs: numbers out, checkpoints kept, stopping early."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from octoscope.errors import OctoscopeError
from octoscope.files import atomic_path
from octoscope.progress import console, quiet
from octoscope.training.checkpoints import (
    BEST,
    LAST,
    RECORD,
    load_own_checkpoint,
    require_fitting,
)
from octoscope.training.logbook import Row, TrackerLog, write_log
from octoscope.training.recipe import Recipe


class EpochKeeper(Callback):
    """Keeps the record of a run and decides which epoch is best.

    The whole record travels in the checkpoint and log.csv is written from it, so a resumed run
    neither repeats nor misses a line.

    Attributes:
        origin: What the run is made by, see `octoscope.training.checkpoints.origin_of`.
        rows: One `Row` per finished epoch.
        best: Position of the best one in `rows`, -1 before the first.
        stopped: Whether patience has run out.
        begun: Whether training has begun: a checkpoint to go on from has been taken up by then.
    """

    def __init__(
        self,
        run: Path,
        recipe: Recipe,
        classes: tuple[str, ...],
        tracker: TrackerLog | None,
        origin: dict[str, Any],
    ) -> None:
        self.run, self.recipe, self.classes, self.tracker = run, recipe, classes, tracker
        self.origin = origin
        self.rows: list[Row] = []
        self.best = -1
        self.stopped = self.begun = False
        self._started = 0.0

    @property
    def state_key(self) -> str:
        """Return the name under which Lightning keeps the record."""
        return RECORD

    @property
    def over(self) -> bool:
        """Whether there is nothing left to train."""
        return self.stopped or len(self.rows) >= self.recipe.epochs

    def state_dict(self) -> dict[str, Any]:
        """Return the record for the checkpoint."""
        record = {"rows": self.rows, "best": self.best, "stopped": self.stopped}
        return {**record, "origin": self.origin}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the record of a checkpoint."""
        self.rows = list(state_dict["rows"])
        self.best, self.stopped = state_dict["best"], state_dict["stopped"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that whatever fails from here on is not the checkpoint's fault."""
        self.begun = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close an epoch: judge it, save, log, say it, stop if patience is out."""
        row = self._row(pl_module)
        self.rows.append(row)
        improved = self.best < 0 or self._rank(row) > self._rank(self.rows[self.best])
        if improved:
            self.best = len(self.rows) - 1
        patience = self.recipe.patience
        self.stopped = patience is not None and len(self.rows) - 1 - self.best >= patience
        self._save(trainer, improved)
        self.write_log()
        if self.tracker is not None:
            self.tracker.log_metrics(row, step=int(row["epoch"]))
        if not quiet():
            console.print(self._sentence(row, improved), highlight=False, soft_wrap=True)
        trainer.should_stop = trainer.should_stop or self.stopped

    def write_log(self) -> None:
        """Write log.csv from the record."""
        write_log(self.run / "log.csv", self.rows, self.classes)

    def _row(self, task: Any) -> Row:
        """Return the numbers of the epoch that has just ended.

        Raises:
            OctoscopeError: If the loss is no longer a number.
        """
        epoch = len(self.rows) + 1
        train, val = task.training_tally.scores(), task.validation_tally.scores()
        if not math.isfinite(train["loss"]):
            raise OctoscopeError(
                f"{self.run}: the training loss is no longer finite in epoch {epoch}; use a "
                "smaller lr, a longer warm-up, clip_gradient or precision fp32"
            )
        return {
            "epoch": epoch,
            "seconds": time.perf_counter() - self._started,
            "lr": task.optimizers().param_groups[0]["lr"],
            "train_loss": train["loss"],
            "train_accuracy": train["accuracy"],
            "val_loss": val["loss"],
            "val_accuracy": val["accuracy"],
            "val_balanced_accuracy": val["balanced_accuracy"],
            **{f"val_accuracy_{name}": val[str(k)] for k, name in enumerate(self.classes)},
        }

    def _rank(self, row: Row) -> tuple[float, float]:
        """Return what a better epoch has more of; the first of equals wins."""
        value = row[self.recipe.monitor]
        return (-value if self.recipe.monitor == "val_loss" else value), -row["val_loss"]

    def _save(self, trainer: Trainer, improved: bool) -> None:
        """Write last.ckpt, and let best.ckpt be the same file if this epoch is the best so far.

        best.ckpt comes first: killed in between, the run resumes from the epoch before and
        makes the same best.ckpt again.
        """
        with atomic_path(self.run / LAST) as temporary:
            trainer.save_checkpoint(temporary)
            if improved:
                with atomic_path(self.run / BEST) as link:
                    link.unlink()
                    _link_or_copy(temporary, link)

    def _sentence(self, row: Row, improved: bool) -> str:
        best = self.rows[self.best]
        mark = "  best so far" if improved else f"  (best {best['epoch']:.0f})"
        return (
            f"epoch {row['epoch']:>3.0f}/{self.recipe.epochs}  {row['seconds']:5.1f} s  "
            f"train loss {row['train_loss']:.3f}  val loss {row['val_loss']:.3f}  "
            f"balanced accuracy {row['val_balanced_accuracy']:.3f}{mark}"
        )


def read_keeper_state(run: Path, origin: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record in last.ckpt, None if no epoch of this run was finished.

    Raises:
        OctoscopeError: If the file cannot be read, or is of another recipe or other scans.
    """
    if not (run / LAST).exists():
        return None
    record: dict[str, Any] = load_own_checkpoint(run, LAST, origin)["callbacks"][RECORD]
    return record


def best_weights(
    keeper: EpochKeeper, prefix: str, wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the weights of the best epoch, from best.ckpt.

    Args:
        keeper: The record of a run that is over.
        prefix: What stands before the names of the weights that are kept.
        wanted: Name → tensor of the network that takes them.

    Raises:
        OctoscopeError: If best.ckpt is damaged, or is not of the epoch that the record calls best.
    """
    path = keeper.run / BEST
    kept = load_own_checkpoint(keeper.run, BEST, keeper.origin)
    if len(kept["callbacks"][RECORD]["rows"]) - 1 != keeper.best:
        raise OctoscopeError(
            f"{path}: is not of epoch {keeper.best + 1}, the best of this run; delete the folder "
            f"{path.parent} to train anew"
        )
    weights = {
        key.removeprefix(prefix): value
        for key, value in kept["state_dict"].items()
        if key.startswith(prefix)
    }
    require_fitting(path, weights, wanted)
    return weights


@contextmanager
def explained_resuming(path: Path, keeper: EpochKeeper) -> Iterator[Path | None]:
    """Give the checkpoint to go on from, None if there is none; say so if it cannot be continued.

    Raises:
        OctoscopeError: If Lightning fails before training has begun.
    """
    checkpoint = path if path.exists() else None
    try:
        yield checkpoint
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        if checkpoint is None or keeper.begun:
            raise
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise OctoscopeError(
            f"{path}: cannot be continued ({said[0][:120]}); delete the folder {path.parent} to "
            "train anew"
        ) from error


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
