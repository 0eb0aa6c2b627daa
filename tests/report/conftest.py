"""A study folder that no training has seen: real phantoms, caches and stores, drawn numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from octoscope.attribution.store import MapStore
from octoscope.data.cache import ScanCache
from octoscope.evaluation.evaluate import evaluate
from octoscope.evaluation.ledger import open_test_split
from octoscope.evaluation.predictions import predictions_frame, save_predictions
from octoscope.files import write_json
from octoscope.scans.audit import audit
from octoscope.scans.framing import Framing
from octoscope.scans.phantom import write_study
from octoscope.scans.table import SPLITS, ScanTable
from octoscope.trust.lesions import score_localisation
from octoscope.trust.scores import save_scores

METHODS = ("gradcam", "gradcam++", "hirescam", "layercam")
ABOUT_METHODS = {
    "gradcam": {"title": "Grad-CAM", "paper": "Selvaraju et al.", "sentence": "Weighted channels."},
    "hirescam": {"title": "HiResCAM", "paper": "Draelos & Carin", "sentence": "Adds to the logit."},
}
GRID = (8, 12)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> ScanTable:
    """Forty-eight phantoms of twenty-four patients, two thirds of them for validation and test."""
    out = tmp_path_factory.mktemp("phantoms") / "study"
    table = write_study(out, patients=24, scans_per_patient=2, height=128, width=192, workers=1)
    return evenly_split(table)


def evenly_split(table: ScanTable) -> ScanTable:
    """Deal the patients of every class to training, validation and test in turn."""
    first = table.frame.groupby("patient")["label"].first().sort_values()
    turn = first.groupby(first).cumcount() % 3
    return table.noting(split=table.frame["patient"].map(turn).map(dict(enumerate(SPLITS))))


@pytest.fixture(scope="session")
def make_study(phantoms: ScanTable) -> Callable[..., Path]:
    """Return `write_fake_study` on the phantoms, which are audited once."""
    found = audit(phantoms, permutations=50).to_dict()
    return lambda out, **options: write_fake_study(out, phantoms, found, **options)


def write_fake_study(
    out: Path,
    table: ScanTable,
    audited: dict[str, Any],
    *,
    models: Sequence[str] = ("resnet10t", "vit_tiny"),
    seeds: Sequence[int] = (0,),
    masks: bool = True,
    maps: bool = True,
    tests: int = 0,
    notes: Sequence[str] = ("read as Kermany file names",),
    rename: dict[str, str] | None = None,
    name: str = "demo",
) -> Path:
    """Write a study folder as `octoscope study` leaves it.

    The maps of the first model lie on the lesions, those of the others anywhere.
    """
    if not masks:
        table = table.noting(mask=[None] * len(table))
    cache = ScanCache.build(table, Framing(height=128, width=192), out / "cache", workers=1)
    if rename:
        table = renamed(table, rename)
        cache = ScanCache.build(table, cache.framing, out / "cache", workers=1)
    config = {
        "name": name,
        "out": "/home/somebody/studies/demo",
        "data": None,
        "phantom": {"patients": 12},
        "models": [{"model": model} for model in models],
        "seeds": list(seeds),
        "explain": {"methods": list(METHODS), "panels": 2},
    }
    about = {
        "root": str(table.root),
        "layout": "kermany",
        "classes": table.classes,
        "notes": notes,
        "table_digest": table.digest(),
        "config": config,
        "provenance": {
            "octoscope": "0.1.0", "source": "abc123+changes", "python": "3.11",
            "packages": {"torch": "2.15"}, "machine": {"system": "Linux", "cores": 2},
        },
    }  # fmt: skip
    write_json(out / "study.json", about)
    write_json(out / "methods.json", ABOUT_METHODS)
    table.save(out / "table.parquet")
    write_json(out / "audit.json", audited)
    for place, model in enumerate(models):
        for seed in seeds:
            run = out / "runs" / f"{model}-seed{seed}"
            write_run(run, cache, model, seed, skill=2.0 - place, maps=maps, on_lesions=place == 0)
            for opening in range(tests):
                open_test_split(run, why=f"final numbers, look {opening + 1}")
            if tests:
                write_split(run, cache, "test", model, seed, 2.0 - place)
    return out


def renamed(table: ScanTable, names: dict[str, str]) -> ScanTable:
    """Return a table whose classes have other names."""
    labels = table.frame["label"].map(lambda label: names.get(label, label))
    classes = tuple(names.get(name, name) for name in table.classes)
    frame = table.frame.assign(label=labels)
    return ScanTable.from_frame(frame, table.root, classes=classes, lesions=table.lesions)


def write_run(
    run: Path,
    cache: ScanCache,
    model: str,
    seed: int,
    *,
    skill: float,
    maps: bool,
    on_lesions: bool,
) -> None:
    """Write one run: what training, evaluation and explanation leave."""
    (run / "model").mkdir(parents=True)
    (run / "model" / "weights.safetensors").write_bytes(model.encode())
    epochs = 6
    info = {
        "model": model, "seed": seed, "parameters": 4_900_000, "trainable_parameters": 4_900_000,
        "best_epoch": 5, "best_value": 0.9, "monitor": "val_balanced_accuracy",
        "epochs_run": epochs, "precision": "bf16", "channels_last": True, "device": "cpu (x)",
        "seconds": 31.0, "versions": {"torch": "2.15"}, "cache_digest": cache.digest,
        "framing": cache.framing.to_dict(), "finished": True,
    }  # fmt: skip
    write_json(run / "run.json", info)
    recipe = {"model": model, "epochs": epochs, "lr": 1e-3, "optimizer": "adamw", "augment": True}
    write_json(run / "recipe.json", {**recipe, "model_options": {}, "patience": None})
    epoch = np.arange(1, epochs + 1)
    rise = 1 - np.exp(-epoch / 2) * 0.75
    log = {
        "epoch": epoch, "seconds": 5.0, "lr": 1e-3, "train_loss": 1.5 / epoch,
        "train_accuracy": rise, "val_loss": 1.6 / epoch + 0.1 * seed,
        "val_accuracy": rise - 0.05, "val_balanced_accuracy": rise - 0.06 - 0.02 * seed,
    }  # fmt: skip
    pd.DataFrame(log).to_csv(run / "log.csv", index=False)
    predictions = write_split(run, cache, "val", model, seed, skill)
    rows = np.flatnonzero((cache.table.frame["split"] == "val").to_numpy())
    write_json(run / "panels.json", panels(predictions, cache, rows))
    if maps:
        write_maps(run, cache, rows, predictions, model, seed, on_lesions)


def write_split(
    run: Path, cache: ScanCache, split: str, model: str, seed: int, skill: float
) -> pd.DataFrame:
    """Write predictions and metrics of one split, with logits that favour the truth by `skill`."""
    rows = np.flatnonzero((cache.table.frame["split"] == split).to_numpy())
    table = cache.table.rows(rows)
    generator = np.random.default_rng([seed, len(model), len(rows)])
    logits = generator.normal(size=(len(rows), len(table.classes)))
    logits[np.arange(len(rows)), table.targets] += skill
    predictions = predictions_frame(table, logits, classes=table.classes, model=model, seed=seed)
    save_predictions(predictions, run / f"predictions-{split}.parquet")
    metrics = evaluate(predictions, table.classes, resamples=100)
    write_json(run / f"metrics-{split}.json", metrics)
    return predictions


def panels(predictions: pd.DataFrame, cache: ScanCache, rows: np.ndarray) -> list[dict[str, Any]]:
    """Return the first two scans of every class."""
    out = []
    for label in cache.table.classes:
        for place in np.flatnonzero((predictions["label"] == label).to_numpy())[:2]:
            entry = predictions.iloc[place]
            probabilities = {c: float(entry[f"probability_{c}"]) for c in cache.table.classes}
            out.append(
                {
                    "row": int(rows[place]), "scan": entry["scan"], "label": label,
                    "predicted": entry["predicted"], "probabilities": probabilities,
                    "reason": "easiest of its class",
                }
            )  # fmt: skip
    return out


def write_maps(
    run: Path,
    cache: ScanCache,
    rows: np.ndarray,
    predictions: pd.DataFrame,
    model: str,
    seed: int,
    on_lesions: bool,
) -> None:
    """Write maps of every method and, where there are masks, their scores."""
    store = MapStore.create(run / "maps.zarr", len(cache), about={"model": model})
    generator = np.random.default_rng(seed)
    height, width = cache.images.shape[1:]
    coarse = (len(rows), GRID[0], height // GRID[0], GRID[1], width // GRID[1])
    lesion = np.zeros((len(rows), *GRID))
    if cache.masks is not None and on_lesions:
        lesion = (np.asarray(cache.masks[rows]) > 0).reshape(coarse).mean(axis=(2, 4))
    targets = np.array([cache.table.classes.index(name) for name in predictions["predicted"]])
    full = {}
    for method in METHODS:
        signed = method == "hirescam"
        native = generator.normal(size=(len(rows), *GRID)) * 0.3 + 2 * lesion
        native = native if signed else np.maximum(native, 0)
        if method == "gradcam++":
            native[0] = 0
        native = native.astype(np.float32)
        flags = {
            "all_zero": ~native.any(axis=(1, 2)),
            "nonfinite": np.zeros(len(rows)),
            "clipped_fraction": np.full(len(rows), 0.95 if method == "layercam" else 0.4),
        }
        store.write(rows, method, native, targets, flags)
        full[method] = torch.nn.functional.interpolate(
            torch.from_numpy(native)[:, None], size=(height, width), mode="bilinear"
        )[:, 0]
    if cache.masks is None:
        return
    table = cache.table.rows(rows)
    scores = score_localisation(
        full,
        np.asarray(cache.masks[rows]),
        scans=table.frame["path"].tolist(),
        patients=table.groups.tolist(),
        labels=table.frame["label"].tolist(),
        model=model,
        seed=seed,
        lesions=table.lesions,
    )
    save_scores(scores, run / "scores.parquet")
    write_json(run / "localisation.json", {"scored": len(rows), "left_out_as_wrong": 3})
