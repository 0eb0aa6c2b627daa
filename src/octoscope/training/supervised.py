"""Supervised training of a classifier, the whole recipe in one place.

    cache  = ScanCache.build(table, framing, folder)
    result = train(cache, Recipe(model="resnet18", epochs=30, seed=0), run=Path("runs/resnet18"))

One call is one network from one seed. Everything random follows from (seed, epoch, step), and a
checkpoint is written after every epoch, so a run that was killed goes on with the same call and
ends, on the CPU, in the same bits as one that was not. The test split is not touched.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerStatus
from torch import Tensor, nn

from octoscope.data.augment import Augment
from octoscope.data.cache import ScanCache
from octoscope.data.datamodule import ScanData
from octoscope.data.lock import exclusive
from octoscope.errors import OctoscopeError
from octoscope.models.classifier import Classifier
from octoscope.models.network import build_network
from octoscope.models.preprocess import Preprocess
from octoscope.progress import console, quiet
from octoscope.scans.splits import require_no_overlap
from octoscope.training.averaging import MovingAverage
from octoscope.training.bar import StepBar
from octoscope.training.checkpoints import LAST, LOCK, origin_of
from octoscope.training.compute import Compute, build_trainer
from octoscope.training.keeper import (
    EpochKeeper,
    best_weights,
    explained_resuming,
    read_keeper_state,
)
from octoscope.training.logbook import open_tracker
from octoscope.training.optimisers import build_optimiser, freeze_backbone, unfreeze
from octoscope.training.quiet import quiet_lightning
from octoscope.training.recipe import Recipe
from octoscope.training.records import TrainResult, begin_run, end_run, finished_run
from octoscope.training.schedules import learning_rate_factor
from octoscope.training.tally import Tally

__all__ = ["Recipe", "SupervisedTask", "TrainResult", "train"]

DROPOUT = 2
"""Which stream of random numbers; those of `octoscope.data.sampling` are 0 and 1."""


class SupervisedTask(LightningModule):
    """What happens at each step; Lightning owns the loop.

    Attributes:
        classifier: The network that learns.
        average: Its moving average, if the recipe asks for one.
        training_tally, validation_tally: Sums over the epoch in progress.
    """

    training_tally: Tally
    validation_tally: Tally
    loss_weights: Tensor

    def __init__(
        self, classifier: Classifier, recipe: Recipe, steps_per_epoch: int, loss_weights: Tensor
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.average = MovingAverage(classifier, recipe.average) if recipe.average else None
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch
        self.register_buffer("loss_weights", loss_weights, persistent=False)  # (K,)

    @property
    def evaluated(self) -> nn.Module:
        """The classifier that is validated and kept."""
        return self.classifier if self.average is None else self.average.model

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser; its learning rates are set at every step."""
        return build_optimiser(self.classifier.network, self.recipe, self.device)

    def on_train_epoch_start(self) -> None:
        """Derive the epoch's randomness from its number, and freeze or thaw the backbone."""
        torch.manual_seed(epoch_seed(self.recipe.seed, self.current_epoch))
        unfreeze(self.classifier.network)
        if self.current_epoch < self.recipe.freeze_epochs:
            freeze_backbone(self.classifier.network)
        self.training_tally = Tally(len(self.classifier.classes), self.device)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rates of this step."""
        factor = learning_rate_factor(self.recipe, self.global_step, self.steps_per_epoch)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["initial_lr"] * factor

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of one batch: image ``(B, 1, H, W)`` in [0, 1], target ``(B,)``."""
        logits = self.classifier(batch["image"]).float()  # (B, K)
        loss = F.cross_entropy(
            logits,
            batch["target"],
            weight=self.loss_weights,
            label_smoothing=self.recipe.label_smoothing,
        )
        self.training_tally.add(logits, batch["target"], loss)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Let the moving average follow."""
        if self.average is not None:
            self.average.update(self.classifier, self.global_step - 1)

    def on_validation_epoch_start(self) -> None:
        """Start counting anew."""
        self.validation_tally = Tally(len(self.classifier.classes), self.device)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Count one batch, in float32 as the evaluation does, so that both give one number."""
        with torch.autocast(self.device.type, enabled=False):
            logits = self.evaluated(batch["image"])
            loss = F.cross_entropy(logits, batch["target"])
        self.validation_tally.add(logits, batch["target"], loss)


def train(
    cache: ScanCache, recipe: Recipe, run: Path, *, allow_overlap: bool = False
) -> TrainResult:
    """Train one network from one seed, or go on where an earlier call was stopped.

    Args:
        cache: Scans with splits; training uses train, every choice val, and nothing test.
        recipe: How.
        run: Folder of this run. It gets recipe.json, run.json, log.csv, checkpoints/last.ckpt
            and best.ckpt, and model/ with the `Classifier` of the best epoch.
        allow_overlap: Train although patients stand in several splits, which makes every score
            too good; run.json says so.

    Returns:
        The result; at once, if this run was finished before.

    Raises:
        PatientOverlapError: If a patient stands in more than one split.
        OctoscopeError: If the folder holds a run of another recipe or other scans or a damaged
            checkpoint, a class has no training scan, there is no validation split, or the loss
            diverges.
        KeyboardInterrupt: On Ctrl-C; the finished epochs are kept.
    """
    run = Path(run)
    if not allow_overlap:
        require_no_overlap(cache.table)
    if done := finished_run(run, recipe, cache):
        return done
    compute = Compute.choose(recipe)
    data = _data(cache, recipe)
    classifier = build_classifier(cache, recipe).to(memory_format=compute.memory_format)
    task = SupervisedTask(
        classifier, recipe, len(data.train_dataloader()), _loss_weights(data, recipe)
    )
    with exclusive(run / LOCK, f"training {run.name}"):
        if done := finished_run(run, recipe, cache):  # by the process that had the lock
            return done
        return _train(task, data, cache, run, compute)


