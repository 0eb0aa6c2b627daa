"""`predictions.parquet`: one row per scan, with what a model said about it.

Columns: ``scan`` (path in the table), ``patient`` (the group that resampling must not cut),
``label`` and ``target`` (None and -1 where unlabelled), ``split``, ``model``, ``seed``,
``predicted`` (class name), then ``probability_<CLASS>`` and ``logit_<CLASS>`` for every class in
the order of the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax

from octoscope.errors import OctoscopeError
from octoscope.evaluation.classes import in_order_of
from octoscope.files import atomic_path, read_parquet, write_parquet
from octoscope.scans.table import ScanTable

COLUMNS = ("scan", "patient", "label", "target", "split", "model", "seed", "predicted")
PROBABILITY, LOGIT = "probability_", "logit_"


def predictions_frame(
    table: ScanTable, logits: np.ndarray, *, classes: Sequence[str], model: str, seed: int
) -> pd.DataFrame:
    """Put the logits of a table's scans into the columns of `predictions.parquet`.

    Args:
        table: N scans, in the order of `logits`. Its labels are matched by name; the order of its
            own classes does not matter.
        logits: ``(N, K)``.
        classes: The model's class names, in the order of the logits.
        model: Name of the model.
        seed: Seed it was trained with.

    Raises:
        OctoscopeError: If the shape does not fit the table, a label is no class of the model, or a
            logit is not finite.
    """
    logits = np.asarray(logits, dtype=np.float32)
    classes = tuple(classes)
    if logits.shape != (len(table), len(classes)):
        raise OctoscopeError(
            f"{model}: logits of shape {logits.shape} do not fit {len(table)} scans × "
            f"{len(classes)} classes; give the classes of the model that made them"
        )
    table = in_order_of(table, classes, model)
    require_finite(logits, table.frame["path"].tolist(), model)
    probabilities = softmax(logits.astype(np.float64), axis=1)
    chosen = logits.argmax(axis=1)
    columns = {
        "scan": table.frame["path"],
        "patient": table.groups,
        "label": table.frame["label"],
        "target": table.targets,
        "split": table.frame["split"],
        "model": model,
        "seed": int(seed),
        "predicted": [classes[k] for k in chosen],
        **{PROBABILITY + name: probabilities[:, k] for k, name in enumerate(classes)},
        **{LOGIT + name: logits[:, k] for k, name in enumerate(classes)},
    }
    return pd.DataFrame(columns)


def require_finite(logits: np.ndarray, scans: Sequence[str], model: str) -> None:
    """Refuse NaN and infinite logits.

    Args:
        logits: ``(N, K)``.
        scans: Name of each scan.
        model: Name of the model, for the message.

    Raises:
        OctoscopeError: Naming the model, the count and the first scan.
    """
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if bad.size:
        raise OctoscopeError(
            f"{model}: the logits of {bad.size} of {len(logits)} scans are NaN or infinite "
            f"(first: {scans[bad[0]]}); the training diverged, so lower its learning rate"
        )


def classes_of(predictions: pd.DataFrame) -> tuple[str, ...]:
    """Return the class names in the order of the probability columns."""
    return tuple(
        column.removeprefix(PROBABILITY)
        for column in predictions.columns
        if column.startswith(PROBABILITY)
    )


def matrix(predictions: pd.DataFrame, classes: Sequence[str], prefix: str) -> np.ndarray:
    """Return the columns `prefix` + class as ``(N, K)`` float64, K in the order of `classes`."""
    return predictions[[prefix + name for name in classes]].to_numpy(dtype=np.float64)


def check_predictions(
    predictions: pd.DataFrame, classes: Sequence[str], source: str = "the predictions"
) -> None:
    """Check a table of predictions against its definition (see the module).

    Raises:
        OctoscopeError: If a column is missing, a scan stands twice, a label contradicts its
            target, probabilities do not sum to one or contradict `predicted`, or a value is
            not finite. The message names `source`.
    """
    wanted = [*COLUMNS, *(p + name for p in (PROBABILITY, LOGIT) for name in classes)]
    missing = [column for column in wanted if column not in predictions.columns]
    if missing:
        raise OctoscopeError(f"{source}: lacks the column {missing[0]}; predict again")
    extra = [name for name in classes_of(predictions) if name not in classes]
    if extra:
        raise OctoscopeError(
            f"{source}: class {extra[0]} is not one of {', '.join(classes)}; predict again"
        )
    twice = predictions["scan"].duplicated()
    if twice.any():
        raise OctoscopeError(
            f"{source}: scan {predictions['scan'][twice].iloc[0]} stands twice; "
            "evaluate one model and one split at a time"
        )
    numbers = predictions[wanted[len(COLUMNS) :]].to_numpy(dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise OctoscopeError(f"{source}: holds NaN or infinite values; predict again")
    probabilities = matrix(predictions, classes, PROBABILITY)
    if ((probabilities < 0).any(axis=1) | (np.abs(probabilities.sum(axis=1) - 1) > 1e-4)).any():
        raise OctoscopeError(f"{source}: probabilities do not sum to one; predict again")
    named = pd.Series([-1 if pd.isna(v) else _place(v, classes) for v in predictions["label"]])
    if (named.to_numpy() != predictions["target"].to_numpy()).any():
        raise OctoscopeError(f"{source}: labels and targets disagree; predict again")
    best = np.asarray(classes, dtype=object)[matrix(predictions, classes, LOGIT).argmax(axis=1)]
    if (best != predictions["predicted"].to_numpy()).any():
        raise OctoscopeError(f"{source}: predicted classes contradict the logits; predict again")


def _place(label: str, classes: Sequence[str]) -> int:
    """Return the index of `label`, -2 (never a target) where it is no class."""
    return classes.index(label) if label in classes else -2


def save_predictions(predictions: pd.DataFrame, path: Path) -> None:
    """Write predictions as Parquet, atomically, after checking them."""
    check_predictions(predictions, classes_of(predictions), str(path))
    with atomic_path(path) as temporary:
        write_parquet(predictions, temporary)


def read_predictions(path: Path) -> pd.DataFrame:
    """Read and check a predictions file.

    Raises:
        OctoscopeError: If it is missing, not Parquet, or not what `check_predictions` wants.
    """
    if not path.is_file():
        raise OctoscopeError(f"{path}: no such file; run octoscope evaluate first")
    try:
        predictions = read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors derive from these
        reason = str(error).splitlines()[0]
        raise OctoscopeError(f"{path}: not a Parquet file ({reason}); predict again") from None
    check_predictions(predictions, classes_of(predictions), str(path))
    return predictions
