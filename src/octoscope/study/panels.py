"""Which scans the report shows: chosen by a rule, not by eye."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from octoscope.data.cache import ScanCache
from octoscope.evaluation.predictions import PROBABILITY, read_predictions
from octoscope.study.folder import RunFolder
from octoscope.study.stage import write_if_new

PLACES = {"easiest": 0.0, "hardest": 1.0, "median": 0.5}


def write_panels(runs: Sequence[RunFolder], cache: ScanCache, per_class: int) -> None:
    """Write ``panels.json`` into every run: the same scans for all models.

    Scans of a class are ordered by the probability of their class, averaged over the models. The
    ones shown stand evenly in that order, from the easiest to the hardest, one per patient as
    far as there are patients.

    Args:
        runs: Evaluated runs.
        cache: The cache of their study.
        per_class: Scans per class.
    """
    predictions = [read_predictions(run.predictions("val")).set_index("scan") for run in runs]
    chosen = choose(predictions, cache.table.classes, per_class)
    row_of = {path: row for row, path in enumerate(cache.table.frame["path"])}
    for run, frame in zip(runs, predictions, strict=True):
        panels = [
            {
                "row": row_of[scan],
                "scan": scan,
                "label": frame.loc[scan, "label"],
                "predicted": frame.loc[scan, "predicted"],
                "probabilities": {
                    name: float(frame.loc[scan, PROBABILITY + name]) for name in cache.table.classes
                },
                "reason": reason,
            }
            for scan, reason in chosen
        ]
        write_if_new(run.panels, panels)


def choose(
    predictions: Sequence[pd.DataFrame], classes: Sequence[str], per_class: int
) -> list[tuple[str, str]]:
    """Return the scans to show and why each is: ``(scan, reason)``.

    Args:
        predictions: One frame per model, indexed by scan, all of the same scans.
        classes: Class names.
        per_class: Scans per class.
    """
    first = predictions[0]
    chosen: list[tuple[str, str]] = []
    for name in classes:
        members = first.index[first["label"] == name]
        ease = np.mean([frame.loc[members, PROBABILITY + name] for frame in predictions], axis=0)
        order = members[np.argsort(-ease, kind="stable")]
        one_each = ~first.loc[order, "patient"].duplicated().to_numpy()
        # One scan per patient first, spread over the order; then whatever else there is.
        pool = [*order[one_each]] if one_each.sum() >= per_class else [*order]
        places = np.unique(np.linspace(0, len(pool) - 1, min(per_class, len(pool))).round())
        for place in places.astype(int):
            share = 0 if len(pool) == 1 else round(100 * place / (len(pool) - 1))
            reason = {0: "easiest", 50: "median", 100: "hardest"}.get(share, f"rank {share} %")
            chosen.append((pool[place], f"{reason} of its class"))
    return chosen
