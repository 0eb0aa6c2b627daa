"""What the files of a finished study hold, and which of them there should be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from octoscope.evaluation.metrics import OVERALL, PER_CLASS
from octoscope.report.shape import (
    ANY,
    COUNT,
    COUNT_OR_NONE,
    EACH,
    FLAG,
    NONE,
    NUMBER,
    OBJECT,
    OBJECT_OR_NONE,
    SHARE,
    TEXT,
    TEXT_OR_NONE,
    Shape,
)

RATE = {"value": SHARE, "low": SHARE, "high": SHARE, "how?": TEXT_OR_NONE}
BIN = {
    "low": SHARE, "high": SHARE, "confidence": SHARE, "accuracy": SHARE, "accuracy_low": SHARE,
    "accuracy_high": SHARE, "count": COUNT,
}  # fmt: skip

STUDY: Shape = {
    "classes": [TEXT],
    "config": {
        "name?": TEXT_OR_NONE,
        "models?": [{"model?": TEXT}],
        "explain?": {"methods?": (TEXT_OR_NONE, [TEXT])},
        "trust?": {"run?": FLAG},
    },
    "notes?": [ANY],
    "root?": TEXT_OR_NONE,
    "provenance?": (NONE, {"machine?": OBJECT_OR_NONE, "packages?": OBJECT_OR_NONE}),
}
METHODS: Shape = {
    EACH: {"title?": TEXT, "paper?": TEXT, "sentence?": TEXT, "family?": TEXT, "signed?": FLAG}
}
BASELINE: Shape = (
    NONE,
    {
        "balanced_accuracy": (NONE, RATE),
        "chance?": SHARE,
        "by_class?": (NONE, {EACH: (NONE, RATE)}),
    },
)
AUDIT: Shape = {
    "findings": [{"level": TEXT, "sentence": TEXT}],
    "artefacts": [
        {
            "feature": TEXT, "effect_name": TEXT, "effect_size": NUMBER, "p_value": NUMBER,
            "level": TEXT, "class": TEXT_OR_NONE, "by_class?": (NONE, {EACH: OBJECT_OR_NONE}),
        }
    ],
    "overlaps": [{"patient": ANY, "splits": [ANY], "scans": COUNT}],
    "duplicates": {
        "across_splits": [ANY], "across_patients": [ANY], "across_labels": [ANY],
    },
    "unreadable": [{"path": TEXT, "reason": TEXT}],
    "blank": [TEXT],
    "permutations?": COUNT_OR_NONE,
    "metadata_baseline?": BASELINE,
    "frame_size_baseline?": BASELINE,
}  # fmt: skip
RUN: Shape = {
    "model": TEXT, "seed": COUNT, "finished?": FLAG, "parameters?": COUNT_OR_NONE,
    "trainable_parameters?": COUNT_OR_NONE, "best_epoch?": COUNT_OR_NONE,
    "epochs_run?": COUNT_OR_NONE, "best_value?": NUMBER, "seconds?": NUMBER,
    "monitor?": TEXT_OR_NONE, "precision?": TEXT_OR_NONE, "device?": TEXT_OR_NONE,
    "cache_digest?": TEXT_OR_NONE, "framing?": OBJECT,
}  # fmt: skip
RECIPE: Shape = OBJECT
METRICS: Shape = {
    "n_scans": COUNT,
    "n_patients": COUNT,
    "classes": [TEXT],
    "chance": {"balanced_accuracy": SHARE},
    "overall": dict.fromkeys(OVERALL, RATE),
    "per_class": {
        EACH: {**dict.fromkeys(PER_CLASS, RATE), "support": COUNT, "patients": COUNT},
    },
    "confusion": [[COUNT]],
    "calibration": {
        "ece": RATE, "reliability": [BIN], "temperature?": NUMBER, "temperature_source?": TEXT,
        "ece_after?": (NONE, RATE), "reliability_after?": (NONE, [BIN]),
    },
    "bootstrap": {"resamples": COUNT},
    "notes?": [TEXT],
}  # fmt: skip
PANELS: Shape = [
    {
        "row": COUNT, "scan": TEXT, "label?": TEXT_OR_NONE, "predicted": TEXT,
        "probabilities": {EACH: SHARE}, "reason?": TEXT_OR_NONE,
    }
]  # fmt: skip
LOCALISATION: Shape = {"scored?": COUNT, "left_out_as_wrong?": COUNT}
TRUST: Shape = OBJECT
"""Its blocks are read so that any of them may be missing (`trust_read`)."""

LOG_COLUMNS = ("epoch", "train_loss", "val_loss")
SCORE_COLUMNS = ("lesion",)

OF_STUDY = {
    "table.parquet": "the counts of scans and patients",
    "audit.json": "the audit",
    "methods.json": "the titles of methods",
}
OF_RUN = {
    "recipe.json": "its recipe",
    "log.csv": "its learning curves",
    "metrics-val.json": "its results",
    "predictions-val.parquet": "its ROC curves and comparisons",
    "panels.json": "the scans to show",
    "maps.zarr": "its maps",
}
OF_RUN_WITH_MASKS = {"scores.parquet": "its maps on lesions", "localisation.json": "counts"}
"""File → what the report lacks without it."""


def odd_metrics(said: dict[str, Any]) -> str:
    """Return in what the numbers of a metrics file contradict one another, '' if in nothing."""
    classes, table = said["classes"], said["confusion"]
    if len(table) != len(classes) or any(len(row) != len(classes) for row in table):
        return f"confusion is no table of {len(classes)} × {len(classes)}"
    if set(said["per_class"]) != set(classes):
        return "per_class is of other classes"
    if sum(map(sum, table)) != said["n_scans"]:
        return f"confusion holds {sum(map(sum, table))} scans, and n_scans is {said['n_scans']}"
    for name, row in zip(classes, table, strict=True):
        if sum(row) != said["per_class"][name]["support"]:
            return f"confusion and per_class differ on the scans of {name}"
    return ""


def missing_files(
    study: Path, about: dict[str, Any], runs: Sequence[Path], *, masks: bool
) -> list[str]:
    """Return what a finished study holds and this folder does not, one clause each.

    Args:
        study: The study folder.
        about: ``study.json``.
        runs: Folders of finished runs.
        masks: Whether the scans have lesion masks.
    """
    found = [f"{name} ({lacks})" for name, lacks in OF_STUDY.items() if not (study / name).exists()]
    wanted = {**OF_RUN, **(OF_RUN_WITH_MASKS if masks else {})}
    if about["config"].get("trust", {}).get("run"):
        wanted["trust.json"] = "its trust card"
    for run in runs:
        found += [
            f"runs/{run.name}/{name} ({lacks})"
            for name, lacks in wanted.items()
            if not (run / name).exists()
        ]
    folders = sorted(path for path in study.glob("runs/*") if path.is_dir())
    found += [
        f"runs/{path.name}/run.json (the whole run)"
        for path in folders
        if not (path / "run.json").exists() and any(path.iterdir())
    ]
    return found
