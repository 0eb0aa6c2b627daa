"""Examine trained models: every part a stage of its own, and from them the trust card.

What was measured is kept part by part (``runs/RUN/trust``), so that an interruption loses one
part at most. The card (``trust.json``) is put together from the parts each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from octoscope.attribution.consensus import combined
from octoscope.attribution.registry import METHODS, methods_for, methods_named, sorted_out
from octoscope.attribution.store import MapStore
from octoscope.data.cache import ScanCache
from octoscope.errors import OctoscopeError
from octoscope.files import read_json, write_json
from octoscope.models.classifier import Classifier
from octoscope.study.config import TrustSettings
from octoscope.study.evaluate import in_order_of_model, is_evaluated, rows_of
from octoscope.study.examined import Examined, whole_methods
from octoscope.study.explain import explain_run
from octoscope.study.explainable import AXES
from octoscope.study.folder import RunFolder, StudyFolder
from octoscope.study.made_by import code_of, made_by, maps_about, rows_digest
from octoscope.study.stage import Stage, read_object, write_if_new
from octoscope.study.trust_card import card_of
from octoscope.study.trust_models import between_models, seeds_of
from octoscope.study.trust_parts import TASKS, Task
from octoscope.trust.scores import read_scores, save_scores

NULLS = tuple(name for name, method in METHODS.items() if method.family == "null")
"""The maps that know no model."""


def trust_runs(
    runs: Sequence[RunFolder],
    cache: ScanCache,
    methods: str | Sequence[str],
    settings: TrustSettings,
    *,
    resamples: int = 2000,
    strict: bool = True,
) -> None:
    """Examine runs of one study on the scans of their split and write their trust cards.

    Writes ``trust.json`` and ``trust.parquet`` into the results of every run. On validation scans,
    also ``trust.json`` into the study: how far the models agree. One run alone leaves the latter as
    it is, unless its model is another by now.

    Args:
        runs: Finished runs.
        cache: The cache of their study, or of one external test set in the frame of all of them.
        methods: Registry keys or families; the null maps are always among them.
        settings: How much is measured.
        resamples: Bootstrap resamples of the patients.
        strict: Refuse a method that is asked for by its own name and not defined for a model.

    Raises:
        OctoscopeError: If the runs are of several studies or not of this cache, or a method is
            unknown or not defined.
    """
    runs = list({run.path.resolve(): run for run in runs}.values())  # each once
    studies = {run.study.path.resolve() for run in runs}
    if len(studies) > 1:
        names = ", ".join(str(path) for path in sorted(studies))
        raise OctoscopeError(f"the runs are of several studies ({names}); examine one at a time")
    for run in runs:
        if not run.external and run.info.get("cache_digest", cache.digest) != cache.digest:
            raise OctoscopeError(
                f"{run.path}: was trained on other scans, labels or framing than the other runs; "
                "examine it alone"
            )
    elsewhere = any(run.split != "val" for run in runs)
    examined = [
        examine(run, cache, methods, settings, resamples=resamples, strict=strict) for run in runs
    ]
    models = {} if elsewhere else _between(examined)
    for one in examined:
        _write_card(one, seeds_of(models, one.run))


def _between(examined: Sequence[Examined]) -> dict[str, Any]:
    """Compare the models and write what is found, or keep what was found of more models."""
    study = StudyFolder(examined[0].run.study.path)
    former = read_object(study.trust)
    if len(examined) == 1 and former:
        run = examined[0].run
        if former.get("digests", {}).get(run.name, run.digest) == run.digest:
            return former
    found = between_models(examined)
    write_if_new(study.trust, found)
    return found


def examine(
    run: RunFolder,
    cache: ScanCache,
    methods: str | Sequence[str],
    settings: TrustSettings,
    *,
    resamples: int = 2000,
    strict: bool = True,
) -> Examined:
    """Measure every part of one run that is not there yet."""
    names = _with_nulls(run, methods, strict=strict)
    cache = in_order_of_model(cache, Classifier.load(run.model), run.name)
    if not _explained(run, cache, names):
        explain_run(run, cache, names, resamples=resamples)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    examined = Examined(run, cache, settings, whole_methods(names), device, resamples)
    for name, task in TASKS.items():
        if task.wanted(settings):
            _measured(examined, name, task)
    return examined


def _with_nulls(run: RunFolder, methods: str | Sequence[str], *, strict: bool) -> list[str]:
    """Return the methods asked for that are defined for a run's model, and the null maps."""
    classifier = Classifier.load(run.model)
    if strict:
        defined, _ = methods_for(classifier, methods, AXES)
    else:
        defined, _ = sorted_out(classifier, methods_named(methods), AXES)
    return list(dict.fromkeys([*(method.name for method in defined), *NULLS]))


