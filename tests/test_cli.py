"""The command line from end to end: a study on small phantoms, and every fault a user can cause."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from octoscope.cli import VERBS, main

SMALL = {
    "name": "small",
    "phantom": {"patients": 40, "scans_per_patient": 2, "height": 96, "width": 128},
    "framing": {"height": 64, "width": 96},
    "models": [
        {"model": "test_resnet", "epochs": 2, "batch_size": 8},
        {"model": "test_vit", "epochs": 1, "batch_size": 8},
    ],
    "resamples": 50,
    "explain": {"panels": 1},
    "trust": {"scans": 6, "sanity_scans": 6, "stages": 2, "stability_scans": 3, "draws": 1},
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of two tiny models on phantoms; returns its folder."""
    folder = tmp_path_factory.mktemp("cli")
    recipe = folder / "small.yaml"
    recipe.write_text(yaml.safe_dump({**SMALL, "out": str(folder / "study")}))
    assert main(["study", str(recipe)]) == 0
    return folder / "study"


def fails(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """Run a command that must fail as users are promised: exit code 2 and one sentence."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("octoscope: ")
    assert "Traceback" not in said
    return said


# --- what works ---------------------------------------------------------------------------------


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from octoscope.cli import VERBS, main; main(['--help'])\n"
        "print([m for m in ('torch', 'pandas', 'numpy', 'timm') if m in sys.modules])\n"
        "for verb in VERBS:\n"
        "    try: main([verb, '--help'])\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "print([m for m in ('torch', 'pandas', 'scipy', 'timm', 'lightning') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line for line in out.stdout.splitlines() if line.startswith("[")] == ["[]", "[]"]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    assert "--config" in capsys.readouterr().out


def test_print_config_is_yaml_that_can_be_given_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump(SMALL))
    with pytest.raises(SystemExit):
        main(["study", str(recipe), "--framing.height", "80", "--print_config"])
    again = tmp_path / "printed.yaml"
    again.write_text(capsys.readouterr().out)
    printed = yaml.safe_load(again.read_text())
    assert printed["framing"]["height"] == 80
    assert [model["model"] for model in printed["models"]] == ["test_resnet", "test_vit"]
    with pytest.raises(SystemExit):
        main(["study", str(again), "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out) == printed


def test_study_leaves_report_metrics_maps_and_scores(small: Path) -> None:
    assert (small / "report.html").stat().st_size > 50_000
    runs = sorted(path.name for path in (small / "runs").iterdir())
    assert runs == ["test_resnet-seed0", "test_vit-seed0"]
    for run in runs:
        metrics = json.loads((small / "runs" / run / "metrics-val.json").read_text())
        assert metrics["bootstrap"]["unit"] == "patient"
        assert metrics["overall"]["accuracy"]["low"] is not None
    assert not list(small.rglob("ledger.jsonl")), "nobody opened the test split"


def test_second_run_does_nothing_twice(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*") if path.is_file()}
    assert main(["study", str(small.parent / "small.yaml")]) == 0
    after = {path: path.stat().st_mtime_ns for path in small.rglob("*") if path.is_file()}
    changed = {p.name for p in after if before.get(p) != after[p]}
    assert changed <= {"panels.json", "files.parquet"}  # the latter: times of fresh files
    assert str(small / "report.html") in capsys.readouterr().out


def test_test_split_is_opened_on_purpose_and_recorded(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small / "runs" / "test_resnet-seed0"
    assert main(["evaluate", str(run), "--split", "test", "--why", "a test"]) == 0
    entries = [json.loads(line) for line in (small / "ledger.jsonl").read_text().splitlines()]
    assert [entry["why"] for entry in entries] == ["a test"]
    assert pd.read_parquet(run / "predictions-test.parquet")["split"].eq("test").all()


def test_a_study_ends_with_a_trust_card_for_every_model(small: Path) -> None:
    for run in (small / "runs").iterdir():
        card = json.loads((run / "trust.json").read_text())
        assert {row["method"] for row in card["ranking"]} >= {"gradcam", "null_edges"}
        assert card["verdict"]["level"] in ("no objection found", "caution", "do not trust")
        assert len(card["probes"]) >= 7
        scores = pd.read_parquet(run / "trust.parquet")
        assert {"insertion_minus_deletion", "outside_retina", "max_sensitivity"} <= set(
            scores["metric"]
        )
        assert set(scores["method"]) >= {"gradcam", "null_edges"}
    both = json.loads((small / "trust.json").read_text())
    assert len(both["runs"]) == 2
    assert "Can it be believed?" in (small / "report.html").read_text()


def test_trust_measures_once_and_again_only_what_hangs_on_a_changed_option(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = next((small / "runs").glob("test_resnet*"))
    words = ["trust", str(run), "--scans", "6", "--sanity-scans", "6", "--stages", "2"]
    words += ["--stability-scans", "3", "--draws", "1", "--resamples", "50"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert " ".join(said.err.split()).count("done before") == 8  # lines are wrapped
    assert str(run / "trust.json") in said.out
    assert main([*words, "--draws", "2"]) == 0
    assert " ".join(capsys.readouterr().err.split()).count("done before") == 7


def test_trust_trains_a_twin_on_shuffled_labels(small: Path) -> None:
    run = next((small / "runs").glob("test_resnet*"))
    words = ["trust", str(run), "--scans", "6", "--sanity-scans", "6", "--stages", "2", "--twin"]
    assert main([*words, "true", "--stability-scans", "3", "--draws", "1"]) == 0
    scores = pd.read_parquet(run / "trust.parquet")
    assert (scores["metric"] == "twin_spearman").any()
    twin = json.loads((run / "trust" / "twin" / "run.json").read_text())
    assert twin["finished"]
    assert twin["cache_digest"] != json.loads((run / "run.json").read_text())["cache_digest"]


def test_trust_says_what_is_wrong(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = next((small / "runs").glob("test_resnet*"))
    assert "run.json" in fails(capsys, "trust", tmp_path)
    assert "scans must be a whole number from 1" in fails(capsys, "trust", run, "--scans", "0")
    assert "gradcm" in fails(capsys, "trust", run, "--methods", "gradcm")
    assert "attention" in fails(capsys, "trust", run, "--methods", "rollout")


def test_explain_single_scans_as_panels(small: Path, tmp_path: Path) -> None:
    scan = next((small / "phantoms" / "images").rglob("*.png"))
    run = small / "runs" / "test_vit-seed0"
    words = ["explain", run, scan, "--methods", "gradcam,layercam", "--out", tmp_path / "panels"]
    assert main([str(word) for word in words]) == 0
    (panel,) = (tmp_path / "panels").glob("*.png")
    assert Image.open(panel).size[0] > 300


def test_phantom_and_check_with_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "phantoms"
    words = ["phantom", out, "--patients", "16", "--scans-per-patient", "2"]
    assert main([str(w) for w in [*words, "--height", "64", "--width", "96"]]) == 0
    table = tmp_path / "table.csv"
    assert main(["check", str(out), "--write", str(table), "--json", str(tmp_path / "a.json")]) == 0
    written = pd.read_csv(table)
    assert (written.groupby("patient")["split"].nunique() == 1).all()
    assert json.loads((tmp_path / "a.json").read_text())["counts"]


# --- what users get wrong -----------------------------------------------------------------------


def test_unknown_verb_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert 'did you mean "train"' in fails(capsys, "trian")
    assert "--laout" in fails(capsys, "check", ".", "--laout", "x").replace("_", "-")


def test_missing_study_file_and_wrong_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "nowhere.yaml" in fails(capsys, "study", tmp_path / "nowhere.yaml")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: x\nframng: {height: 3}\n")
    assert "framng" in fails(capsys, "study", wrong)


def test_a_study_of_nothing_is_not_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in ((), ("--out", "o"), ("--resamples", "50", "--trust.run", "false")):
        assert "a study needs a study file, such as" in fails(capsys, "study", *words)
    assert "use --data ." in fails(capsys, "study", ".")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("check DATA --write DATA", "is a folder; name a file ending in .csv or .parquet"),
        ("check DATA --write t.txt", "t.txt is no file ending in .csv or .parquet"),
        ("check DATA --json DATA", "is a folder; name a file ending in .json"),
        ("check DATA --write FILE/t.csv", "FILE is a file"),
        ("check DATA --seed -1", "--seed must be a whole number from 0"),
        ("train DATA FILE", "FILE is a file; choose another folder"),
        ("train DATA out --seeds 1000000000", "--seeds must be a whole number from 1 to 1000"),
        ("train DATA out --batch-size 0", "--batch-size must be a whole number from 1"),
        ("train DATA out --lr nan", "--lr must be a number above 0, not nan"),
        ("train DATA out --augment {flipp:1}", "flipp"),
        ("train DATA out --model-options.weights x", '"weights" is no option of resnet18'),
        ("train DATA out --model local-dir:DATA", "is not known"),
        ("study --data DATA --out FILE", "FILE is a file; choose another folder"),
        ("study --data DATA --name ../x", "cannot name a folder"),
        ("study --data DATA --seeds [1,1]", "1 stands twice"),
        ("phantom out --patients 0", "--patients must be a whole number from 12"),
        ("phantom out --height 1", "--height must be a whole number from 64 to 4096"),
        ("phantom out --scans-per-patient 0", "--scans-per-patient must be a whole number from 1"),
        ("phantom out --workers 0", "--workers must be a whole number from 1"),
        ("phantom out --severity 0.9,0.1", "the lower end first"),
        ("phantom out --shortcut-strength 2", "--shortcut-strength must be a number from 0 to 1"),
        ("phantom out --shortcut-label CMV", 'did you mean "CNV"'),
        ("phantom FILE", "FILE is a file; choose another folder"),
        ("evaluate DATA --resamples 1000000000000", "--resamples must be a whole number from 1"),
        ("explain DATA --batch-size 0", "--batch-size must be a whole number from 1"),
    ],
)
def test_impossible_options_are_refused_before_any_work(
    words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("DATA").mkdir()
    Path("FILE").touch()
    line = [word.replace("{flipp:1}", "{flipp: 1}") for word in words.split()]
    assert said in fails(capsys, *line)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["DATA", "FILE"]
    assert not list(Path("DATA").iterdir())


def test_every_key_of_a_phantom_section_is_an_option_of_phantom_and_back() -> None:
    from octoscope.options.verb import verb_of
    from octoscope.study.config import PhantomSettings
    from octoscope.verbs.data import phantom

    options = set(verb_of(phantom, "").hints) - {"out", "workers"}
    assert options == {field.name for field in fields(PhantomSettings)}


def test_brackets_in_labels_are_printed_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_scans(tmp_path / "[bold] x", {"CNV[bold]": 4, "[red]DME": 4})
    main(["check", str(data)])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    for text in ("CNV[bold]", "[red]DME"):
        assert text in said.out + said.err


def test_yaml_cannot_name_a_class_to_import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = tmp_path / "evil.yaml"
    evil.write_text("framing: {class_path: os.system, init_args: {command: 'touch pwned'}}\n")
    fails(capsys, "study", evil)
    assert not Path("pwned").exists()


@pytest.mark.parametrize("verb", [("check",), ("study", "--out", "o", "--data"), ("train",)])
def test_empty_and_missing_folder(
    verb: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    rest = [str(tmp_path / "o")] if verb == ("train",) else []
    assert "empty" in fails(capsys, *verb, empty, *rest)
    assert "nowhere" in fails(capsys, *verb, tmp_path / "nowhere", *rest)


def write_scans(root: Path, patients: dict[str, int], scans: int = 2) -> Path:
    """Write small noise pictures in Kermany layout, `patients` per class."""
    rng = np.random.default_rng(0)
    for number, (name, count) in enumerate(patients.items(), start=1):
        for patient in range(count):
            for scan in range(scans):
                path = root / name / f"{name}-{1000 * number + patient}-{scan}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 255, (48, 64), dtype=np.uint8)).save(path)
    return root


def test_class_with_one_patient(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_scans(tmp_path / "data", {"CNV": 6, "DME": 1})
    said = fails(capsys, "train", data, tmp_path / "out", "--model", "test_resnet")
    assert "DME" in said and "patient" in said


def test_unknown_model_suggests_and_spares_what_is_there(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (small / "report.html").read_bytes()
    said = fails(capsys, "train", small / "phantoms", small, "--model", "resnet81")
    assert "resnet18" in said
    assert (small / "report.html").read_bytes() == before


def broken_files(folder: Path) -> dict[str, Path]:
    """Write one file of each kind that no scan is."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    good = folder / "whole.jpeg"
    Image.fromarray(rng.integers(0, 255, (96, 128), dtype=np.uint8)).save(good)
    truncated = folder / "truncated.jpeg"
    truncated.write_bytes(good.read_bytes()[:2000])
    good.unlink()
    dot = folder / "dot.png"
    Image.fromarray(np.zeros((1, 1), dtype=np.uint8)).save(dot)
    text = folder / "text.jpeg"
    text.write_text("this is no picture")
    huge = folder / "huge.png"
    Image.new("1", (20_000, 20_000)).save(huge)
    return {path.stem: path for path in (truncated, dot, text, huge)}


def test_mistyped_method_is_found_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump({**SMALL, "explain": {"methods": ["gradcm"]}}))
    assert 'did you mean "gradcam"' in fails(capsys, "study", wrong, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["truncated", "dot", "text", "huge"])
