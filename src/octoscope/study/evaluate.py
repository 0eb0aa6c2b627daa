"""Evaluate a trained model on one split; the test split is opened on purpose and recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from octoscope.data.cache import ScanCache
from octoscope.errors import OctoscopeError
from octoscope.evaluation.classes import in_order_of
from octoscope.evaluation.evaluate import evaluate
from octoscope.evaluation.ledger import open_test_split
from octoscope.evaluation.predict import predict
from octoscope.evaluation.predictions import predictions_frame, save_predictions
from octoscope.files import read_json, write_json
from octoscope.models.classifier import Classifier
from octoscope.study.folder import RunFolder
from octoscope.study.made_by import made_by
from octoscope.study.stage import read_object


def evaluate_run(
    run: RunFolder, cache: ScanCache, *, split: str = "val", resamples: int = 2000, why: str = ""
) -> dict[str, Any]:
    """Predict one split, write its predictions and metrics; opening ``test`` is recorded.

    Args:
        run: A finished run.
        cache: The cache of its study, or of an external test set (`octoscope.study.external`).
        split: ``train``, ``val`` or ``test``.
        resamples: Bootstrap resamples of the patients.
        why: For the ledger: what the test split was opened for.

    Returns:
        The metrics.

    Raises:
        OctoscopeError: If the split is empty, or the model gives NaN.
    """
    rows_of(cache, split)  # there are some
    if split == "test":
        record_opening(run, cache, why)
    return measure_run(run, cache, split=split, resamples=resamples)


def record_opening(run: RunFolder, cache: ScanCache, why: str) -> None:
    """Write to the ledger that the test split of a cache is about to be looked at.

    Args:
        run: The run, on its study or on an external set.
        cache: The scans.
        why: What for.
    """
    facts: dict[str, Any] = {"n_scans": len(rows_of(cache, "test")), "digest": cache.digest}
    if run.external:
        facts |= {"split": "external", **run.external}
    open_test_split(run.path, why=why, **facts)


def measure_run(
    run: RunFolder, cache: ScanCache, *, split: str, resamples: int = 2000
) -> dict[str, Any]:
    """Do the work of `evaluate_run` on a split that may be looked at.

    The temperature that calibrates is fitted on validation and carried to test scans, of the
    study or of others; none is ever fitted on these.
    """
    temperature = validation_temperature(run, resamples=resamples) if split == "test" else None
    classifier = Classifier.load(run.model)
    rows = rows_of(cache, split)
    table = in_order_of(cache.table.rows(rows), classifier.classes, run.name)
    logits = predict(classifier, cache.images, rows=rows, name=run.name)
    info = run.info
    predictions = predictions_frame(
        table, logits, classes=classifier.classes, model=info["model"], seed=info["seed"]
    )
    metrics = {
        **evaluate(
            predictions,
            classifier.classes,
            temperature=temperature,
            fit=split != "test",
            resamples=resamples,
        ),
        **run.external,
    }
    save_predictions(predictions, run.predictions(split))
    about = made_by(run, cache, {"resamples": resamples}, run.predictions(split))
    write_json(run.metrics(split), {**metrics, **about})
    return metrics


def validation_temperature(run: RunFolder, *, resamples: int = 2000) -> float | None:
    """Return the temperature that was fitted on the validation scans of a run's study.

    They are evaluated first where that was not done; None where they are not there, as when a run
    was copied alone, or are of one patient.
    """
    own = RunFolder(run.path)
    if not is_evaluated(own, "val"):
        try:
            cache = own.open_cache()
        except OctoscopeError:
            return None
        measure_run(own, cache, split="val", resamples=resamples)
    temperature = read_json(own.metrics("val"))["calibration"]["temperature"]
    return None if temperature is None else float(temperature)


def is_evaluated(run: RunFolder, split: str, cache: ScanCache | None = None) -> bool:
    """Say whether the predictions and metrics of a split are there, and of the model that is there.

    Args:
        run: The run.
        split: The split.
        cache: If given, they must be of these scans.
    """
    about = read_object(run.metrics(split)).get("made_by")
    if not isinstance(about, dict) or not run.predictions(split).is_file():
        return False
    same_scans = cache is None or about.get("cache") == cache.digest
    return about.get("model") == run.digest and same_scans


def in_order_of_model(cache: ScanCache, classifier: Classifier, model: str) -> ScanCache:
    """Return a cache whose classes stand in the order of a model's logits.

    Raises:
        OctoscopeError: If a label is no class of the model.
    """
    table = in_order_of(cache.table, classifier.classes, model)
    return cache if table is cache.table else replace(cache, table=table)


def rows_of(cache: ScanCache, split: str) -> np.ndarray:
    """Return the cache rows of one split.

    Raises:
        OctoscopeError: If there are none.
    """
    cache.table.split(split)  # raises, naming the splits there are
    return np.flatnonzero((cache.table.frame["split"] == split).to_numpy())
