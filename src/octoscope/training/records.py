"""recipe.json and run.json: what a run was asked to do, what it did, and whether it is over."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from octoscope.data.cache import ScanCache
from octoscope.errors import OctoscopeError
from octoscope.files import read_json, write_json
from octoscope.models.classifier import Classifier
from octoscope.models.network import count_parameters
from octoscope.scans.splits import overlapping_patients
from octoscope.training.compute import Compute
from octoscope.training.keeper import LAST, EpochKeeper
from octoscope.training.optimisers import head_parameters
from octoscope.training.recipe import Recipe

PACKAGES = ("octoscope", "torch", "timm", "lightning", "numpy")
INDIFFERENT = ("tracker",)
"""Fields of a recipe that may differ between calls: they change where numbers go, not which."""


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        run: Its folder.
        monitor: What chose the best epoch.
        best_epoch: That epoch, counted from 1.
        best_value: The monitored value there.
        epochs_run: Epochs that were trained.
        seconds: Time of all epochs together.
    """

    run: Path
    monitor: str
    best_epoch: int
    best_value: float
    epochs_run: int
    seconds: float

    def classifier(self) -> Classifier:
        """Load the classifier of the best epoch."""
        return Classifier.load(self.run / "model")


def finished_run(run: Path, recipe: Recipe, cache: ScanCache) -> TrainResult | None:
    """Return the result of `run` if it is over, None if there is something left to do.

    Raises:
        OctoscopeError: If the folder holds, begun or finished, the run of another recipe or of
            other scans.
    """
    if not (run / "run.json").exists() or not (run / "recipe.json").exists():
        return None
    record = read_json(run / "run.json")
    if not record["finished"] and not (run / LAST).exists():
        return None  # nothing there that could be lost
    _require_same_recipe(run, read_json(run / "recipe.json"), recipe.to_dict())
    if record["cache_digest"] != cache.digest:
        raise OctoscopeError(
            f"{run}: was trained on other scans, labels, splits or framing than are given now; "
            "choose another folder, or delete this one to train anew"
        )
    if not record["finished"]:
        return None
    return TrainResult(
        run,
        record["monitor"],
        record["best_epoch"],
        record["best_value"],
        record["epochs_run"],
        record["seconds"],
    )


def begin_run(
    run: Path, recipe: Recipe, cache: ScanCache, compute: Compute, classifier: Classifier
) -> None:
    """Write recipe.json and the part of run.json that is known before training."""
    parameters, _ = count_parameters(classifier.network)
    head = sum(parameter.numel() for parameter in head_parameters(classifier.network))
    write_json(run / "recipe.json", recipe.to_dict())
    write_json(
        run / "run.json",
        {
            "model": recipe.model,
            "seed": recipe.seed,
            "parameters": parameters,
            "trainable_parameters": parameters if recipe.freeze_epochs < recipe.epochs else head,
            "monitor": recipe.monitor,
            "classes": cache.table.classes,
            "preprocess": classifier.preprocess.to_dict(),
            "overlapping_patients": len(overlapping_patients(cache.table)),
            "cache_digest": cache.digest,
            "device": _device_name(compute.device),
            "precision": compute.precision,
            "channels_last": compute.channels_last,
            "threads": torch.get_num_threads(),
            "versions": {
                "python": platform.python_version(),
                **{package: version(package) for package in PACKAGES},
            },
            "finished": False,
        },
    )


def end_run(run: Path, keeper: EpochKeeper) -> TrainResult:
    """Complete run.json and return the result."""
    best = keeper.rows[keeper.best]
    outcome: dict[str, Any] = {
        "best_epoch": int(best["epoch"]),
        "best_value": best[keeper.recipe.monitor],
        "epochs_run": len(keeper.rows),
        "seconds": sum(row["seconds"] for row in keeper.rows),
    }
    write_json(run / "run.json", {**read_json(run / "run.json"), **outcome, "finished": True})
    return TrainResult(run, keeper.recipe.monitor, **outcome)


def _require_same_recipe(run: Path, there: dict[str, Any], asked: dict[str, Any]) -> None:
    for name in {**there, **asked}:
        if name not in INDIFFERENT and there.get(name) != asked.get(name):
            raise OctoscopeError(
                f"{run}: holds a run with {name} {there.get(name)!r}, but {asked.get(name)!r} is "
                "asked for; choose another folder, or delete this one to train anew"
            )


def _device_name(device: str) -> str:
    """Return the kind of device, with its name where PyTorch knows one."""
    if device == "cuda":
        return f"cuda ({torch.cuda.get_device_name()})"
    name = torch.cpu.get_capabilities().get("cpu_name") if device == "cpu" else None
    return f"{device} ({name})" if name else device
