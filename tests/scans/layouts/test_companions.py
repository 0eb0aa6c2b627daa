"""Masks, lesion names and tables beside the scans."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from layout_trees import columns, kermany_v2, plant, plant_lesions, said
from octoscope.errors import OctoscopeError
from octoscope.scans.layouts import load_table


def test_masks_beside_images(tmp_path: Path) -> None:
    plant_lesions(tmp_path)
    plant(tmp_path, ["masks/train/CNV/CNV-77-1.png"])
    table = load_table(tmp_path)
    assert columns(table, "path", "mask") == {
        ("images/train/CNV/CNV-1-1.jpeg", "masks/train/CNV/CNV-1-1.png"),
        ("images/train/DME/DME-2-1.jpeg", "masks/train/DME/DME-2-1.png"),
        ("images/val/CNV/CNV-3-1.jpeg", "masks/val/CNV/CNV-3-1.png"),
        ("images/val/DME/DME-4-1.jpeg", None),
    }
    assert table.lesions == {1: "intraretinal_cyst", 4: "retinal_drusen"}
    assert said(table, "lesion masks found for 3 of 4 scans")
    assert said(table, "1 mask without a scan (masks/train/CNV/CNV-77-1.png)")
    (tmp_path / "lesions.json").unlink()
    assert load_table(tmp_path).lesions == {}
    assert said(load_table(tmp_path), "no lesions.json")


def test_masks_of_class_folders_without_an_images_folder(tmp_path: Path) -> None:
    plant(tmp_path, ["A/1.png", "B/2.png", "masks/A/1.png"])
    table = load_table(tmp_path)
    assert columns(table, "path", "mask") == {("A/1.png", "masks/A/1.png"), ("B/2.png", None)}


def test_a_manifest_adds_its_columns(tmp_path: Path) -> None:
    plant_lesions(tmp_path / "sub")
    pd.DataFrame(
        {
            "path": ["images/train/CNV/CNV-1-1.jpeg", "./images/val/DME/DME-4-1.jpeg", "no.png"],
            "label": ["CNV", "NORMAL", "CNV"],
            "patient": ["1", "004", "8"],
            "eye": ["OD", "OS", "OD"],
            "device": ["spectralis", "cirrus", "x"],
            "severity": [0.5, 0.25, 1],
            "mask": [None, "masks/drawn/later.png", None],
        }
    ).to_csv(tmp_path / "sub" / "manifest.csv", index=False)
    table = load_table(tmp_path)
    frame = table.frame.set_index("path")
    first = frame.loc["sub/images/train/CNV/CNV-1-1.jpeg"]
    last = frame.loc["sub/images/val/DME/DME-4-1.jpeg"]
    assert (first["eye"], first["device"], first["severity"]) == ("OD", "spectralis", 0.5)
    assert (last["label"], last["patient"], last["eye"]) == ("DME", "4", "OS")
    assert last["mask"] == "sub/masks/drawn/later.png"
    assert first["mask"] == "sub/masks/train/CNV/CNV-1-1.png"
    assert frame["device"].isna().sum() == 2
    assert said(table, "sub/manifest.csv: 1 row without a scan (sub/no.png)")
    assert said(table, "another label for 1 scan (sub/images/val/DME/DME-4-1.jpeg)")
    assert said(table, "another patient for 1 scan")


def test_a_foreign_manifest_does_no_harm(tmp_path: Path) -> None:
    plant(tmp_path, kermany_v2())
    (tmp_path / "manifest.csv").write_text("something,else\n1,2\n")
    table = load_table(tmp_path)
    assert len(table) == 56
    assert said(table, "a table beside the scans was not used")


def test_lesion_names_that_disagree(tmp_path: Path) -> None:
    plant_lesions(tmp_path / "a")
    plant_lesions(tmp_path / "b")
    (tmp_path / "b" / "lesions.json").write_text('{"1": "retinal_drusen"}')
    with pytest.raises(
        OctoscopeError, match="mask value 1 is retinal_drusen here and intraretinal"
    ):
        load_table(tmp_path)
    for wrong in ('{"drusen": 1}', "[1, 2]", '{"300": "x"}', "{"):
        (tmp_path / "b" / "lesions.json").write_text(wrong)
        with pytest.raises(OctoscopeError, match=r"b/lesions\.json"):
            load_table(tmp_path)
