"""Trees of folders as people have them: the right reading, or a question."""

from __future__ import annotations

from pathlib import Path

import pytest

from layout_trees import columns, kermany_v2, plant, said
from octoscope.errors import OctoscopeError
from octoscope.scans.layouts import load_table


def test_class_folders(tmp_path: Path) -> None:
    table = load_table(plant(tmp_path, ["train/AMD/001.png", "test/AMD/9.jpg", "train/GA/x.tif"]))
    assert table.layout == "folders"
    assert columns(table, "label", "patient", "split") == {
        ("AMD", None, "train"),
        ("AMD", None, "test"),
        ("GA", None, "train"),
    }
    assert table.notes[0] == (
        "read as class folders: 3 scans of 2 classes (AMD 2, GA 1) from unknown patients."
    )


def test_patient_folders(tmp_path: Path) -> None:
    plant(tmp_path, ["data/AMD/p1/1.png", "data/AMD/p1/2.png", "data/GA/p1/1.png", "data/GA/x.png"])
    table = load_table(tmp_path)
    assert columns(table, "path", "label", "patient") == {
        ("data/AMD/p1/1.png", "AMD", "p1"),
        ("data/AMD/p1/2.png", "AMD", "p1"),
        ("data/GA/p1/1.png", "GA", "p1"),
        ("data/GA/x.png", "GA", None),
    }
    assert table.notes[0].startswith(
        "read as class folders below data with a folder for each patient: 4 scans"
    )
    assert said(table, "1 patient with scans in several classes (first: p1)")


def test_numbered_files_in_class_folders_are_not_kermany(tmp_path: Path) -> None:
    plant(tmp_path, [f"{c}/scan-{p}-{n}.png" for c in "AB" for p in (1, 2) for n in (1, 2)])
    plant(tmp_path, [f"{c}/img-{p}.png" for c in "AB" for p in (1, 2)])
    table = load_table(tmp_path)
    assert table.layout == "folders"
    assert table.classes == ("A", "B")


def test_the_guess_can_be_overridden(tmp_path: Path) -> None:
    plant(tmp_path, [f"{c}/scan-{p}-1.png" for c in "AB" for p in (1, 2)])
    table = load_table(tmp_path, layout="kermany")
    assert table.layout == "kermany"
    assert table.classes == ("scan",)
    plant(tmp_path / "v2", kermany_v2())
    plain = load_table(tmp_path / "v2", layout="folders")
    assert plain.layout == "folders"
    assert plain.frame["patient"].isna().all()
    with pytest.raises(OctoscopeError, match=r'no image is named CLASS-patient-n.*"folders"'):
        load_table(plant(tmp_path / "x", ["A/1.png"]), layout="kermany")


def test_images_without_any_class(tmp_path: Path) -> None:
    table = load_table(plant(tmp_path, ["1.png", "2.png"]))
    assert table.classes == ()
    assert table.targets.tolist() == [-1, -1]
    assert table.notes[0].startswith("read as images without class folders: 2 scans from unknown")
    plant(tmp_path, ["A/3.png", "B/4.png"])
    assert said(load_table(tmp_path), "2 images in no class folder (first: 1.png)")
