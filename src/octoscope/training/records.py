"""recipe.json and run.json: what a run was asked to do, what it did, and whether it is over."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from octoscope.data.cache import ScanCache
from octoscope.errors import OctoscopeError
from octoscope.files import read_json, write_json
from octoscope.models.classifier import Classifier
from octoscope.models.network import count_parameters
from octoscope.scans.splits import overlapping_patients
from octoscope.training.checkpoints import (
    BEST,
    LAST,
    RECORD,
    load_checkpoint,
    load_own_checkpoint,
    origin_of,
    require_same_recipe,
    require_same_scans,
)
from octoscope.training.compute import Compute
from octoscope.training.keeper import EpochKeeper
from octoscope.training.logbook import write_log
from octoscope.training.optimisers import head_parameters
from octoscope.training.recipe import Recipe
from octoscope.training.saved import MODEL_FILES, model_is_there, require_own_model, sha256_of

PACKAGES = ("octoscope", "torch", "timm", "lightning", "numpy")
OUTCOME: dict[str, type | tuple[type, ...]] = {
    "best_epoch": int,
    "best_value": (int, float),
    "epochs_run": int,
    "seconds": (int, float),
}
"""What run.json says of a finished run, and of which type it is."""

Place = Literal["nothing", "begun", "finished"]


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


def what_is_there(run: Path, recipe: Recipe, cache_digest: str) -> Place:
    """Say how far a run is, and refuse to take that of another recipe or other scans for it.

    Nothing is written. A record that is missing or damaged is no reason to lose a training: what
    the checkpoints say of their own making counts then.

    Raises:
        OctoscopeError: If the folder holds, begun or finished, the run of another recipe or of
            other scans, a damaged checkpoint, or a model that this run did not train.
    """
    record = _whole(run / "run.json")
    recorded = record.get("recipe") or _whole(run / "recipe.json")
    if record and recorded:
        finished = record.get("finished") is True and _has_outcome(record)
        if finished or (run / LAST).exists():
            require_same_recipe(run, recorded, recipe.to_dict())
            require_same_scans(run, record.get("cache_digest"), cache_digest)
        if finished and model_is_there(run):
            require_own_model(run, record)
            return "finished"
    if not (run / LAST).exists():
        return "nothing"
    origin = origin_of(recipe, cache_digest)
    load_own_checkpoint(run, LAST, origin)
    load_own_checkpoint(run, BEST, origin)
    return "begun"


def scans_of(run: Path) -> str | None:
    """Return the digest of the scans that a run was trained on, None if nothing was trained there.

    Raises:
        OctoscopeError: If it lies in a checkpoint that is damaged.
    """
    record = _whole(run / "run.json")
    trained = record.get("finished") is True and (run / "model").is_dir()
    digest = record.get("cache_digest")
    if isinstance(digest, str) and (trained or (run / LAST).exists()):
        return digest
    if not (run / LAST).exists():
        return None
    origin = load_checkpoint(run / LAST)["callbacks"][RECORD].get("origin")
    return str(origin.get("cache")) if isinstance(origin, dict) else "unknown"


def finished_run(run: Path, recipe: Recipe, cache: ScanCache) -> TrainResult | None:
    """Return the result of `run` if it is over, None if there is something left to do.

    Raises:
        OctoscopeError: As `what_is_there` does.
    """
    if what_is_there(run, recipe, cache.digest) != "finished":
        return None
    record = read_json(run / "run.json")
    _mend(run, record, recipe, cache)
    outcome = {name: record[name] for name in OUTCOME}
    return TrainResult(run, str(record.get("monitor", recipe.monitor)), **outcome)


def _mend(run: Path, record: Mapping[str, Any], recipe: Recipe, cache: ScanCache) -> None:
    """Write anew what follows from the rest of a finished run, where it is gone or damaged."""
    recorded = record.get("recipe")
    if recorded and _whole(run / "recipe.json") != recorded:
        write_json(run / "recipe.json", recorded)
    log = record.get("log_sha256")
    if log and sha256_of(run / "log.csv") != log and (run / LAST).exists():
        origin = origin_of(recipe, cache.digest)
        rows = load_own_checkpoint(run, LAST, origin)["callbacks"][RECORD]["rows"]
        write_log(run / "log.csv", rows, cache.table.classes)


def _whole(path: Path) -> dict[str, Any]:
    """Return a JSON object, an empty one if the file is missing, damaged or something else."""
    try:
        content = read_json(path)
    except (OctoscopeError, OSError):
        return {}
    return content if isinstance(content, dict) else {}


def _has_outcome(record: Mapping[str, Any]) -> bool:
    return all(isinstance(record.get(name), kind) for name, kind in OUTCOME.items())


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
            "recipe": recipe.to_dict(),
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
    made = {
        "log_sha256": sha256_of(run / "log.csv"),
        "model_files": {name: sha256_of(run / "model" / name) for name in MODEL_FILES},
    }
    record = {**read_json(run / "run.json"), **outcome, **made, "finished": True}
    write_json(run / "run.json", record)
    return TrainResult(run, keeper.recipe.monitor, **outcome)


def _device_name(device: str) -> str:
    """Return the kind of device, with its name where PyTorch knows one."""
    if device == "cuda":
        return f"cuda ({torch.cuda.get_device_name()})"
    name = torch.cpu.get_capabilities().get("cpu_name") if device == "cpu" else None
    return f"{device} ({name})" if name else device
