"""What lies among the scans and is none: masks under any name, and files that are not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from layout_trees import columns, plant, said
from octoscope.errors import OctoscopeError
from octoscope.scans.layouts import load_table


@pytest.mark.parametrize(
    "folder", ["masks", "mask", "labels", "seg", "Segmentation", "ground_truth", "mask_images"]
)
@pytest.mark.parametrize("scans", ["images", "image", "", "jpg"])
def test_a_folder_that_mirrors_the_scans_holds_masks(
    tmp_path: Path, folder: str, scans: str
) -> None:
    plant(tmp_path, [f"train/{scans}/{c}/{n}.png" for c in ("CNV", "DME") for n in (1, 2)])
    plant(tmp_path, [f"train/{folder}/{c}/{n}.png" for c in ("CNV", "DME") for n in (1, 2)])
    table = load_table(tmp_path)
    above = f"train/{scans}/".replace("//", "/")
    assert columns(table, "path", "label", "mask") == {
        (f"{above}{c}/{n}.png", c, f"train/{folder}/{c}/{n}.png")
        for c in ("CNV", "DME")
        for n in (1, 2)
    }


def test_drawings_are_no_scans_and_no_masks(tmp_path: Path) -> None:
    plant(tmp_path, [f"{kind}/{c}/1.png" for kind in ("images", "annotated") for c in "AB"])
    table = load_table(tmp_path)
    assert columns(table, "path", "mask") == {("images/A/1.png", None), ("images/B/1.png", None)}
    assert said(table, "2 pictures in the folder annotated mirror the scans beside it")


def test_masks_beside_scans_by_their_names(tmp_path: Path) -> None:
    plant(tmp_path, [f"CNV/{n}{end}.png" for n in (1, 2) for end in ("", "_mask")] + ["DME/3.png"])
    table = load_table(tmp_path)
    assert columns(table, "path", "mask") == {
        ("CNV/1.png", "CNV/1_mask.png"),
        ("CNV/2.png", "CNV/2_mask.png"),
        ("DME/3.png", None),
    }


def test_a_class_called_label_is_a_class(tmp_path: Path) -> None:
    plant(tmp_path, [f"{c}/{c}-of-{n}.png" for c in ("label", "unlabel") for n in (1, 2)])
    assert load_table(tmp_path).classes == ("label", "unlabel")
    plant(tmp_path / "y", ["lesion_mask.png", "other.png"])
    assert "y/lesion_mask.png" in set(load_table(tmp_path, "folders").frame["path"])


@pytest.mark.parametrize("naming", ["{}", "train/{0}/{0}-{1}-1", "{0}/pat{1}/1"])
@pytest.mark.parametrize("kind", [".dcm", ".vol", ".E2E", ".fda", ".mat", ".nii.gz"])
def test_a_class_of_files_that_are_not_read_is_named(
    tmp_path: Path, naming: str, kind: str
) -> None:
    naming = naming if "/" in naming else "{0}/{1}"
    plant(tmp_path, [naming.format("CNV", n) + ".png" for n in (11, 12)])
    plant(tmp_path, [naming.format("NORMAL", n) + kind for n in (21, 22)])
    with pytest.raises(OctoscopeError, match=r"class NORMAL has only files that are not read \(2"):
        load_table(tmp_path)
    plant(tmp_path, [naming.format("NORMAL", 23) + ".png"])
    table = load_table(tmp_path)
    assert table.classes == ("CNV", "NORMAL")
    assert said(table, f"2 files with other endings not read: 2 {kind.lower()} (")


def test_folders_without_scans_are_no_lost_class(tmp_path: Path) -> None:
    plant(tmp_path, ["CNV/1.png", "DME/2.png", "docs/paper.pdf", "docs/x.txt", "notes/1.md"])
    table = load_table(tmp_path)
    assert table.classes == ("CNV", "DME")
    assert said(table, "3 files with other endings not read: 1 .pdf, 1 .txt, 1 .md")


def test_only_files_that_are_not_read(tmp_path: Path) -> None:
    plant(tmp_path, ["CNV/1.dcm", "CNV/2.dcm", "CNV/readme.txt"])
    with pytest.raises(OctoscopeError, match=r"2 \.dcm \(DICOM\), 1 \.txt\); scans end in .*conv"):
        load_table(tmp_path)
