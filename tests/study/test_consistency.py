"""The report shows what belongs together, says what was made by hand, and refuses the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from octoscope.errors import OctoscopeError
from octoscope.study.consistency import require_consistent
from octoscope.study.evaluate import evaluate_run
from octoscope.study.folder import RunFolder
from study.conftest import Study
from study.small import RUN


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_study_as_it_was_made_is_consistent(study: Study) -> None:
    assert require_consistent(study.folder) == []


def test_numbers_made_by_hand_are_said(study: Study) -> None:
    run = RunFolder.open(study.folder / RUN)
    evaluate_run(run, run.open_cache(), resamples=7)
    (note,) = require_consistent(study.folder)
    assert f"{RUN}/metrics-val.json was made by hand" in note
    assert "resamples 7 instead of 20" in note


def test_numbers_of_an_earlier_version_are_said(study: Study) -> None:
    path = study.folder / RUN / "metrics-val.json"
    content = json.loads(path.read_text())
    content.pop("made_by")
    path.write_text(json.dumps(content))
    (note,) = require_consistent(study.folder)
    assert "does not say what it was made by" in note


@pytest.mark.parametrize("name", ["metrics-val.json", "localisation.json"])
@pytest.mark.parametrize("key", ["model", "cache"])
def test_results_of_another_model_or_other_scans_are_refused(
    study: Study, name: str, key: str
) -> None:
    path = study.folder / RUN / name
    made = json.loads(path.read_text())["made_by"]
    edit(path, made_by={**made, key: "0" * 16})
    with pytest.raises(OctoscopeError, match=rf"{name}: is of (another model|other scans)") as said:
        require_consistent(study.folder)
    assert "run the study again, or octoscope" in str(said.value)


def test_predictions_that_are_not_those_of_the_metrics_are_refused(study: Study) -> None:
    path = study.folder / RUN / "predictions-val.parquet"
    frame = pd.read_parquet(path)
    frame.iloc[::-1].to_parquet(path, index=False)
    with pytest.raises(OctoscopeError, match=r"does not belong to predictions-val\.parquet"):
        require_consistent(study.folder)


def test_maps_of_another_model_are_refused(study: Study) -> None:
    path = study.folder / RUN / "maps.zarr/zarr.json"
    content = json.loads(path.read_text())
    content["attributes"]["about"]["model"] = "0" * 16
    path.write_text(json.dumps(content))
    with pytest.raises(OctoscopeError, match="holds maps of another model"):
        require_consistent(study.folder)


def test_panels_of_other_predictions_are_refused(study: Study) -> None:
    path = study.folder / RUN / "panels.json"
    panels = json.loads(path.read_text())
    panels[0]["scan"] = "images/CNV/none.png"
    path.write_text(json.dumps(panels))
    with pytest.raises(OctoscopeError, match=r"panels\.json: shows scans or predictions"):
        require_consistent(study.folder)


def test_a_study_that_was_rewritten_for_other_scans_is_refused(study: Study) -> None:
    edit(study.folder / "study.json", cache_digest="0" * 16)
    with pytest.raises(OctoscopeError, match=r"other scans, labels, splits or framing than study"):
        require_consistent(study.folder)


def test_an_exchanged_table_is_refused(study: Study) -> None:
    path = study.folder / "table.parquet"
    frame = pd.read_parquet(path)
    frame["split"] = "train"
    frame.to_parquet(path, index=False)
    with pytest.raises(OctoscopeError, match=r"is not the table that study\.json names"):
        require_consistent(study.folder)
