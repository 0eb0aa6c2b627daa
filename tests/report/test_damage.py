"""Every file of a study, missing or damaged in every way: named, never a traceback."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from octoscope.errors import OctoscopeError
from octoscope.files import read_json, write_json
from octoscope.report import build_report
from octoscope.report.data import data_section
from octoscope.report.explanations import explanations_section
from octoscope.report.files import StudyFiles
from octoscope.report.headline import was_run
from octoscope.report.html import environment
from octoscope.report.models import models_section
from octoscope.report.provenance import provenance_section
from octoscope.report.trust import trust_section

TRUST: dict[str, Any] = {
    "run": "resnet10t-seed0", "model": "resnet10t", "seed": 0, "split": "val", "scans": 16,
    "patients": 8, "classes": ["CNV", "DME", "DRUSEN", "NORMAL"], "notes": ["Of 16 scans."],
    "metrics": {"deletion": {"title": "Deletion", "higher_is_better": False, "headline": True,
                             "family": "faithfulness", "sentence": "x", "range": "0…1"}},
    "methods": {"gradcam": {"title": "Grad-CAM", "null": False, "gated": None, "notes": []}},
    "scoreboard": [{"metric": "deletion", "lesion": "any", "method": "gradcam", "value": 0.2,
                    "low": 0.1, "high": 0.3, "scans": 16, "patients": 8, "undefined": 0,
                    "verdict": "beats the nulls", "null": None, "difference": 0.1}],
    "ranking": [{"method": "gradcam", "title": "Grad-CAM", "beats": 1, "of": 1}],
    "curves": {"deletion": {"title": "Deletion", "x": "x", "fractions": [0, 0.5, 1], "methods": {
        "gradcam": {"mean": [1, 0.5, 0], "low": [1, 0.4, 0], "high": [1, 0.6, 0]}}}},
    "randomisation": {"stages": ["fc", "layer4"], "methods": {
        "gradcam": {"spearman": [0.4, 0.1], "ssim": [0.3, 0.2]}}},
    "agreement": {"methods": ["gradcam"], "spearman": [[1.0]], "top": [[1.0]], "top_share": 0.05},
    "zones": {"names": ["outer_retina"], "titles": {"outer_retina": "outer retina"},
              "shares": {"gradcam": {"all": [{"value": 0.5}], "CNV": [{"value": 0.4}]}},
              "area": {"all": [0.3]}, "chance_outside_retina": 0.6,
              "outside_retina": {"gradcam": {"value": 0.4, "low": 0.3, "high": 0.5}}},
    "probes": [{"probe": "corner", "title": "Corners", "label": "CNV", "effect": 0.3, "low": 0.2,
                "high": 0.4, "harmless": 0.0, "limit": 0.05, "fires": True, "unit": "points",
                "sentence": "x", "scans": 16, "patients": 8}],
    "clusters": {"gradcam": {"sentence": "One.", "clusters": [
        {"number": 1, "scans": 16, "share": 1.0, "classes": {"CNV": 4}, "examples": [0],
         "looks_at": {"place": "outer retina", "share": 0.4, "elsewhere": 0.2}, "artefacts": []}],
        "embedding": [[0.0, 1.0]] * 16, "cluster_of": [1] * 16,
        "by_class": {"CNV": {"sentence": "x"}}}},
    "consensus": {"weights": {"gradcam": 1.0}, "best_single": "gradcam", "metric": "deletion",
                  "consensus": {"value": 0.2, "low": 0.1, "high": 0.3}, "halves": [],
                  "difference": {"value": 0.0, "low": -0.1, "high": 0.1}, "sentence": "Same."},
    "seeds": None, "twin": {"sentence": "They differ."},
    "gallery": [{"method": "gradcam", "metric": "deletion", "worst": [
        {"scan": "a.png", "row": 0, "label": "CNV", "predicted": "DME", "value": 0.01}]}],
    "verdict": {"level": "caution", "headline": "With care.", "sentences": ["x"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, make_study: Callable[..., Path]) -> Path:
    """A finished study of one model, with everything that a report shows."""
    out = make_study(tmp_path_factory.mktemp("damage") / "study", models=("resnet10t",), tests=1)
    write_json(out / "runs" / "resnet10t-seed0" / "trust.json", TRUST)
    agreed = {"models": ["resnet10t-seed0"], "spearman": [[1.0]], "top": [[1.0]]}
    trust = {"runs": ["resnet10t-seed0"], "agreement": {"methods": {"gradcam": agreed}}}
    write_json(out / "trust.json", {**trust, "sentences": ["They agree."]})
    return out


RUN = "runs/resnet10t-seed0"
JSON = [
    "study.json", "audit.json", "methods.json", "trust.json", f"{RUN}/run.json",
    f"{RUN}/recipe.json", f"{RUN}/metrics-val.json", f"{RUN}/metrics-test.json",
    f"{RUN}/panels.json", f"{RUN}/localisation.json", f"{RUN}/trust.json",
]  # fmt: skip
TABLES = [
    "table.parquet", f"{RUN}/predictions-val.parquet", f"{RUN}/predictions-test.parquet",
    f"{RUN}/scores.parquet", f"{RUN}/log.csv",
]  # fmt: skip


@pytest.fixture
def copied(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to damage, with pixels and maps where they were; its figures are drawn in no time."""

    def drawn(self: Figure, out: BinaryIO, **options: object) -> None:
        out.write(b"<svg/>")

    monkeypatch.setattr(Figure, "savefig", drawn)
    aside = shutil.ignore_patterns("cache", "maps.zarr", ".*")
    study = Path(shutil.copytree(whole, tmp_path / "study", ignore=aside))
    for name in ("cache", f"{RUN}/maps.zarr"):
        (study / name).symlink_to(whole / name)
    return study


