"""Whole studies: files, splits, repeatability, and what happens when things go wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from octoscope.errors import OctoscopeError
from octoscope.scans.phantom import study
from octoscope.scans.phantom.diseases import CLASSES
from octoscope.scans.phantom.lesions import LESION_VALUES
from octoscope.scans.phantom.shortcut import PLANTED_DEVICE, Shortcut
from octoscope.scans.phantom.study import read_study, write_study
from octoscope.scans.table import ScanTable

SMALL = {"patients": 12, "scans_per_patient": 2, "height": 64, "width": 96, "workers": 1}


def small(out: Path, **options: object) -> ScanTable:
    return write_study(out, **(SMALL | options))  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantoms") / "study"
    small(out)
    return out


def test_the_folder_is_in_kermany_layout_with_masks(written: Path) -> None:
    table = read_study(written)
    assert len(table) == 24 and table.classes == CLASSES and table.layout == "kermany"
    for row in table.frame.itertuples():
        number = Path(row.path).stem.split("-")[2]
        name = f"{row.split}/{row.label}/{row.label}-{row.patient}-{number}.png"
        assert row.path == f"images/{name}" and row.mask == f"masks/{name}"
        with Image.open(written / row.path) as image, Image.open(written / row.mask) as mask:
            assert image.size == mask.size == (row.width, row.height) == (96, 64)
            assert image.mode == mask.mode == "L"
    lesions = json.loads((written / "lesions.json").read_text())
    assert lesions == {"0": "background"} | {str(v): k for k, v in LESION_VALUES.items()}


def test_the_manifest_says_everything(written: Path) -> None:
    frame = pd.read_csv(written / "manifest.csv")
    assert list(frame.columns) == [
        "path", "label", "patient", "eye", "visit", "split", "mask", "device", "severity",
        "shortcut", "width", "height",
    ]  # fmt: skip
    assert not frame["shortcut"].any() and (frame["visit"] == 0).all()
    assert ((frame["severity"] > 0) == (frame["label"] != "NORMAL")).all()


def test_masks_are_empty_only_for_normal_scans(written: Path) -> None:
    table = read_study(written)
    for row in table.frame.itertuples():
        pixels = np.asarray(Image.open(written / row.mask))
        assert pixels.any() == (row.label != "NORMAL"), row.path


def test_the_same_options_give_the_same_bytes_on_any_number_of_workers(
    written: Path, tmp_path: Path
) -> None:
    small(tmp_path / "two", workers=2)
    assert contents(tmp_path / "two") == contents(written)


def test_another_seed_gives_other_pictures(written: Path, tmp_path: Path) -> None:
    small(tmp_path / "other", seed=1)
    a, b = contents(written / "images"), contents(tmp_path / "other" / "images")
    assert len(set(a.values())) == len(a) == 24
    assert not set(a.values()) & set(b.values())


def test_a_finished_study_is_not_written_again(written: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in written.rglob("*")}
    assert small(written) == read_study(written)
    assert {p: p.stat().st_mtime_ns for p in written.rglob("*")} == before


def test_other_options_in_the_same_folder_are_refused(written: Path) -> None:
    with pytest.raises(OctoscopeError, match=r"other options \(seed, shortcut differ\)"):
        small(written, seed=3, shortcut=Shortcut("marker"))


def test_a_folder_with_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(OctoscopeError, match="holds something else"):
        small(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("text", ["[]", "{}", '{"config": 3}'])
def test_a_foreign_phantom_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "phantom.json").write_text(text)
    with pytest.raises(OctoscopeError, match="other options"):
        small(tmp_path)


def test_a_script_that_worker_processes_cannot_import_is_told_why(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from octoscope.scans.phantom import write_study\n"
        f"write_study(Path({str(tmp_path / 'out')!r}), patients=12, scans_per_patient=1,"
        " height=64, width=64, workers=2)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if "OctoscopeError" in line]
    assert "use workers=1" in said[-1]  # Python may warn of worker processes after it
    assert [p.name for p in tmp_path.iterdir()] == ["script.py"]


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OctoscopeError, match="out"):
        small(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "a file"


def test_an_empty_folder_is_used(tmp_path: Path, written: Path) -> None:
    (tmp_path / "out").mkdir()
    small(tmp_path / "out")
    assert contents(tmp_path / "out") == contents(written)


def test_an_interrupted_run_leaves_nothing_and_can_be_run_again(
    tmp_path: Path, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = study.write_patient, []

    def interrupted(task: study.Task) -> list[dict[str, object]]:
        calls.append(task)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(task)

    monkeypatch.setattr(study, "write_patient", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    small(tmp_path / "out")
    assert contents(tmp_path / "out") == contents(written)


@pytest.mark.parametrize("kind", ["marker", "border", "size", "device"])
def test_a_shortcut_is_planted_as_asked_and_recorded(kind: str, tmp_path: Path) -> None:
    shortcut = Shortcut(kind, "DRUSEN", 0.5, 0.25)  # type: ignore[arg-type]
    table = small(tmp_path / kind, shortcut=shortcut, scans_per_patient=4, both_classes=0.0)
    frame = table.frame
    for split in ("train", "val", "test"):
        for label in CLASSES:
            flags = frame[(frame["split"] == split) & (frame["label"] == label)]["shortcut"]
            share = 0.5 if label == "DRUSEN" else 0.25
            assert abs(flags.sum() - share * len(flags)) <= 0.5
    said = json.loads((tmp_path / kind / "phantom.json").read_text())
    assert said["config"]["shortcut"] == {
        "kind": kind, "label": "DRUSEN", "strength": 0.5, "elsewhere": 0.25,
    }  # fmt: skip
    counts = frame.groupby("label")["shortcut"].sum()
    assert said["shortcut_scans_by_class"] == counts.to_dict()
    planted = frame["shortcut"].to_numpy(bool)
    if kind == "size":
        assert ((frame["height"] == 48) == planted).all()
    if kind == "device":
        assert ((frame["device"] == PLANTED_DEVICE) == planted).all()
    if kind in ("marker", "border"):
        clean = small(tmp_path / "clean", scans_per_patient=4, both_classes=0.0)
        for path, flag in zip(frame["path"], planted, strict=True):
            same = (table.root / path).read_bytes() == (clean.root / path).read_bytes()
            assert same != flag


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"patients": 11}, "at least 12"),
        ({"scans_per_patient": 0}, "scans_per_patient 0"),
        ({"height": 10}, "height 10"),
        ({"width": 100_000}, "width 100000"),
        ({"severity": (0.5, 1.5)}, "severity 0.5"),
        ({"fractions": (0.5, 0.5, 0.0)}, "fractions"),
        ({"fractions": (0.5, 0.2, 0.2)}, "sum to 1"),
        ({"both_classes": 2.0}, "both_classes 2.0"),
        ({"layout": "folder"}, 'layout "folder"'),
        ({"workers": 0}, "workers 0"),
    ],
)
def test_options_out_of_range_are_named(
    options: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(OctoscopeError, match=sentence):
        small(tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_reading_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OctoscopeError, match=r"manifest\.csv"):
        read_study(tmp_path)
