"""How far the models of a study agree on where to look, method by method; and the seeds of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from octoscope.attribution.registry import METHODS
from octoscope.evaluation.bootstrap import resample_patients
from octoscope.evaluation.intervals import Interval, interval, patients_with
from octoscope.evaluation.terminal import said
from octoscope.study.examined import Examined
from octoscope.study.folder import RunFolder
from octoscope.trust.agreement import agreement
from octoscope.trust.scores import LEAST_PATIENTS, resampled_mean
from octoscope.trust.similarity import spearman, top_overlap
from octoscope.trust.stability.seeds import over_pairs


def between_models(examined: Sequence[Examined]) -> dict[str, Any]:
    """Compare the maps of every method over the models, on scans that all of them call the same.

    A map explains the class that its model predicts, so that of scans on which models disagree
    the maps answer different questions. Null maps, which are the same for every model, say nothing.

    Args:
        examined: The runs; models that differ in their seed alone count as models.

    Returns:
        ``runs``, ``digests`` (run → digest of its weights), ``scans`` (on which all agree),
        ``agreement`` (``methods`` → what `agreement` found, with the runs as names), ``seeds``
        (model → `between_seeds`, of models with two or more) and ``sentences``.
    """
    found: dict[str, Any] = {
        "runs": [one.run.name for one in examined],
        "digests": {one.run.name: one.run.digest for one in examined},
        "scans": 0,
        "agreement": {"methods": {}},
        "seeds": {},
        "sentences": [],
    }
    rows, shared = _common(examined)
    if len(examined) > 1 and len(rows) > 1:
        first = examined[0]
        for name in shared:
            maps = {one.run.name: one.maps(rows, [name])[name] for one in examined}
            pairs = agreement(
                maps, first.patients(rows), first.labels(rows), resamples=first.resamples
            )
            found["agreement"]["methods"][name] = {"models": pairs.names, **pairs.to_dict()}
            found["sentences"] += [f"{METHODS[name].title}: {one}" for one in pairs.sentences[:1]]
        found["scans"] = len(rows) if shared else 0
    for model, several in _by_model(examined).items():
        if len(several) > 1:
            found["seeds"][model] = between_seeds(several)
            found["sentences"].append(found["seeds"][model]["sentence"])
    return found


def between_seeds(examined: Sequence[Examined]) -> dict[str, Any]:
    """Compare the maps of models that differ in their seed alone (seed agreement).

    Args:
        examined: Two or more runs of one model.

    Returns:
        ``runs``, ``scans`` (on which all seeds agree on the class), ``patients``, ``methods``
        (method → ``seed_agreement`` and ``seed_overlap``, each with its interval over resampled
        patients: the mean over pairs of seeds) and ``sentence``.
    """
    first = examined[0]
    rows, shared = _common(examined)
    methods: dict[str, dict[str, Interval]] = {}
    if len(rows):
        weights = resample_patients(list(first.patients(rows)), first.resamples)
        for name in shared:
            maps = torch.stack([one.maps(rows, [name])[name] for one in examined])  # (R, B, H, W)
            measured = {"seed_agreement": spearman, "seed_overlap": top_overlap}
            methods[name] = {
                metric: _mean(over_pairs(maps, function), weights)
                for metric, function in measured.items()
            }
    patients = len(set(first.patients(rows)))
    model = str(first.run.info["model"])
    return {
        "runs": [one.run.name for one in examined],
        "scans": len(rows),
        "patients": patients,
        "methods": methods,
        "sentence": _sentence(model, len(examined), methods, len(rows), patients),
    }


def seeds_of(models: Mapping[str, Any], run: RunFolder) -> dict[str, Any] | None:
    """Return the seed agreement that a run took part in, from what `between_models` found."""
    found: dict[str, Any] | None = models.get("seeds", {}).get(str(run.info["model"]))
    return found if found and run.name in found["runs"] else None


def _common(examined: Sequence[Examined]) -> tuple[np.ndarray, list[str]]:
    """Return the rows that all models call the same, and the methods that all have."""
    first = examined[0]
    rows = first.some(min(one.settings.scans for one in examined))
    targets = torch.stack([one.targets(rows).cpu() for one in examined])
    shared = [
        name
        for name in first.methods
        if METHODS[name].family != "null" and all(name in one.methods for one in examined)
    ]
    return rows[(targets == targets[0]).all(0).numpy()], shared


def _by_model(examined: Sequence[Examined]) -> dict[str, list[Examined]]:
    """Return model → its seeds."""
    out: dict[str, list[Examined]] = {}
    for one in examined:
        out.setdefault(str(one.run.info["model"]), []).append(one)
    return out


def _mean(values: Tensor, weights: Any) -> Interval:
    """Return the mean over the scans where it is defined, with its interval."""
    numbers = values.numpy(force=True)
    there = np.isfinite(numbers)
    value, drawn = resampled_mean(numbers[there, None], weights.rows(there))
    return interval(value[0], drawn[:, 0], patients_with(there, weights))


def _sentence(model: str, seeds: int, methods: Mapping[str, Any], scans: int, patients: int) -> str:
    """Return in words how much the maps hang on the seed: the steadiest method and the other."""
    known = {
        name: one["seed_agreement"]
        for name, one in methods.items()
        if np.isfinite(one["seed_agreement"]["value"])
    }
    start = f"Seed agreement of {model} ({seeds} seeds"
    if not known:
        return f"{start}): no scan has maps that can be compared, so nothing can be said."
    order = sorted(known, key=lambda name: -known[name]["value"])
    ends = [order[0], *([order[-1]] if len(order) > 1 else [])]
    values = ", ".join(f"{METHODS[name].title} {said(known[name])}" for name in ends)
    which = " (the highest and the lowest)" if len(order) > 2 else ""
    few = "; too few patients to rely on" if patients < LEAST_PATIENTS else ""
    return (
        f"{start}, {scans} scans of {patients} patients that all call the same): rank correlation "
        f"of the maps of one scan {values}{which}{few}."
    )
