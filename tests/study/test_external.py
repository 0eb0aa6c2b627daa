"""Evaluating elsewhere: classes by name, leaks said, nothing changed by a refusal."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, roc_auc_score

import octoscope
from octoscope.attribution.store import MapStore
from octoscope.cli import main
from octoscope.data.cache import ScanCache
from octoscope.data.entry import save_table
from octoscope.evaluation.ledger import openings
from octoscope.files import read_json, write_json
from octoscope.models.classifier import Classifier
from octoscope.study.predict_files import predict
from octoscope.study.stored import as_images
from study.elsewhere_data import (
    CLASSES,
    SIZE,
    labelled,
    make_study,
    names_below,
    picture,
    save_named,
    save_picture,
    save_scans,
)

Fails = Callable[..., str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with one run, and its data beside it."""
    folder = tmp_path_factory.mktemp("elsewhere")
    make_study(folder / "study", folder / "data")
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """The run in a copy of its study."""
    shutil.copytree(made / "study", tmp_path / "study")
    return tmp_path / "study" / "runs" / "test_resnet-seed0"


@pytest.fixture
def fails(run: Path, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Evaluate in a way that must be refused: exit code 2, one sentence, no byte changed."""

    def evaluate(*words: str | Path, run: Path = run) -> str:
        before = names_below(run.parents[1])
        capsys.readouterr()
        assert main(["evaluate", str(run), *map(str, words)]) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert names_below(run.parents[1]) == before
        assert not (run / "external").exists()
        return said.strip().splitlines()[-1]

    return evaluate


def evaluated(run: Path, *words: str | Path) -> Path:
    """Evaluate a run elsewhere; return the folder of the results."""
    assert main(["evaluate", str(run), *map(str, words), "--resamples", "50"]) == 0
    (folder,) = (run / "external").iterdir()
    return folder


# --- classes by name ----------------------------------------------------------------------------


def test_numbers_are_those_of_scikit_learn_by_name(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other order, other spelling, one class missing, one called otherwise."""
    called = {"normal": "NORMAL", "amd": "DRUSEN", "Dme": "DME"}
    said = save_scans(tmp_path / "other", {"normal": 4, "amd": 3, "Dme": 5}, first=1)
    folder = evaluated(run, "--data", tmp_path / "other", "--classes", "amd=DRUSEN")
    metrics = read_json(folder / "metrics.json")
    told = capsys.readouterr()
    assert str(folder / "metrics.json") in told.out
    assert "taken as DRUSEN, as asked" in told.err and "No scan is of class CNV" in told.err

    files = sorted((tmp_path / "other" / "images").rglob("*.png"))
    frame = predict(run / "model", files)  # another way to the same scans
    true = [called[label] for label in labelled(frame["path"].tolist(), said)]
    there = sorted(set(true), key=CLASSES.index)
    overall = metrics["overall"]
    assert metrics["classes"] == list(CLASSES) and metrics["n_scans"] == 24
    assert metrics["n_patients"] == 12
    expected = balanced_accuracy_score(true, frame["predicted"])  # over the classes in `true`
    assert overall["balanced_accuracy"]["value"] == pytest.approx(expected, abs=1e-12)
    assert overall["accuracy"]["value"] == pytest.approx(np.mean(frame["predicted"] == true))
    counts = confusion_matrix(true, frame["predicted"], labels=CLASSES)
    assert metrics["confusion"] == counts.tolist()
    each = []
    for name in there:
        own = np.array(true) == name
        each.append(roc_auc_score(own, frame[f"probability_{name}"]))
        row = metrics["per_class"][name]
        assert row["auroc"]["value"] == pytest.approx(each[-1], abs=1e-9)
        assert row["support"] == own.sum()
    assert overall["auroc"]["value"] == pytest.approx(np.mean(each), abs=1e-9)
    missing = metrics["per_class"]["CNV"]
    assert missing["sensitivity"]["value"] is None and missing["support"] == 0
    assert missing["specificity"]["value"] == pytest.approx(np.mean(frame["predicted"] != "CNV"))


def test_a_class_that_the_model_does_not_know_is_refused_or_left_out(
    run: Path, tmp_path: Path, fails: Fails
) -> None:
    save_scans(tmp_path / "other", {"CNV": 2, "DME": 2, "ERM": 1}, first=1)
    said = fails("--data", tmp_path / "other")
    assert "ERM (2 scans) is no class of test_resnet-seed0, which knows DME, CNV" in said
    assert "--unknown-classes drop" in said and "--classes ERM=CLASS" in said
    assert "labelled EMR" in fails("--data", tmp_path / "other", "--classes", "EMR=CNV")
    assert "is not LABEL=CLASS" in fails("--data", tmp_path / "other", "--classes", "EMR")
    folder = evaluated(run, "--data", tmp_path / "other", "--unknown-classes", "drop")
    assert read_json(folder / "metrics.json")["n_scans"] == 8
    assert any("2 scans left out" in note for note in read_json(folder / "external.json")["notes"])


def test_a_table_with_numbers_for_labels_and_scans_without_one(
    run: Path, tmp_path: Path, fails: Fails
) -> None:
    data = tmp_path / "numbers"
    for n in range(6):
        save_picture(data / f"{n}.png", n)
    frame = pd.DataFrame(
        {"path": [f"{n}.png" for n in range(6)], "label": [1, 0, 0, 1, None, 1],
         "patient": list("aabbcc")}
    )  # fmt: skip
    frame["label"] = frame["label"].astype("Int64")
    frame.rename(columns={"label": "Grade"}).to_csv(data / "others.csv", index=False)
    frame.to_csv(data / "scans.csv", index=False)
    assert "0 (2 scans) and 1 (3 scans) are no classes of" in fails("--data", data / "scans.csv")
    folder = evaluated(run, "--data", data / "scans.csv", "--classes", "0=NORMAL, 1=CNV")
    predictions = pd.read_parquet(folder / "predictions.parquet").set_index("scan")
    assert predictions["label"].to_dict() == {
        "0.png": "CNV", "1.png": "NORMAL", "2.png": "NORMAL", "3.png": "CNV", "5.png": "CNV"
    }  # fmt: skip
    assert folder.name == "scans"
    words = ["--data", str(data / "others.csv"), "--columns", "label=Grade", "--resamples", "50"]
    assert main(["evaluate", str(run), *words, "--classes", "0=NORMAL,1=CNV"]) == 0
    again = pd.read_parquet(run / "external" / "others" / "predictions.parquet")
    assert again["label"].tolist() == predictions["label"].tolist()


def test_one_patient_has_no_interval_and_no_temperature_is_fitted(
    run: Path, tmp_path: Path
) -> None:
    save_named(tmp_path / "one", [("CNV", "7", n) for n in range(3)])
    metrics = read_json(evaluated(run, "--data", tmp_path / "one") / "metrics.json")
    assert metrics["overall"]["accuracy"]["low"] is None
    assert any("one patient" in note for note in metrics["notes"])
    validation = read_json(run / "metrics-val.json")["calibration"]
    assert metrics["calibration"]["temperature"] == validation["temperature"]
    assert metrics["calibration"]["temperature_source"] == "validation"


def test_of_a_run_that_was_copied_alone_no_temperature_is_known(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "copied" / "model-of-mine"
    shutil.copytree(run, alone)
    save_scans(tmp_path / "other", {"CNV": 2, "DME": 2}, first=1)
    assert main(["evaluate", str(alone)]) == 2
    assert "not beside it" in capsys.readouterr().err
    metrics = read_json(evaluated(alone, "--data", tmp_path / "other") / "metrics.json")
    assert metrics["calibration"]["temperature"] is None
    assert "no temperature of the validation split" in metrics["calibration"]["temperature_source"]
    assert "cannot be known whether it has met" in " ".join(capsys.readouterr().err.split())


# --- leaks --------------------------------------------------------------------------------------


def test_the_own_scans_of_the_study_are_no_external_set(made: Path, fails: Fails) -> None:
    said = fails("--data", made / "data")
    assert "8 of 24 scans" not in said  # both train and val count
    assert "16 of 24 scans are files that test_resnet-seed0 was trained or validated on" in said


def test_scans_of_training_are_found_by_content_under_other_names(
    run: Path, made: Path, tmp_path: Path, fails: Fails, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    save_scans(other, {"CNV": 2, "DME": 2}, first=1)
    leaked = made / "data" / "images" / "CNV" / "p1000" / "0.png"  # train
    shutil.copyfile(leaked, other / "images" / "CNV" / "p1" / "renamed.png")
    said = fails("--data", other)
    assert "1 of 9 scans is a file that" in said and "renamed.png" in said
    folder = evaluated(run, "--data", other, "--on-overlap", "move")
    assert read_json(folder / "metrics.json")["n_scans"] == 8
    shutil.rmtree(run / "external")
    capsys.readouterr()
    folder = evaluated(run, "--data", other, "--on-overlap", "allow")
    assert read_json(folder / "metrics.json")["n_scans"] == 9
    assert "OVERRIDE: 1 of 9 scans is a file" in " ".join(capsys.readouterr().err.split())


def test_scans_of_training_are_found_when_they_were_saved_anew(
    run: Path, made: Path, tmp_path: Path, fails: Fails, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    save_scans(other, {"CNV": 2, "DME": 2}, first=1)
    trained = Image.open(made / "data" / "images" / "CNV" / "p1000" / "0.png")
    validated = Image.open(made / "data" / "images" / "DME" / "p1101" / "1.png")
    trained.save(other / "images" / "CNV" / "p1" / "a.jpg", quality=90)
    validated.resize((2 * SIZE[1], 2 * SIZE[0])).save(other / "images" / "DME" / "p101" / "b.png")
    said = fails("--data", other)
    assert "2 of 10 scans show the same pictures as what" in said and "a.jpg" in said
    folder = evaluated(run, "--data", other, "--on-overlap", "move")
    assert read_json(folder / "metrics.json")["n_scans"] == 8
    assert read_json(folder / "external.json")["n_scans"] == 8
    assert main(["explain", str(run), "--data", str(other), "--methods", "gradcam"]) == 0
    assert "2 of 10 scans show the same pictures" in " ".join(capsys.readouterr().err.split())


def test_patients_of_training_are_found_by_their_id(
    run: Path, tmp_path: Path, fails: Fails
) -> None:
    other = tmp_path / "other"
    new = [("CNV", "p1000", 7000 + n) for n in range(3)]  # new scans of a patient of training
    save_named(other, [*new, *(("DME", f"other{n}", n) for n in range(4))])
    said = fails("--data", other)
    assert "1 patient with 3 further scans has the id of a patient" in said and "p1000" in said
    assert "--own-ids true" in said
    folder = evaluated(run, "--data", other, "--own-ids", "true")
    assert read_json(folder / "metrics.json")["n_scans"] == 7


def test_scans_of_the_test_split_are_allowed_and_said(
    run: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    save_named(other, [("CNV", f"other{n}", n) for n in range(3)])
    tested = made / "data" / "images" / "CNV" / "p1002" / "0.png"
    shutil.copyfile(tested, other / "CNV-another-1.png")
    evaluated(run, "--data", tmp_path / "other")
    said = " ".join(capsys.readouterr().err.split())
    assert "1 scan of the test split of the study" in said


def test_data_that_have_moved_are_said_once(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_study(tmp_path / "study", tmp_path / "data")
    write_json(run.parents[1] / "study.json", {"root": str(tmp_path / "data"), "name": "mine"})
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    assert main(["evaluate", str(run), "--data", str(tmp_path / "elsewhere")]) == 0
    told = capsys.readouterr()
    assert f"have moved from {tmp_path / 'data'} to {tmp_path / 'elsewhere'}" in told.err
    assert told.out.strip() == str(run / "metrics-val.json")
    assert not (run / "external").exists() and not openings(run)
    about = read_json(run.parents[1] / "study.json")
    assert about == {"root": str(tmp_path / "elsewhere"), "name": "mine"}
    cache = ScanCache.open(run.parents[1] / "cache", read_json(run / "run.json")["cache_digest"])
    assert all(path.is_file() for path in cache.table.paths)
    assert main(["evaluate", str(run), "--data", str(tmp_path / "elsewhere")]) == 2, "once"
    assert "leave out --data" in capsys.readouterr().err


# --- what is kept -------------------------------------------------------------------------------


def test_each_opening_has_its_line_in_the_ledger(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_scans(tmp_path / "other", {"CNV": 2, "DME": 2}, first=1)
    evaluated(run, "--data", tmp_path / "other", "--why", "for the paper")
    evaluated(run, "--data", tmp_path / "other")
    first, second = openings(run)
    assert first["why"] == "for the paper" and second["why"] == "by command"
    assert first["split"] == "external" and first["external"] == "other"
    assert first["n_scans"] == 8 and first["digest"] == second["digest"]
    assert "The external set other was opened 2 times." in capsys.readouterr().err


def test_another_set_of_the_same_name_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place, first in (("a", 1), ("b", 501)):
        save_scans(tmp_path / place / "clinic", {"CNV": 2, "DME": 2}, first=first)
    folder = evaluated(run, "--data", tmp_path / "a" / "clinic")
    before = names_below(folder)
    words = ["evaluate", str(run), "--data", str(tmp_path / "b" / "clinic")]
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "holds the results of other scans" in said and "--name" in said
    assert names_below(folder) == before
    assert main([*words, "--name", "clinic b", "--resamples", "50"]) == 0
    assert sorted(path.name for path in (run / "external").iterdir()) == ["clinic", "clinic b"]
    assert names_below(folder) == before
    shutil.move(tmp_path / "a", tmp_path / "moved")  # the same scans in another place
    again = ["--data", str(tmp_path / "moved" / "clinic"), "--resamples", "50"]
    assert main(["evaluate", str(run), *again]) == 0


@pytest.mark.parametrize("name", ["..", "a/b", "", ".hidden", "x" * 300])
def test_a_name_that_is_no_folder_is_refused(name: str, tmp_path: Path, fails: Fails) -> None:
    save_scans(tmp_path / "other", {"CNV": 1}, first=1)
    assert "becomes the name of a folder" in fails("--data", tmp_path / "other", "--name", name)


def test_a_split_of_the_other_data_alone(run: Path, tmp_path: Path) -> None:
    for split, first in (("train", 1), ("test", 51)):
        save_scans(tmp_path / "other" / split, {"CNV": 2, "DME": 1}, first=first)
    folder = evaluated(run, "--data", tmp_path / "other", "--split", "test")
    assert folder.name == "other-test"
    assert read_json(folder / "metrics.json")["n_scans"] == 6


def test_unreadable_files_are_named_and_set_aside(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_scans(tmp_path / "other", {"CNV": 2, "DME": 1}, first=1)
    (tmp_path / "other" / "images" / "CNV" / "p1" / "broken.png").write_bytes(b"\x89PNG no")
    folder = evaluated(run, "--data", tmp_path / "other")
    assert read_json(folder / "metrics.json")["n_scans"] == 6
    assert "broken.png" in " ".join(capsys.readouterr().err.split())
    assert len(read_json(folder / "external.json")["unreadable"]) == 1


def test_copies_within_the_set_are_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_scans(tmp_path / "other", {"CNV": 2, "DME": 1}, first=1)
    images = tmp_path / "other" / "images"
    shutil.copyfile(images / "CNV" / "p1" / "0.png", images / "DME" / "p101" / "again.png")
    evaluated(run, "--data", tmp_path / "other")
    said = " ".join(capsys.readouterr().err.split())
    assert "1 file with the very content of another" in said and "under another label" in said


# --- what is refused ----------------------------------------------------------------------------


def test_what_cannot_be_evaluated_is_one_sentence(run: Path, tmp_path: Path, fails: Fails) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty folder" in fails("--data", tmp_path / "empty")
    assert "no such file or folder" in fails("--data", tmp_path / "gone")
    flat = save_picture(tmp_path / "flat" / "a.png", 1).parent
    assert "octoscope predict" in fails("--data", flat)
    broken = tmp_path / "broken" / "CNV"
    broken.mkdir(parents=True)
    (broken / "a.png").write_bytes(b"no picture")
    assert "none of the 1 scans can be read" in fails("--data", tmp_path / "broken")
    assert "--own-ids: for scans from elsewhere" in fails("--own-ids", "true")
    assert "holds no trained model" in fails("--data", flat, run=run.parent)


def test_a_volume_is_set_aside_with_a_sentence(run: Path, tmp_path: Path, fails: Fails) -> None:
    folder = tmp_path / "volumes" / "CNV"
    folder.mkdir(parents=True)
    np.save(folder / "a.npy", np.stack([picture(n) for n in range(3)]))
    assert "volume of 3 B-scans" in fails("--data", tmp_path / "volumes")


def test_where_there_is_no_test_split_none_is_opened(run: Path, fails: Fails) -> None:
    cache = ScanCache.open(run.parents[1] / "cache")
    split = cache.table.frame["split"]
    assert cache.folder is not None
    without = cache.table.noting(split=split.where(split != "test", "train"))
    save_table(cache.folder / "table.parquet", without)
    about = {**read_json(run / "run.json"), "cache_digest": replace(cache, table=without).digest}
    write_json(run / "run.json", about)
    assert 'no scan is in split "test"' in fails("--split", "test")
    assert not openings(run)


# --- the model's own order ----------------------------------------------------------------------


def test_the_model_decides_what_a_logit_is(run: Path, tmp_path: Path) -> None:
    save_scans(tmp_path / "other", dict.fromkeys(sorted(CLASSES), 2), first=1)
    folder = evaluated(run, "--data", tmp_path / "other")
    frame = pd.read_parquet(folder / "predictions.parquet")
    named = [c for c in frame.columns if c.startswith("logit_")]
    assert named == [f"logit_{name}" for name in Classifier.load(run / "model").classes]
    assert (frame["target"] == [CLASSES.index(label) for label in frame["label"]]).all()


# --- maps and trust elsewhere -------------------------------------------------------------------

QUICK = [
    "--methods", "gradcam", "--scans", "4", "--steps", "2", "--sanity-scans", "3", "--stages", "2",
    "--stability-scans", "3", "--draws", "1", "--resamples", "20", "--probes", "false",
]  # fmt: skip


def test_maps_and_localisation_of_an_external_set_lie_beside_it(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    save_scans(other, {"cnv": 2, "DME": 2, "DRUSEN": 2, "NORMAL": 2}, first=1, masks=True)
    folder = evaluated(run, "--data", other)
    words = ["--methods", "gradcam", "--data", str(other)]
    assert main(["explain", str(run), *words]) == 0
    assert not (run / "maps.zarr").exists() and not (run / "localisation.json").exists()
    predictions = pd.read_parquet(folder / "predictions.parquet")
    right = (predictions["label"] == predictions["predicted"]).sum()
    localisation = read_json(folder / "localisation.json")
    assert localisation["scored"] == right > 0
    assert localisation["left_out_as_wrong"] == 16 - right
    scores = pd.read_parquet(folder / "scores.parquet")
    assert set(scores["label"]) <= set(CLASSES)
    store = MapStore.open(folder / "maps.zarr", read_only=True)
    cache = ScanCache.open(folder / "cache")
    classifier = Classifier.load(run / "model")
    maps = octoscope.explain(classifier, as_images(cache.images[:3]), ["gradcam"])
    stored = store.read_rows(np.arange(3), "gradcam", (32, 48))
    fresh = maps["gradcam"].numpy()
    np.testing.assert_allclose(stored, fresh, atol=0.01 * np.abs(fresh).max())  # kept as float16


def test_a_trust_card_elsewhere_leaves_that_of_the_study(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    save_scans(other, {"DME": 3, "NORMAL": 3}, first=1)
    (run / "trust.json").write_text('{"mine": true}')
    assert main(["trust", str(run), "--data", str(other), "--why", "elsewhere", *QUICK]) == 0
    folder = run / "external" / "other"
    card = read_json(folder / "trust.json")
    assert card["split"] == "test" and card["external"] == "other"
    assert card["classes"] == list(CLASSES) and card["scans"] == 4
    assert card["notes"][0].startswith("Of 12 scans of other, faithfulness")
    assert read_json(run / "trust.json") == {"mine": True}
    assert not (run.parents[1] / "report.html").exists()
    assert not (run.parents[1] / "stages").exists()
    assert [entry["why"] for entry in openings(run)] == ["elsewhere"]
    assert "scans of other of" in " ".join(capsys.readouterr().err.split())


def test_the_test_split_is_explained_and_examined_on_purpose(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--split", "test", "--why", "to see"]
    assert main(["explain", str(run), "--methods", "gradcam", *words]) == 0
    assert capsys.readouterr().out.strip() == str(run / "test" / "maps.zarr")
    assert main(["trust", str(run), *words, *QUICK]) == 0
    card = read_json(run / "test" / "trust.json")
    assert card["split"] == "test" and card["notes"][0].startswith("Of 8 test scans")
    assert [entry["split"] for entry in openings(run)] == ["test", "test"]
    assert (run / "metrics-test.json").is_file() and not (run / "trust.json").exists()


def test_a_set_is_read_again_as_it_was_evaluated(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_scans(tmp_path / "other", {"a": 2, "b": 2}, first=1)
    explain = ["explain", str(run), "--methods", "gradcam", "--data", str(tmp_path / "other")]
    assert main(explain) == 2
    assert "a (4 scans) and b (4 scans) are no classes" in capsys.readouterr().err
    evaluated(run, "--data", tmp_path / "other", "--classes", "a=CNV,b=DME")
    assert main(explain) == 0
    assert main([*explain, "--split", "test"]) == 2
    assert "--split" in capsys.readouterr().err


def test_a_folder_is_drawn_up_to_a_number(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_scans(tmp_path / "other", {"CNV": 2, "DME": 1}, first=1, masks=True)
    words = ["explain", str(run), str(tmp_path / "other"), "--methods", "gradcam", "--most", "2"]
    assert main([*words, "--out", str(tmp_path / "drawn")]) == 0
    told = capsys.readouterr()
    assert len(told.out.split()) == 2
    said = " ".join(told.err.split())
    assert "holds 6 scans, of which 2 are drawn, evenly taken; --most 6 draws all" in said
    assert main(["explain", str(run), "--most", "2"]) == 2
    (tmp_path / "empty").mkdir()
    assert main(["explain", str(run), str(tmp_path / "empty")]) == 2
    assert "holds no scans" in capsys.readouterr().err