def told(study: Path, file: str, make: Callable[[Path], object] = StudyFiles.read) -> str:
    """Read (or show) the study; return the sentence that refuses it, or '' if it is taken."""
    try:
        make(study)
    except OctoscopeError as error:
        sentence = str(error)
        assert Path(file).name in sentence and "\n" not in sentence, sentence
        assert len(sentence) < 600 + len(str(study)), sentence
        return sentence
    return ""


def test_the_files_of_a_study_are_all_named_here(copied: Path) -> None:
    there = {
        path.relative_to(copied).as_posix()
        for path in copied.rglob("*")
        if path.is_file() and path.parent.name != "model"
    }
    assert there - {"ledger.jsonl", f"{RUN}/ledger.jsonl"} == {*JSON, *TABLES}


def test_a_whole_study_lacks_nothing_and_what_is_missing_is_named(copied: Path) -> None:
    page = build_report(copied).read_text()
    assert "This report lacks" not in page and "left out, as" not in page
    gone = [*JSON[1:], *TABLES, f"{RUN}/maps.zarr"]
    gone.remove(f"{RUN}/run.json")
    for file in gone:
        (copied / file).unlink()
    page = build_report(copied).read_text()
    named = [file for file in gone if "test" not in file and "trust" not in file]
    assert f"This report lacks {len(named)} things; the notes name what." in page
    for file in named:
        assert f"<li>{file}" in page, file
    assert "was not measured; <code>octoscope trust" in page


@pytest.mark.parametrize("file", [*JSON, *TABLES, f"{RUN}/maps.zarr"])
def test_a_missing_file_is_no_fault_and_named(copied: Path, file: str) -> None:
    (copied / file).unlink()
    if file == "study.json":
        assert "run octoscope study first" in str(told(copied, "study"))
        return
    optional = "trust" in file or "test" in file
    missing = StudyFiles.read(copied).missing
    assert [name.split(" ")[0] for name in missing] == ([] if optional else [file])
    if file == f"{RUN}/trust.json":  # asked for by the settings
        about = read_json(copied / "study.json")
        about["config"]["trust"] = {"run": True}
        write_json(copied / "study.json", about)
        assert StudyFiles.read(copied).missing == [f"{file} (its trust card)"]


