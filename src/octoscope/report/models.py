"""The models: what was asked of them, and how they learned."""

from __future__ import annotations

from typing import Any

from octoscope.report.figures.curves import learning_curves
from octoscope.report.files import RunFiles, StudyFiles
from octoscope.report.html import svg_uri

ASKED = (
    "pretrained", "in_channels", "epochs", "batch_size", "optimizer", "lr", "weight_decay",
    "schedule", "balance", "label_smoothing", "average", "patience", "augment",
)  # fmt: skip
"""Fields of the recipe that get a row; the rest stands in the provenance."""


def models_section(study: StudyFiles) -> dict[str, Any]:
    """Return what the template shows of recipes, runs and learning curves."""
    models = study.models
    recipes = [runs[0].recipe for runs in models.values()]
    fields = [name for name in ASKED if any(name in recipe for recipe in recipes)]
    chance = 1 / len(study.classes) if study.classes else None
    return {
        "names": list(models),
        "recipe": [
            (name.replace("_", " "), [_said(recipe.get(name)) for recipe in recipes])
            for name in fields
        ],
        "options": [_said(recipe.get("model_options") or "–") for recipe in recipes],
        "runs": [_run(run) for runs in models.values() for run in runs],
        "curves": [
            {"model": model, "seeds": len(runs), "figure": _curves(runs, chance)}
            for model, runs in models.items()
            if any(run.log is not None for run in runs)
        ],
        "unfinished": study.unfinished,
    }


def _run(run: RunFiles) -> dict[str, Any]:
    """Return one row of the table of runs; what the file does not say is None."""
    names = (
        "parameters", "trainable_parameters", "best_epoch", "epochs_run", "best_value", "monitor",
        "seconds", "precision", "device",
    )  # fmt: skip
    row = {name: run.info.get(name) for name in names}
    epochs = row["epochs_run"]
    row["seconds_per_epoch"] = row["seconds"] / epochs if row["seconds"] and epochs else None
    return {"model": run.model, "seed": run.seed, **row}


def _curves(runs: list[RunFiles], chance: float | None) -> str:
    shown = [run for run in runs if run.log is not None]
    logs = [run.log for run in shown if run.log is not None]
    return svg_uri(learning_curves(logs, [run.info.get("best_epoch") for run in shown], chance))


def _said(value: Any) -> str:
    """Return a recipe's value in words."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