def _train(
    task: SupervisedTask, data: ScanData, cache: ScanCache, run: Path, compute: Compute
) -> TrainResult:
    """Train, or finish, what is neither finished nor at work in another process."""
    recipe, classifier = task.recipe, task.classifier
    origin = origin_of(recipe, cache.digest)
    state = read_keeper_state(run, origin)
    begin_run(run, recipe, cache, compute, classifier)
    keeper = EpochKeeper(run, recipe, classifier.classes, open_tracker(recipe, run), origin)
    if state:
        keeper.load_state_dict(state)
        keeper.write_log()  # killed between the checkpoint and the log, it lacks a line
        _say(f"{run.name}: going on after epoch {len(keeper.rows)} of {recipe.epochs}")
    if not keeper.over:
        _fit(task, data, keeper, compute)
    prefix = "classifier." if task.average is None else "average.model."
    classifier.load_state_dict(best_weights(keeper, prefix, classifier.state_dict()))
    classifier.save(run / "model")
    return end_run(run, keeper)


def build_classifier(cache: ScanCache, recipe: Recipe) -> Classifier:
    """Build the untrained (or pretrained) classifier of a recipe for the classes of a cache."""
    size = (cache.framing.height, cache.framing.width)
    weights = None if recipe.weights is None else Path(recipe.weights)
    network = build_network(
        recipe.model,
        len(cache.table.classes),
        in_channels=recipe.in_channels,
        image_size=size,
        pretrained=recipe.pretrained,
        weights=weights,
        seed=recipe.seed,
        **recipe.model_options,
    )
    if recipe.pretrained or weights:
        preprocess = Preprocess.of_pretrained(cache.framing, recipe.in_channels, network)
    else:
        rows = np.flatnonzero((cache.table.frame["split"] == "train").to_numpy())
        preprocess = Preprocess.measured(cache.framing, recipe.in_channels, cache.images, rows)
    architecture = {
        "name": recipe.model,
        "in_channels": recipe.in_channels,
        "image_size": list(size),
        "options": dict(recipe.model_options),
    }
    return Classifier(network, cache.table.classes, preprocess, architecture)


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of what is random inside the network (dropout, stochastic depth)."""
    return int(np.random.SeedSequence([seed, epoch, DROPOUT]).generate_state(1)[0])


def _data(cache: ScanCache, recipe: Recipe) -> ScanData:
    """Return the batches of the recipe.

    Raises:
        OctoscopeError: If a class has no training scan or a split is missing.
    """
    augment: Augment | None = None
    if recipe.augment is not False:
        augment = Augment.from_dict({} if recipe.augment is True else recipe.augment)
    data = ScanData(
        cache,
        batch_size=recipe.batch_size,
        augment=augment,
        balance=recipe.balance,
        seed=recipe.seed,
    )
    data.rows("val")
    there = set(data.targets[data.rows("train")])
    if missing := [name for k, name in enumerate(data.classes) if k not in there]:
        raise OctoscopeError(
            f"{cache.table.root}: no training scan of class {', '.join(missing)}; add some, or "
            "take the class out of the table"
        )
    return data


def _loss_weights(data: ScanData, recipe: Recipe) -> Tensor:
    """Return the weight of each class in the loss ``(K,)``."""
    weights = data.class_weights
    return weights if recipe.balance == "loss" else torch.ones_like(weights)


def _fit(task: SupervisedTask, data: ScanData, keeper: EpochKeeper, compute: Compute) -> None:
    """Run Lightning from the last checkpoint, if there is one, to the end of training."""
    recipe, last = keeper.recipe, keeper.run / LAST
    devices = [torch.cuda.current_device()] if compute.device == "cuda" else []
    deterministic = torch.are_deterministic_algorithms_enabled()
    on_interrupt = signal.getsignal(signal.SIGINT)
    with quiet_lightning(), torch.random.fork_rng(devices):
        trainer = build_trainer(recipe, compute, keeper.run, [keeper, StepBar(recipe.epochs)])
        try:
            with explained_resuming(last, keeper) as checkpoint:
                trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:
            if trainer.state.status != TrainerStatus.INTERRUPTED:
                raise
            # Lightning swallows Ctrl-C, and all later ones: give both back.
            signal.signal(signal.SIGINT, on_interrupt)
            console.print(
                f"{keeper.run}: stopped after epoch {len(keeper.rows)} of {recipe.epochs}; the "
                "same command goes on from there",
                highlight=False,
            )
            raise KeyboardInterrupt from None
        finally:
            torch.use_deterministic_algorithms(deterministic)
            if keeper.tracker is not None:
                keeper.tracker.finalize("success" if keeper.over else "failed")


def _say(sentence: str) -> None:
    if not quiet():
        console.print(sentence, highlight=False)
