"""Predicting unlabelled scans: every file has its row, in order, and what fails says why."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import softmax

import octoscope
from octoscope.cli import main
from octoscope.data.cache import ScanCache
from octoscope.errors import OctoscopeError
from octoscope.evaluation.predict import predict as logits_of
from octoscope.files import read_json
from octoscope.models.classifier import Classifier
from octoscope.study.predict_files import predict
from study.elsewhere_data import CLASSES, make_study, picture, save_picture

PROBABILITIES = [f"probability_{name}" for name in CLASSES]
LOGITS = [f"logit_{name}" for name in CLASSES]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predicted")
    return make_study(folder / "study", folder / "data")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Five scans in a tree, with masks and a text beside them."""
    folder = tmp_path / "scans"
    for n in range(4):
        save_picture(folder / "deep" / f"{n}.png", n)
    save_picture(folder / "top.jpeg", 9)
    save_picture(folder / "masks" / "deep" / "0.png", 1)
    (folder / "read me.txt").write_text("hello")
    return folder


def said_by(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[pd.DataFrame, str]:
    """Predict to standard output; return the table and what was said."""
    capsys.readouterr()
    assert main(["predict", *map(str, words)]) == 0
    told = capsys.readouterr()
    return pd.read_csv(io.StringIO(told.out), keep_default_na=False, na_values=[""]), told.err


def test_rows_are_those_of_the_model_in_the_order_given(
    run: Path, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [scans / "deep" / f"{n}.png" for n in (2, 0, 3, 0)]  # one stands twice
    frame, _ = said_by(capsys, run, *files, "--batch_size", "3")
    assert frame["path"].tolist() == [str(path) for path in files]
    classifier = Classifier.load(run / "model")
    pixels = np.stack([classifier.prepare([path])[0, 0].numpy() * 255 for path in files])
    logits = logits_of(classifier, pixels.round().astype(np.uint8), quiet=True)
    np.testing.assert_allclose(frame[LOGITS].to_numpy(), logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        frame[PROBABILITIES].to_numpy(), softmax(frame[LOGITS].to_numpy(), axis=1), rtol=1e-9
    )
    assert frame["predicted"].tolist() == [CLASSES[k] for k in logits.argmax(1)]
    assert frame["fault"].isna().all()
    assert list(frame.columns) == ["path", "predicted", *PROBABILITIES, *LOGITS, "fault"]


def test_scans_of_the_study_get_what_evaluate_gave_them(run: Path) -> None:
    cache = ScanCache.open(run.parents[1] / "cache")
    assert main(["evaluate", str(run), "--resamples", "20"]) == 0
    before = pd.read_parquet(run / "predictions-val.parquet")
    frame = predict(run / "model", [cache.table.root / path for path in before["scan"]])
    np.testing.assert_allclose(frame[LOGITS], before[LOGITS], rtol=1e-4, atol=1e-5)
    assert frame["predicted"].tolist() == before["predicted"].tolist()


def test_a_folder_stands_for_its_scans_without_the_masks(
    run: Path, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame, said = said_by(capsys, run, scans)
    assert frame["path"].tolist() == [
        *(str(scans / "deep" / f"{n}.png") for n in range(4)), str(scans / "top.jpeg")
    ]  # fmt: skip
    assert "5 scans predicted." in said
    assert "1 file in folders of masks" in said and ".txt" in " ".join(said.split())


def test_files_that_cannot_be_read_have_a_row_that_says_why(
    run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scans / "deep" / "1.png").write_bytes(b"\x89PNG broken")
    np.save(tmp_path / "volume.npy", np.stack([picture(n) for n in range(3)]))
    gone = tmp_path / "gone.png"
    frame, said = said_by(capsys, run, scans / "deep", gone, tmp_path / "volume.npy")
    assert frame["fault"].notna().tolist() == [False, True, False, False, True, True]
    bad = frame[frame["fault"].notna()]
    assert bad[["predicted", *PROBABILITIES, *LOGITS]].isna().all(axis=None)
    assert "volume of 3 B-scans" in bad["fault"].iloc[-1]
    flat = said
    assert "3 scans predicted; 3 could not be read." in flat
    assert "1.png" in flat and "gone.png" in flat


@pytest.mark.parametrize("name", ["out.csv", "OUT.PARQUET"])
def test_a_table_is_written_as_its_ending_says(
    name: str, run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame, _ = said_by(capsys, run, scans, "--batch-size", "2")
    (scans / "zz.png").write_bytes(b"no picture")
    out = tmp_path / "new" / name
    assert main(["predict", str(run), str(scans), "--out", str(out), "--batch-size", "2"]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    read = pd.read_csv(out) if out.suffix == ".csv" else pd.read_parquet(out)
    assert list(read.columns) == list(frame.columns)
    np.testing.assert_allclose(read[LOGITS][:5], frame[LOGITS], rtol=1e-4, atol=1e-5)
    assert read["predicted"].tolist()[:5] == frame["predicted"].tolist()
    assert read["fault"].notna().tolist() == [False] * 5 + [True]


def test_a_table_of_paths_and_a_model_without_its_run(
    run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame({"path": ["top.jpeg", "deep/3.png"]}).to_csv(scans / "some.csv", index=False)
    shutil.copytree(run / "model", tmp_path / "handed over")
    table = scans / "named.csv"
    pd.DataFrame({"File": ["top.jpeg"], "path": ["never"]}).to_csv(table, index=False)
    frame, _ = said_by(capsys, run, table, "--columns", "path=File")
    assert frame["path"].tolist() == [str(scans / "top.jpeg")]
    frame, _ = said_by(capsys, tmp_path / "handed over", scans / "some.csv")
    assert frame["path"].tolist() == [str(scans / "top.jpeg"), str(scans / "deep" / "3.png")]


def test_calibrated_divides_by_the_temperature_of_validation(
    run: Path, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "metrics-val.json").unlink(missing_ok=True)
    assert main(["predict", str(run), str(scans), "--calibrated", "true"]) == 2
    assert "octoscope evaluate" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--resamples", "20"]) == 0
    temperature = read_json(run / "metrics-val.json")["calibration"]["temperature"]
    frame, _ = said_by(capsys, run, scans, "--calibrated", "true")
    expected = softmax(frame[LOGITS].to_numpy() / temperature, axis=1)
    np.testing.assert_allclose(frame[PROBABILITIES].to_numpy(), expected, rtol=1e-9)


def test_what_cannot_be_predicted_is_one_sentence_and_leaves_nothing(
    run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*words: str | Path) -> str:
        capsys.readouterr()
        assert main(["predict", *map(str, words)]) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return said.strip().splitlines()[-1]

    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("a.png", "b.png"):
        (broken / name).write_bytes(b"no picture")
    out = tmp_path / "out.csv"
    out.write_text("mine")
    said = fails(run, broken, "--out", out)
    assert "a.png" in said and "none of 1 more" in said and "no scan could be read" in said
    assert out.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "out.csv", "scans"]
    (tmp_path / "empty").mkdir()
    assert "holds no scans" in fails(run, tmp_path / "empty")
    assert "holds only masks" in fails(run, scans / "masks")
    assert ".csv or .parquet" in fails(run, scans, "--out", tmp_path / "out.xlsx")
    assert "folder" in fails(run, scans, "--out", tmp_path / "empty")
    assert "holds no trained model" in fails(scans, scans)
    assert "--batch-size must be" in fails(run, scans, "--batch-size", "0")


def test_python_takes_files_and_arrays(run: Path, scans: Path) -> None:
    path = scans / "deep" / "0.png"
    array = np.asarray(Image.open(path))
    frame = octoscope.predict(run / "model", [path, array, str(scans / "gone.png")])
    assert frame["path"].tolist() == [str(path), "image 1", str(scans / "gone.png")]
    np.testing.assert_allclose(frame[LOGITS].iloc[0], frame[LOGITS].iloc[1], rtol=1e-4, atol=1e-5)
    assert frame["fault"].isna().tolist() == [True, True, False]
    with pytest.raises(OctoscopeError, match="no images"):
        octoscope.predict(run / "model", [])
    with pytest.raises(OctoscopeError, match="not a B-scan"):
        octoscope.predict(run / "model", [np.zeros((3, 8, 8), np.uint8)])