@pytest.mark.parametrize("file", [*JSON, *TABLES])
def test_a_damaged_file_is_refused_by_name(copied: Path, file: str) -> None:
    path = copied / file
    content = path.read_bytes()
    noise = np.random.default_rng(0).bytes(2000)
    for damaged in (b"", content[: len(content) // 2], noise, content[:-30] + noise):
        path.write_bytes(damaged)
        assert told(copied, file) or (file.endswith("log.csv") and damaged), "half a log is one"
    for make in (path.mkdir, partial(os.mkfifo, path), partial(path.symlink_to, "/dev/zero")):
        path.rmdir() if path.is_dir() else path.unlink()
        make()
        assert "not a file" in told(copied, file)


def test_a_report_that_is_refused_is_not_there(copied: Path) -> None:
    (copied / RUN / "scores.parquet").write_bytes(b"PAR1")
    with pytest.raises(OctoscopeError, match=r"scores\.parquet"):
        build_report(copied)
    assert not (copied / "report.html").exists()


@pytest.mark.parametrize("file", JSON)
def test_another_kind_of_content_shows_no_number(copied: Path, file: str) -> None:
    fits = "{}" if file != f"{RUN}/panels.json" else "[]"
    required = ("study.json", "audit.json", "run.json", "metrics-val.json", "metrics-test.json")
    for content in ("[]", "{}", '"x"', "null", "7", '{"a": NaN}', "[[[[]]]]"):
        (copied / file).write_text(content)
        fine = content == fits and Path(file).name not in required
        assert bool(told(copied, file)) != fine, content


GONE = object()
WRONG: tuple[Any, ...] = (
    "0.5 <b>", -3.5, 10**30, None, True, [], {}, ["x"], [{}], {"value": "x"}, GONE,
)  # fmt: skip


def places(value: Any, start: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place within JSON, the first two of each list."""
    parts = value.items() if isinstance(value, dict) else enumerate(value[:2])
    for key, part in parts:
        yield (*start, key)
        if isinstance(part, dict | list):
            yield from places(part, (*start, key))


def value_at(whole: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        whole = whole[key]
    return whole


def edited(whole: Any, place: tuple[Any, ...], value: Any) -> str:
    """JSON with another value in one place, or none."""
    changed = json.loads(json.dumps(whole))
    at = value_at(changed, place[:-1])
    if value is GONE:
        del at[place[-1]]
    else:
        at[place[-1]] = value
    return json.dumps(changed)


def rendered(name: str, **content: Any) -> None:
    environment().get_template(f"{name}.html.j2").render(content)


def show_trust(path: Path) -> None:
    rendered("trust", trust=trust_section(StudyFiles.read(path)))


def show_data(path: Path) -> None:
    study = StudyFiles.read(path)
    rendered("data", data=data_section(study), classes=study.classes)


def show_models(path: Path) -> None:
    study = StudyFiles.read(path)
    rendered("models", models=models_section(study))
    facts = provenance_section(study)
    rendered("closing", ledger=study.ledger, provenance=facts, overrides=[], notes=[],
             missing=study.missing, left_out=[], version="", written="")  # fmt: skip
    was_run(study)


def show_explanations(path: Path) -> None:
    rendered("explanations", explanations=explanations_section(StudyFiles.read(path)))


SHOWS = {
    "trust.json": show_trust, "audit.json": show_data, "run.json": show_models,
    "recipe.json": show_models, "study.json": show_models, "panels.json": show_explanations,
    "methods.json": show_explanations,
}  # fmt: skip
DRAWN = {show_explanations: 4, show_trust: 8, show_models: 8, show_data: 8}


@pytest.mark.parametrize("file", JSON)
def test_no_value_of_any_file_ends_in_a_traceback(copied: Path, file: str) -> None:
    """Values of every kind, and none, in places drawn from all places of the file."""
    whole = read_json(copied / file)
    show = SHOWS.get(Path(file).name, StudyFiles.read)
    edits = [(place, wrong) for place in places(whole) for wrong in WRONG]
    count = min(len(edits), DRAWN.get(show, 20))
    for place, wrong in random.Random(file).sample(edits, count):
        (copied / file).write_text(edited(whole, place, wrong))
        told(copied, file, show)


@pytest.mark.parametrize("file", [f"{RUN}/metrics-val.json", f"{RUN}/panels.json", "audit.json"])
def test_no_number_may_be_a_text(copied: Path, file: str) -> None:
    whole = read_json(copied / file)
    unused = {"by_class", "p_value_uncorrected", "p_value_unknown_as_one_patient"}
    numbers = [
        place
        for place in places(whole)
        if isinstance(value_at(whole, place), float) and not unused & set(place)
        and not (place[0] == "artefacts" and place[-1] == "value")
    ]  # fmt: skip
    for place in random.Random(0).sample(numbers, min(8, len(numbers))):
        (copied / file).write_text(edited(whole, place, "0.99"))
        assert '"0.99", not a number' in told(copied, file), place


@pytest.mark.parametrize("kind", ["confusion", "support", "classes", "n_scans"])
def test_metrics_that_contradict_themselves_are_refused(copied: Path, kind: str) -> None:
    path = copied / RUN / "metrics-val.json"
    said = read_json(path)
    if kind == "confusion":
        said["confusion"][0][0] += 1
    elif kind == "support":
        said["per_class"]["CNV"]["support"] += 1
    elif kind == "classes":
        said["classes"] = [*said["classes"][1:], "other"]
    else:
        said["n_scans"] += 5
    write_json(path, said)
    assert "metrics-val.json: is damaged (" in told(copied, str(path))


@pytest.mark.parametrize("file", TABLES)
def test_tables_of_another_form(copied: Path, file: str) -> None:
    path = copied / file
    is_csv = path.suffix == ".csv"
    frame = pd.read_csv(path) if is_csv else pd.read_parquet(path)
    needed = {"table": "patient", "log": "epoch", "scores": "seed"}.get(path.stem, "predicted")
    numbers = frame.select_dtypes("float").columns
    forms = {
        "a column less": frame.drop(columns=needed),
        "other columns": pd.DataFrame({"a": [1]}),
        "no rows": frame[:0],
    }
    if file != "table.parquet":
        forms["texts"] = frame.assign(**{numbers[0]: "x", numbers[-1]: "x", "value": "x"})
    for name, other in forms.items():
        other.to_csv(path, index=False) if is_csv else other.to_parquet(path)
        assert told(copied, file) or name == "no rows", name


def test_a_damaged_map_store_is_one_sentence(copied: Path) -> None:
    store = copied / RUN / "maps.zarr"
    whole = store.resolve()
    store.unlink()
    shutil.copytree(whole, store)
    row = read_json(copied / RUN / "panels.json")[0]["row"]
    chunk = store / "gradcam" / "maps" / "c" / str(row) / "0" / "0"
    content = chunk.read_bytes()
    for damaged in (b"", content[:-4], bytes(len(content))):
        chunk.write_bytes(damaged)
        assert "then `octoscope explain" in told(copied, "maps.zarr", show_explanations)
    chunk.unlink()
    assert "are missing" in told(copied, "maps.zarr", show_explanations)


def test_maps_of_more_classes_than_the_study_has(copied: Path) -> None:
    about = read_json(copied / "study.json")
    write_json(copied / "study.json", {**about, "classes": about["classes"][:1]})
    assert "and the study has 1" in told(copied, "maps.zarr", show_explanations)
