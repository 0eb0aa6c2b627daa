"""Where the numbers of a run go: ``log.csv`` always, an experiment tracker if asked."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from octoscope.errors import OctoscopeError
from octoscope.files import atomic_path
from octoscope.training.recipe import Recipe

Row = dict[str, float]


def columns_of(classes: Sequence[str]) -> list[str]:
    """Return the columns of log.csv; accuracies lie in [0, 1], `lr` is the epoch's last."""
    return [
        *("epoch", "seconds", "lr", "train_loss", "train_accuracy"),
        *("val_loss", "val_accuracy", "val_balanced_accuracy"),
        *(f"val_accuracy_{name}" for name in classes),
    ]


def write_log(path: Path, rows: Sequence[Row], classes: Sequence[str]) -> None:
    """Write all rows so far, atomically: a reader sees whole epochs only, each of them once."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns_of(classes))
        writer.writeheader()
        writer.writerows({k: _text(v) for k, v in row.items()} for row in rows)


def _text(value: float) -> str:
    """Return a number with 7 digits; NaN (a class without scans) is an empty cell."""
    return "" if value != value else f"{value:.7g}"


class TrackerLog(Protocol):
    """What we ask of an experiment tracker."""

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Record the recipe."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record one epoch."""

    def finalize(self, status: str) -> None:
        """Close the record."""


def open_tracker(recipe: Recipe, run: Path) -> TrackerLog | None:
    """Return the tracker that a recipe names, None if log.csv is enough.

    All are local unless their own environment variables say otherwise
    (``MLFLOW_TRACKING_URI``, ``WANDB_API_KEY``).

    Raises:
        OctoscopeError: If its package is not installed.
    """
    if recipe.tracker == "csv":
        return None
    from lightning.pytorch import loggers

    try:
        match recipe.tracker:
            case "tensorboard":
                tracker: Any = loggers.TensorBoardLogger(run, name="tensorboard", version="")
            case "mlflow":
                address = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{run / 'mlflow.db'}")
                tracker = loggers.MLFlowLogger("octoscope", run.name, tracking_uri=address)
            case "wandb":
                offline = "WANDB_API_KEY" not in os.environ
                tracker = loggers.WandbLogger(
                    run.name, run, project="octoscope", offline=offline, id=run.name
                )
        tracker.log_hyperparams(recipe.to_dict())
    except ModuleNotFoundError as error:
        raise OctoscopeError(
            f"tracker {recipe.tracker} is not installed ({error.name or error}); run "
            'pip install "octoscope[tracking]" or use tracker "csv"'
        ) from None
    return tracker