def test_file_that_is_no_scan(
    kind: str, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = broken_files(tmp_path / "broken")[kind]
    run = small / "runs" / "test_resnet-seed0"
    assert path.name in fails(capsys, "explain", run, path)


def test_broken_files_among_good_ones_are_set_aside_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_scans(tmp_path / "data", {"CNV": 8, "DME": 8})
    for number, path in enumerate(broken_files(tmp_path / "broken").values()):
        shutil.copy(path, data / "CNV" / f"CNV-9{number}-1{path.suffix}")
    said = fails(capsys, "check", data)
    assert "CNV-9" in said
    out = tmp_path / "out"
    words = [
        "train",
        data,
        out,
        "--model",
        "test_resnet",
        "--epochs",
        "1",
        "--framing.height",
        "64",
    ]
    assert main([str(word) for word in [*words, "--framing.width", "64"]]) == 0
    assert "CNV-90" in capsys.readouterr().err


def test_table_with_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.csv"
    table.write_text("path,label,patient\ngone.png,CNV,1\n")
    assert "gone.png" in fails(capsys, "check", table)


def test_run_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(tmp_path) in fails(capsys, "evaluate", tmp_path)
    assert str(tmp_path) in fails(capsys, "explain", tmp_path)
    assert str(tmp_path) in fails(capsys, "report", tmp_path)


def test_study_folder_of_other_scans_is_left_alone(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_scans(tmp_path / "data", {"CNV": 8, "DME": 8})
    before = (small / "study.json").read_bytes()
    assert "another folder" in fails(capsys, "study", "--data", data, "--out", small)
    assert (small / "study.json").read_bytes() == before


# --- figures of scan files ----------------------------------------------------------------------


def first_scan(study: Path) -> Path:
    return min((study / "phantoms" / "images").rglob("*.png"))


@pytest.mark.parametrize(
    ("figure", "file"),
    [
        ("panel", "{scan}-test_vit-seed0.png"),
        ("methods", "{scan}-methods.png"),
        ("models", "models-gradcam.png"),
        ("occlusion", "{scan}-test_vit-seed0-occlusion.png"),
        ("heads", "heads-test_vit-seed0.png"),
        ("patches", "{scan}-test_vit-seed0-patches.png"),
    ],
)
def test_explain_draws_each_kind_of_figure(
    figure: str, file: str, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, run = first_scan(small), small / "runs" / "test_vit-seed0"
    words = ["explain", run, scan, "--figure", figure, "--out", tmp_path / "out"]
    assert main([str(word) for word in words]) == 0
    drawn = tmp_path / "out" / file.format(scan=scan.stem)
    assert capsys.readouterr().out.split() == [str(drawn)]
    assert min(Image.open(drawn).size) > 200


def test_explain_compares_models(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = sorted((small / "runs").iterdir())
    words = ["explain", runs[0], first_scan(small), "--against", runs[1], "--out", tmp_path / "out"]
    assert main([str(word) for word in [*words, "--methods", "gradcam,rollout"]]) == 0
    said = capsys.readouterr()
    assert [Path(line).name for line in said.out.split()] == [
        "models-gradcam.png", "models-rollout.png",
    ]  # fmt: skip
    assert "test_resnet-seed0: left out rollout" in said.err


def test_explain_finds_the_masks_that_the_study_knows(small: Path) -> None:
    from octoscope.study.folder import RunFolder
    from octoscope.study.lesion_masks import LesionMasks

    masks = LesionMasks.of(RunFolder.open(small / "runs" / "test_vit-seed0"))
    mask, names = masks.find(first_scan(small))
    assert masks.tabled[str(first_scan(small))] == mask and names


def test_explain_says_what_is_wrong_with_figures(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, scan = small / "runs" / "test_resnet-seed0", first_scan(small)
    assert 'did you mean "heads"' in fails(capsys, "explain", run, scan, "--figure", "haeds")
    assert "no attention" in fails(capsys, "explain", run, scan, "--figure", "heads")
    assert "transformer" in fails(capsys, "explain", run, scan, "--figure", "panel,patches")
    assert "nowhere" in fails(capsys, "explain", run, scan, "--against", "nowhere")
    assert "nowhere" in fails(capsys, "explain", run, scan, "--masks", "nowhere")
    assert "name the scans" in fails(capsys, "explain", run, "--figure", "panel")
    stored = "--precision, --batch-size: used for whole splits only"
    words = ["explain", run, scan, "--precision", "uint8", "--batch-size", "4"]
    assert stored in fails(capsys, *words)
    assert "DME" in fails(capsys, "explain", run, scan, "--target", "DMEE")
    assert "twice" in fails(capsys, "explain", run, scan, "--against", run)
    assert not (run / "panels").exists()


@pytest.mark.parametrize("words", ["RUN --methods gradcam SCAN", "--methods=gradcam RUN -- SCAN"])
def test_explain_takes_scans_after_options(words: str, small: Path, tmp_path: Path) -> None:
    run, scan = small / "runs" / "test_resnet-seed0", first_scan(small)
    given = words.replace("RUN", str(run)).replace("SCAN", str(scan)).split()
    assert main(["explain", "--out", str(tmp_path / "out"), *given]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_explain_needs_scans_for_what_is_about_figures(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, scan = small / "runs" / "test_resnet-seed0", first_scan(small)
    said = fails(capsys, "explain", run, "--target", "DME", "--out", tmp_path)
    assert "--target, --out: figures are drawn of images" in said
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    assert "file is a file" in fails(capsys, "explain", run, scan, "--out", out)


def test_consensus_is_made_anew_with_other_methods(small: Path, tmp_path: Path) -> None:
    from octoscope.attribution.store import MapStore

    shutil.copytree(small, tmp_path / "study")
    run = tmp_path / "study" / "runs" / "test_resnet-seed0"
    found = {}
    for asked in ("gradcam,hirescam", "gradcam,layercam", "gradcam,hirescam,layercam"):
        assert main(["explain", str(run), "--methods", f"{asked},consensus"]) == 0
        store = MapStore.open(run / "maps.zarr", read_only=True)
        row = int(np.flatnonzero(store.written("consensus"))[0])
        assert set(store.details(row, "consensus")) == {f"weight_{m}" for m in asked.split(",")}
        found[asked] = store.read(row, "consensus")
    first, *others = found.values()
    assert not any(np.array_equal(first, other) for other in others)


def test_study_leaves_methods_out_of_models_that_do_not_know_them(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Families, exclusions, and methods asked for by name that one of two models allows."""
    recipe = tmp_path / "small.yaml"
    methods = ["null", "-null_centre", "rollout", "gradcam"]
    recipe.write_text(yaml.safe_dump({**SMALL, "explain": {"panels": 1, "methods": methods}}))
    capsys.readouterr()
    assert main(["study", str(recipe), "--out", str(small)]) == 0  # trained already
    said = capsys.readouterr().err
    assert "rollout is left out: ResNet has no attention" in said
    html = (small / "report.html").read_text()
    assert "Attention rollout" in html and "Edges (null)" in html
    recipe.write_text(
        yaml.safe_dump(
            {**SMALL, "models": SMALL["models"][:1], "explain": {"methods": ["gradcam", "rollout"]}}
        )
    )
    said = fails(capsys, "study", recipe, "--out", tmp_path / "other")
    assert "Attention rollout is defined for none of the models: ResNet has no attention" in said
    assert not (tmp_path / "other" / "runs").exists()


def test_explain_goes_on_after_a_scan_that_fails(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = small / "runs" / "test_resnet-seed0", tmp_path / "out"
    gone = tmp_path / "gone.png"
    words = ["explain", run, gone, first_scan(small), "--methods", "gradcam", "--out", out]
    assert "gone.png" in fails(capsys, *words)
    assert len(list(out.iterdir())) == 1
