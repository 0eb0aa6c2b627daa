"""log.csv and the trackers."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from octoscope.errors import OctoscopeError
from octoscope.training.logbook import columns_of, open_tracker, write_log
from octoscope.training.recipe import Recipe


def test_a_log_reads_back_and_leaves_empty_what_is_not_known(tmp_path: Path) -> None:
    columns = columns_of(("CNV", "DME"))
    rows = [dict.fromkeys(columns, 0.25), dict.fromkeys(columns, float("nan"))]
    write_log(tmp_path / "log.csv", rows, ("CNV", "DME"))
    with (tmp_path / "log.csv").open() as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == [
        *("epoch", "seconds", "lr", "train_loss", "train_accuracy"),
        *("val_loss", "val_accuracy", "val_balanced_accuracy"),
        *("val_accuracy_CNV", "val_accuracy_DME"),
    ]
    assert set(read[0].values()) == {"0.25"}
    assert set(read[1].values()) == {""}


def test_log_csv_alone_needs_no_tracker(tmp_path: Path) -> None:
    assert open_tracker(Recipe(), tmp_path) is None


@pytest.mark.parametrize(("name", "module"), [("mlflow", "mlflow"), ("wandb", "wandb")])
def test_a_tracker_that_is_not_installed_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(f"lightning.pytorch.loggers.{name}._{name.upper()}_AVAILABLE", False)
    with pytest.raises(OctoscopeError, match=rf"tracker {name} is not installed.*pip install"):
        open_tracker(Recipe(tracker=name), tmp_path)


def test_tensorboard_gets_every_number(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tracker = open_tracker(Recipe(tracker="tensorboard"), tmp_path)
    assert tracker is not None
    for epoch in (1, 2):
        tracker.log_metrics({"val_loss": epoch / 4}, step=epoch)
    tracker.finalize("success")
    read = events.EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("val_loss")] == [(1, 0.25), (2, 0.5)]