def _explained(run: RunFolder, cache: ScanCache, methods: Sequence[str]) -> bool:
    """Say whether all maps of the scans of its split are there, and scored where they can be."""
    if not run.maps.exists() or not is_evaluated(run, run.split, cache):
        return False
    store, rows = MapStore.open(run.maps, read_only=True), rows_of(cache, run.split)
    if store.about != maps_about(run, cache):
        return False  # maps of another model: explaining will say so
    if not all(name in store.methods and store.written(name, rows).all() for name in methods):
        return False
    weights = {f"weight_{name}" for name in combined(METHODS[name] for name in methods)}
    for name in methods:
        if "maps" in METHODS[name].needs and set(store.details(int(rows[0]), name)) != weights:
            return False  # it was combined of other methods
    if cache.masks is None or not run.scores.is_file():
        return cache.masks is None or run.localisation.is_file()
    return set(read_scores(run.scores)["method"]) >= set(whole_methods(methods))


def _measured(examined: Examined, name: str, task: Task) -> None:
    """Measure one part, unless it was measured for the same model, scans, methods and settings."""
    run = examined.run
    block, scores = run.trust_part(f"{name}.json"), run.trust_part(f"{name}.parquet")

    def work() -> str:
        part = task.measure(examined)
        if part.scores is not None:
            save_scores(part.scores, scores)
        write_json(block, part.block)
        return part.said

    settings = {**asdict(examined.settings), "resamples": examined.resamples}
    inputs = {
        "model": run.digest,
        "cache": examined.cache.digest,
        "rows": rows_digest(examined.cache.table),
        "code": code_of("trust"),
        "methods": list(examined.methods),
        "precision": MapStore.open(run.maps, read_only=True).precision,
        "settings": {key: settings[key] for key in task.uses},
        "builds_on": {
            other: hashlib.sha256(run.trust_part(f"{other}.parquet").read_bytes()).hexdigest()
            for other in task.builds_on
        },
    }
    outputs = [block, scores] if task.scored else [block]
    Stage(run.stages, f"trust {run.name} {name}").run(inputs, outputs, work)


def _write_card(examined: Examined, seeds: dict[str, Any] | None) -> None:
    """Put the card of a run together from its parts; what says the same already is left alone."""
    run = examined.run
    blocks: dict[str, Any] = {}
    lesions = examined.cache.masks is not None and run.scores.is_file()
    tables = [read_scores(run.scores)] if lesions else []
    for name, task in TASKS.items():
        if not task.wanted(examined.settings):
            continue
        blocks[name] = read_json(run.trust_part(f"{name}.json"))
        if task.scored:
            tables.append(read_scores(run.trust_part(f"{name}.parquet")))
    scores = pd.concat(tables, ignore_index=True)
    # More methods may have been explained, and scored on lesions, than are examined.
    scores = scores[scores["method"].isin(examined.methods)].reset_index(drop=True)
    if not _says(run.trust_scores, scores):
        save_scores(scores, run.trust_scores)
    settings = {**asdict(examined.settings), "resamples": examined.resamples}
    about = made_by(run, examined.cache, settings, run.trust_scores)
    write_if_new(run.trust, {**card_of(examined, scores, blocks), "seeds": seeds, **about})


def _says(path: Path, scores: pd.DataFrame) -> bool:
    """Say whether a score table holds just these scores."""
    try:
        return path.is_file() and read_scores(path).equals(scores)
    except OctoscopeError:
        return False
