"""Evaluate a trained model on one split; the test split is opened on purpose and recorded."""

from __future__ import annotations

from typing import Any

import numpy as np

from octoscope.data.cache import ScanCache
from octoscope.evaluation.evaluate import evaluate
from octoscope.evaluation.ledger import open_test_split
from octoscope.evaluation.predict import predict
from octoscope.evaluation.predictions import predictions_frame, save_predictions
from octoscope.files import read_json, write_json
from octoscope.models.classifier import Classifier
from octoscope.study.folder import RunFolder
from octoscope.study.made_by import made_by


def evaluate_run(
    run: RunFolder, cache: ScanCache, *, split: str = "val", resamples: int = 2000, why: str = ""
) -> dict[str, Any]:
    """Predict one split, write ``predictions-SPLIT.parquet`` and ``metrics-SPLIT.json``.

    The temperature that calibrates is fitted on validation and carried to the test split.

    Args:
        run: A finished run.
        cache: The cache of its study.
        split: ``train``, ``val`` or ``test``; opening ``test`` is written to the run's ledger.
        resamples: Bootstrap resamples of the patients.
        why: For the ledger: what the test split was opened for.

    Returns:
        The metrics.

    Raises:
        OctoscopeError: If the split is empty, or the model gives NaN.
    """
    rows = rows_of(cache, split)
    temperature = None
    if split == "test":
        open_test_split(run.path, why=why)
        if not run.metrics("val").exists():
            evaluate_run(run, cache, split="val", resamples=resamples)
        temperature = read_json(run.metrics("val"))["calibration"]["temperature"]
    classifier = Classifier.load(run.model)
    logits = predict(classifier, cache.images[rows])
    info = run.info
    predictions = predictions_frame(
        cache.table.rows(rows), logits, model=info["model"], seed=info["seed"]
    )
    metrics = evaluate(
        predictions, cache.table.classes, temperature=temperature, resamples=resamples
    )
    save_predictions(predictions, run.predictions(split))
    about = made_by(run, cache, {"resamples": resamples}, run.predictions(split))
    write_json(run.metrics(split), {**metrics, **about})
    return metrics


def rows_of(cache: ScanCache, split: str) -> np.ndarray:
    """Return the cache rows of one split.

    Raises:
        OctoscopeError: If there are none.
    """
    cache.table.split(split)  # raises, naming the splits there are
    return np.flatnonzero((cache.table.frame["split"] == split).to_numpy())
