"""Files named CLASS-patient-n, in any folders. Files are empty: nothing is decoded."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from layout_trees import columns, kermany_v2, plant, plant_lesions, said
from octoscope.errors import OctoscopeError
from octoscope.scans.layouts import load_table
from octoscope.scans.splits import ready_splits


def test_kermany_v2_is_recognised_and_said(tmp_path: Path) -> None:
    table = load_table(plant(tmp_path, kermany_v2()))
    assert table.layout == "kermany"
    assert table.classes == ("CNV", "DME", "DRUSEN", "NORMAL")
    assert table.root == tmp_path
    assert table.notes[0] == (
        "read as Kermany v2 (CLASS-patient-n in train, val and test): 56 scans of 4 classes "
        "(CNV 14, DME 14, DRUSEN 14, NORMAL 14) from 6 patients."
    )
    assert len(table) == 56
    assert ("train/CNV/CNV-12-2.jpeg", "CNV", "12", "train") in columns(
        table, "path", "label", "patient", "split"
    )
    assert list(table.frame["path"]) == sorted(kermany_v2())


def test_kermany_v3_has_no_val(tmp_path: Path) -> None:
    table = load_table(plant(tmp_path, [p for p in kermany_v2() if not p.startswith("val")]))
    assert table.notes[0].startswith("read as Kermany v3 (CLASS-patient-n in train and test, no")
    assert set(table.frame["split"]) == {"train", "test"}


def test_kermany_anywhere_below_in_any_case(tmp_path: Path) -> None:
    plant(
        tmp_path,
        [
            "OCT2017 /Train/CNV/CNV-1-1.JPEG",
            "OCT2017 /VALIDATION/cnv/cnv-2-1.png",
            "OCT2017 /test/deep/er/DME-3-17.tif",
            "DME-4-1.bmp",
            "OCT2017 /__MACOSX/CNV/CNV-1-1.jpeg",
            "OCT2017 /Train/CNV/._CNV-1-1.jpeg",
            "OCT2017 /Train/CNV/.DS_Store",
            "readme.txt",
        ],
    )
    table = load_table(tmp_path)
    assert columns(table, "path", "label", "patient", "split") == {
        ("OCT2017 /Train/CNV/CNV-1-1.JPEG", "CNV", "1", "train"),
        ("OCT2017 /VALIDATION/cnv/cnv-2-1.png", "CNV", "2", "val"),
        ("OCT2017 /test/deep/er/DME-3-17.tif", "DME", "3", "test"),
        ("DME-4-1.bmp", "DME", "4", None),
    }


def test_other_classes_hyphens_and_copies(tmp_path: Path) -> None:
    plant(
        tmp_path,
        [
            "train/wet-AMD/wet-AMD-12-3.png",
            "train/wet-AMD/wet-AMD-12-3 (1).png",
            "train/GA/GA-p07-1.png",
            "train/GA/GA-p07-2 - Copy.png",
        ],
    )
    table = load_table(tmp_path)
    assert table.layout == "kermany"
    assert table.classes == ("GA", "wet-AMD")
    assert set(table.frame["patient"]) == {"12", "p07"}


def test_flat_names_without_class_folders(tmp_path: Path) -> None:
    table = load_table(plant(tmp_path, ["train/AMD-1-1.png", "train/AMD-2-1.png", "GA-3-1.png"]))
    assert table.layout == "kermany"
    assert columns(table, "label", "patient", "split") == {
        ("AMD", "1", "train"),
        ("AMD", "2", "train"),
        ("GA", "3", None),
    }


def test_the_folder_is_believed_against_the_name(tmp_path: Path) -> None:
    plant(tmp_path, [*kermany_v2(), "train/DRUSEN/CNV-14-9.jpeg"])
    table = load_table(tmp_path)
    moved = table.frame[table.frame["path"] == "train/DRUSEN/CNV-14-9.jpeg"].iloc[0]
    assert (moved["label"], moved["patient"]) == ("DRUSEN", "14")
    assert said(table, "1 scan in the folder of another class than the name says (train/DRU")


def test_odd_files_of_a_kermany_tree_are_kept_or_told(tmp_path: Path) -> None:
    plant(tmp_path, [*kermany_v2(), "train/CNV/export_final.png", "figures/overview.png"])
    table = load_table(tmp_path)
    assert ("train/CNV/export_final.png", "CNV", None) in columns(table, "path", "label", "patient")
    assert said(table, "1 scan not named CLASS-patient-n (train/CNV/export_final.png)")
    assert said(table, "1 image left out, as neither name nor folder gives the class (figures/")
    assert said(table, "1 scan without a patient id (CNV 1)")


def test_a_data_set_inside_itself_is_noticed(tmp_path: Path) -> None:
    plant(tmp_path, [*kermany_v2(), *(f"oct2017/{path}" for path in kermany_v2())])
    table = load_table(tmp_path)
    # In v2() val repeats the names of train, too: 8 of the 56.
    assert said(table, "64 file names found again in another folder")


def test_normals_without_patient_ids(tmp_path: Path) -> None:
    table = load_table(plant(tmp_path, ["NORMAL-a2.png", "NORMAL-b0.png"]))
    assert table.layout == "kermany"
    assert columns(table, "label", "patient", "split") == {("NORMAL", None, None)}
    assert set(table.groups) == {"unknown:NORMAL"}
    assert said(table, "--unknown-patients distinct")


MIXTURES = {
    "side by side": ("kermany-lesions", "kermany-normal"),
    "one in the other": ("", "kermany-normal"),
    "beside the splits": ("", "train/NORMAL"),
    "beside the images": ("", "images/train/NORMAL"),
    "loose": ("data/kermany-lesions", ""),
}


@pytest.mark.parametrize("arrangement", list(MIXTURES))
def test_lesions_and_normals_mixed(tmp_path: Path, arrangement: str) -> None:
    lesions, normals = MIXTURES[arrangement]
    (tmp_path / lesions).mkdir(parents=True, exist_ok=True)
    plant_lesions(tmp_path / lesions)
    plant(tmp_path / normals, [f"NORMAL-{n}.png" for n in ("a2", "a3", "b0")])
    table = load_table(tmp_path)
    assert table.layout == "kermany"
    assert table.classes == ("CNV", "DME", "NORMAL")
    assert table.frame["label"].value_counts()["NORMAL"] == 3
    normal = table.frame["label"] == "NORMAL"
    assert table.frame["patient"][normal].isna().all()
    assert table.frame["patient"][~normal].notna().all()
    assert set(table.frame["split"][normal]) == {"train" if "train" in normals else None}
    assert set(table.frame["split"][~normal]) == {"train", "val"}
    assert table.frame["mask"].notna().sum() == 3
    assert table.lesions == {1: "intraretinal_cyst", 4: "retinal_drusen"}


def test_links_are_followed_without_loops(tmp_path: Path) -> None:
    plant_lesions(tmp_path / "far" / "kermany-lesions")
    plant(tmp_path / "far" / "kermany-normal", ["NORMAL-a2.png"])
    mix = tmp_path / "mix"
    mix.mkdir()
    (mix / "lesions").symlink_to(tmp_path / "far" / "kermany-lesions")
    (mix / "normal").symlink_to(tmp_path / "far" / "kermany-normal")
    (mix / "again").symlink_to(tmp_path / "far" / "kermany-normal")
    (mix / "self").symlink_to(mix)
    (mix / "up").symlink_to(tmp_path)
    (tmp_path / "far" / "kermany-lesions" / "back").symlink_to(mix)
    table = load_table(mix)
    assert len(table) == 5
    assert "again/NORMAL-a2.png" in set(table.frame["path"])  # the first by name
    assert table.frame["mask"].notna().sum() == 3
    for link in ("self", "up", "normal", "lesions/back"):
        assert sum(f"{link} is a link to" in note for note in table.notes) == 1
    assert all(path.exists() for path in table.paths)


def test_a_broken_link_is_listed_not_lost(tmp_path: Path) -> None:
    plant(tmp_path, kermany_v2())
    (tmp_path / "train" / "CNV" / "CNV-10-7.jpeg").symlink_to(tmp_path / "gone.jpeg")
    assert "train/CNV/CNV-10-7.jpeg" in set(load_table(tmp_path).frame["path"])


def test_a_study_below_the_data_is_no_data(tmp_path: Path) -> None:
    plant(tmp_path, [*kermany_v2(), "out/study.json", "out/cache/images.npy", "out/CNV-1-1.png"])
    table = load_table(tmp_path)
    assert len(table) == 56
    assert said(table, "out holds results of octoscope")


def test_many_files_are_quick(tmp_path: Path) -> None:
    """100,000 files take some seconds; 4,000 must take far less, counted in processor time."""
    for label in ("CNV", "DME"):
        folder = tmp_path / "train" / label
        folder.mkdir(parents=True)
        for n in range(2_000):
            os.close(os.open(folder / f"{label}-{n % 997}-{n}.jpeg", os.O_CREAT | os.O_WRONLY))
    start = time.process_time()
    table = load_table(tmp_path)
    assert time.process_time() - start < 1
    assert len(table) == 4_000


def test_the_real_folders(real_data: Path) -> None:
    lesions = load_table(real_data / "kermany-lesions")
    assert lesions.layout == "kermany"
    assert dict(lesions.frame["label"].value_counts()) == {"DRUSEN": 161, "CNV": 80, "DME": 78}
    patients = lesions.frame.groupby("label")["patient"].nunique()
    assert dict(patients) == {"CNV": 21, "DME": 57, "DRUSEN": 67}
    assert lesions.frame["mask"].notna().all()
    assert len(lesions.lesions) == 8
    manifest = load_table(real_data / "kermany-lesions" / "manifest.csv")
    assert manifest == lesions
    normal = load_table(real_data / "kermany-normal")
    assert normal.classes == ("NORMAL",)
    assert len(normal) == 18
    assert normal.frame["patient"].isna().all()


def test_the_real_mixture(real_data: Path, tmp_path: Path) -> None:
    for name in ("kermany-lesions", "kermany-normal"):
        (tmp_path / name).symlink_to(real_data / name)
    table = load_table(tmp_path)
    assert len(table) == 337
    assert table.classes == ("CNV", "DME", "DRUSEN", "NORMAL")
    with pytest.raises(OctoscopeError, match="--unknown-patients distinct"):
        ready_splits(table)
    done = ready_splits(table, unknown_patients="distinct")
    normal = done.frame[done.frame["label"] == "NORMAL"]
    assert set(normal["split"]) == {"train", "val"}
    kept = done.frame["label"] != "NORMAL"
    assert np.array_equal(done.frame["split"][kept], table.frame["split"][kept])
