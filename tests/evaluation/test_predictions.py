"""The predictions table: what goes in comes out, and what is wrong is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from octoscope.errors import OctoscopeError
from octoscope.evaluation.predictions import (
    check_predictions,
    classes_of,
    predictions_frame,
    read_predictions,
    save_predictions,
)
from octoscope.scans.table import ScanTable

CLASSES = ("CNV", "NORMAL")
LOGITS = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]], dtype=np.float32)


@pytest.fixture
def table(tmp_path: Path) -> ScanTable:
    frame = pd.DataFrame(
        {
            "path": ["a.png", "b.png", "c.png"],
            "label": ["CNV", "NORMAL", None],
            "patient": ["1", None, "2"],
            "split": ["val"] * 3,
        }
    )
    return ScanTable.from_frame(frame, tmp_path)


def test_columns_and_values(table: ScanTable) -> None:
    frame = predictions_frame(table, LOGITS, classes=CLASSES, model="net", seed=3)
    assert list(frame.columns) == [
        "scan", "patient", "label", "target", "split", "model", "seed", "predicted",
        "probability_CNV", "probability_NORMAL", "logit_CNV", "logit_NORMAL",
    ]  # fmt: skip
    assert frame["patient"].tolist() == ["1", "unknown:NORMAL", "2"]
    assert frame["target"].tolist() == [0, 1, -1]
    assert frame["predicted"].tolist() == ["CNV", "NORMAL", "CNV"]
    assert frame["probability_CNV"][0] == pytest.approx(1 / (1 + np.exp(-2)))
    assert classes_of(frame) == ("CNV", "NORMAL")


def test_round_trip(table: ScanTable, tmp_path: Path) -> None:
    frame = predictions_frame(table, LOGITS, classes=CLASSES, model="net", seed=3)
    save_predictions(frame, tmp_path / "run" / "predictions-val.parquet")
    again = read_predictions(tmp_path / "run" / "predictions-val.parquet")
    assert again["label"].isna().tolist() == [False, False, True]
    pd.testing.assert_frame_equal(frame.fillna(""), again.fillna(""), check_dtype=False)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["predictions-val.parquet"]


def test_a_diverged_model_is_named_with_its_first_scan(table: ScanTable) -> None:
    logits = LOGITS.copy()
    logits[1:, 0] = np.nan, np.inf
    with pytest.raises(OctoscopeError, match=r"net: the logits of 2 of 3 scans .*first: b.png"):
        predictions_frame(table, logits, classes=CLASSES, model="net", seed=0)


def test_logits_must_fit_the_table(table: ScanTable) -> None:
    with pytest.raises(OctoscopeError, match=r"net: logits of shape \(3, 3\) do not fit 3 scans"):
        predictions_frame(table, np.zeros((3, 3)), classes=CLASSES, model="net", seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="patient"), "lacks the column patient"),
        (lambda f: f.drop(columns="logit_CNV"), "lacks the column logit_CNV"),
        (lambda f: pd.concat([f, f[:1]]), "stands twice"),
        (lambda f: f.assign(probability_CNV=0.5), "do not sum to one"),
        (lambda f: f.assign(logit_CNV=np.nan), "NaN or infinite"),
        (lambda f: f.assign(target=[1, 0, -1]), "labels and targets disagree"),
        (lambda f: f.assign(label=["CNV", "AMD", None]), "labels and targets disagree"),
        (lambda f: f.assign(predicted="CNV"), "contradict the logits"),
        (lambda f: f.assign(probability_AMD=0.0), "class AMD is not one of"),
    ],
)
def test_what_is_wrong_is_said(table: ScanTable, change, message: str) -> None:
    frame = change(predictions_frame(table, LOGITS, classes=CLASSES, model="net", seed=3))
    with pytest.raises(OctoscopeError, match=message):
        check_predictions(frame, ("CNV", "NORMAL"))


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(OctoscopeError, match="no such file"):
        read_predictions(tmp_path / "predictions.parquet")
    (tmp_path / "x.parquet").write_text("not parquet")
    with pytest.raises(OctoscopeError, match=r"x\.parquet: not a Parquet file"):
        read_predictions(tmp_path / "x.parquet")
