"""The results of all models: which is best, how sure that is, and the tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from octoscope.errors import OctoscopeError
from octoscope.evaluation.comparison import across_seeds, paired_difference
from octoscope.evaluation.metrics import OVERALL, PER_CLASS
from octoscope.evaluation.predictions import PROBABILITY, classes_of, matrix
from octoscope.report.figures.calibration import reliability_curve
from octoscope.report.figures.confusion import confusion_matrix
from octoscope.report.figures.forest import Point, forest
from octoscope.report.figures.roc import roc_curves
from octoscope.report.files import RunFiles, StudyFiles
from octoscope.report.html import known, svg_uri

TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "precision": "Precision",
    "f1": "F1",
}
SPLIT_NAMES = {"val": "Validation", "test": "Test", "train": "Training"}
MOST_COMPARISONS = 3
COMPARISON_RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class ModelResult:
    """One model on one split, averaged over its seeds.

    Attributes:
        model: Its name.
        runs: Its runs that were evaluated on the split, one per seed.
        overall: Metric → ``{value, low, high, seed_sd}``; for one seed, that seed's metrics.
    """

    model: str
    runs: list[RunFiles]
    overall: dict[str, dict[str, Any]]

    @property
    def balanced_accuracy(self) -> float:
        """What models are ranked by; -1 where undefined."""
        value = self.overall["balanced_accuracy"]["value"]
        return value if known(value) else -1.0


def results_of(study: StudyFiles, split: str) -> list[ModelResult]:
    """Return all models evaluated on a split, the best first."""
    out = []
    for model, runs in study.models.items():
        done = [run for run in runs if split in run.metrics]
        if not done:
            continue
        overall = done[0].metrics[split]["overall"]
        frames = [run.predictions(split) for run in done]
        if len(done) > 1 and all(frame is not None for frame in frames):
            resamples = done[0].metrics[split]["bootstrap"]["resamples"]
            overall = across_seeds([f for f in frames if f is not None], resamples=resamples)[
                "overall"
            ]
        out.append(ModelResult(model, done, overall))
    return sorted(out, key=lambda result: -result.balanced_accuracy)


def comparisons(results: Sequence[ModelResult], split: str) -> list[str]:
    """Compare the best model with the next ones, seeds averaged, on the same patients."""
    frames = [[run.predictions(split) for run in result.runs] for result in results]
    whole = [[f for f in side if f is not None] for side in frames]
    out: list[str] = []
    for other in whole[1 : MOST_COMPARISONS + 1]:
        if not (whole[0] and other):
            continue
        try:
            compared = paired_difference(whole[0], other, resamples=COMPARISON_RESAMPLES)
        except OctoscopeError:
            continue  # evaluated on different scans: no pairs to compare
        out.append(str(compared["sentence"]))
    return out


def results_section(by_split: Mapping[str, list[ModelResult]]) -> list[dict[str, Any]]:
    """Return what the template shows for every split that was evaluated.

    Args:
        by_split: Split → its `results_of`.
    """
    out = []
    for split, results in by_split.items():
        if not results:
            continue
        runs = [run for result in results for run in result.runs]
        notes = dict.fromkeys(note for run in runs for note in run.metrics[split].get("notes", []))
        first = runs[0].metrics[split]
        out.append(
            {
                "key": split,
                "title": SPLIT_NAMES[split],
                "scans": first["n_scans"],
                "patients": first["n_patients"],
                "resamples": first["bootstrap"]["resamples"],
                "metrics": [(name, TITLES[name]) for name in OVERALL],
                "class_metrics": [(name, TITLES[name]) for name in PER_CLASS],
                "models": results,
                "forest": _forest(results, split, first["chance"]["balanced_accuracy"]),
                "comparisons": comparisons(results, split),
                "runs": [_run(run, split) for run in runs],
                "notes": list(notes),
            }
        )
    return out


def _forest(results: Sequence[ModelResult], split: str, chance: float) -> str:
    """Return the balanced accuracies of all models and seeds as a data URI."""
    points = []
    for group, result in enumerate(results):
        several = len(result.runs) > 1
        metrics = [(result.model + (", mean of seeds" if several else ""), result.overall)]
        if several:
            metrics += [(f"seed {r.seed}", r.metrics[split]["overall"]) for r in result.runs]
        for label, overall in metrics:
            item = overall["balanced_accuracy"]
            if known(item["value"]):
                low, high = (item[k] if known(item[k]) else None for k in ("low", "high"))
                points.append(Point(label, item["value"], low, high, group))
    return svg_uri(forest(points, title="balanced accuracy", chance=chance, limits=(0, 1.02)))


def _run(run: RunFiles, split: str) -> dict[str, Any]:
    """Return per-class numbers and figures of one run."""
    metrics = run.metrics[split]
    calibration = metrics["calibration"]
    frame = run.predictions(split)
    roc = None
    if frame is not None:
        labelled = frame[frame["target"] >= 0]
        classes = classes_of(labelled)
        probabilities = matrix(labelled, classes, PROBABILITY)
        roc = svg_uri(roc_curves(probabilities, labelled["target"].to_numpy(), classes))
    return {
        "name": run.name,
        "per_class": metrics["per_class"],
        "calibration": calibration,
        "confusion": svg_uri(confusion_matrix(np.array(metrics["confusion"]), metrics["classes"])),
        "reliability": svg_uri(
            reliability_curve(
                calibration["reliability"], calibration.get("reliability_after") or []
            )
        ),
        "roc": roc,
    }
