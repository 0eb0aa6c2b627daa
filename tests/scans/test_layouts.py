"""Which layouts are recognised, and what is said about them. Files are empty: nothing decodes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octoscope.errors import OctoscopeError
from octoscope.scans.layouts import LAYOUTS, load_table
from octoscope.scans.splits import ready_splits
from octoscope.scans.table import ScanTable


def plant(root: Path, paths: Iterable[str]) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def kermany_v2() -> list[str]:
    return [
        f"{split}/{label}/{label}-{patient}-{n}.jpeg"
        for split, patients in {"train": range(10, 15), "val": range(10, 11), "test": (99,)}.items()
        for label in ("CNV", "DME", "DRUSEN", "NORMAL")
        for patient in patients
        for n in (1, 2)
    ]


def columns(table: ScanTable, *names: str) -> set[tuple[object, ...]]:
    return set(table.frame[list(names)].itertuples(index=False, name=None))


def said(table: ScanTable, words: str) -> bool:
    return any(words in note for note in table.notes)


# --- Kermany ------------------------------------------------------------------------------------


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


LESIONS = {"0": "background", "1": "intraretinal_cyst", "4": "retinal_drusen"}


def plant_lesions(root: Path) -> None:
    scans = ["train/CNV/CNV-1-1", "train/DME/DME-2-1", "val/CNV/CNV-3-1", "val/DME/DME-4-1"]
    plant(root, [f"images/{name}.jpeg" for name in scans])
    plant(root, [f"masks/{name}.png" for name in scans[:3]])
    (root / "lesions.json").write_text(json.dumps(LESIONS))


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


# --- manifests ----------------------------------------------------------------------------------


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
    assert said(table, "a manifest was not used")


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


# --- class folders ------------------------------------------------------------------------------


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
    assert table.notes[0].startswith("read as a plain folder of images: 2 scans from unknown")
    plant(tmp_path, ["A/3.png", "B/4.png"])
    assert said(load_table(tmp_path), "2 images in no class folder (first: 1.png)")


# --- tables -------------------------------------------------------------------------------------


def test_a_csv_table(tmp_path: Path) -> None:
    plant(tmp_path, ["s/1.png", "s/2.png", "s/3.png", "m/1.png"])
    (tmp_path / "table.csv").write_text(
        "\ufeffPath;label;patient;split;visit;mask;device\n"
        "s/1.png;NA;007;Training;0;m\\1.png;x\n"
        "s\\2.png;None;8;VAL;365;;y\n"
        "./s/3.png;NA;9;;;;\n",
        encoding="utf-8",
    )
    for path, layout in ((tmp_path / "table.csv", "auto"), (tmp_path, "table")):
        table = load_table(path, layout)
        assert table.layout == "table"
        assert table.root == tmp_path
        assert columns(table, "path", "label", "patient", "split", "mask") == {
            ("s/1.png", "NA", "007", "train", "m/1.png"),
            ("s/2.png", "None", "8", "val", None),
            ("s/3.png", "NA", "9", None, None),
        }
        assert table.frame["visit"].fillna(-1).tolist() == [0, 365, -1]
        assert table.frame["device"].fillna("").tolist() == ["x", "y", ""]
        assert said(table, "read as a table (table.csv): 3 scans of 2 classes (NA 2, None 1)")


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize("place", [".", "elsewhere/deep"])
def test_a_saved_table_is_found_again_from_anywhere(tmp_path: Path, name: str, place: str) -> None:
    plant_lesions(tmp_path / "data")
    table = load_table(tmp_path / "data")
    file = tmp_path / place / name
    table.save(file, findable=True)
    back = load_table(file)
    assert [p.resolve() for p in back.paths] == [p.resolve() for p in table.paths]
    assert [m and m.resolve() for m in back.mask_paths] == [
        m and m.resolve() for m in table.mask_paths
    ]
    if place != ".":
        assert back == table
        assert back.lesions == table.lesions


def test_missing_files_of_a_table_are_counted_and_the_first_named(tmp_path: Path) -> None:
    plant(tmp_path, ["a.png", "m.png"])
    table = tmp_path / "t.csv"
    table.write_text("path,mask\na.png,m.png\nb.png,\nx/c.png,\n")
    with pytest.raises(OctoscopeError, match=r"t\.csv: names 2 missing files \(first: .*/b\.png\)"):
        load_table(table)
    table.write_text("path,mask\na.png,gone.png\n")
    with pytest.raises(OctoscopeError, match=r"1 missing file \(.*gone\.png"):
        load_table(table)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "cannot be read as a table"),
        ("path,label\n", "no rows"),
        ("file,label\na.png,A\n", "has no column 'path'.*there are: file, label"),
        ("paths,label\na.png,A\n", 'did you mean "paths"'),
        ("path,label\n,A\n", "row 1 has no path"),
        ("path,split\na.png,somewhere\n", "'somewhere' is not a split"),
        ("path,eye\na.png,left\n", "use OD or OS"),
        ("path,visit\na.png,yesterday\n", "'yesterday' is not a day number"),
        ("path\na.png\na.png\n", "stands twice"),
        ("path\n../a.png\n", "missing|leads outside"),
        ('path,label\n"a.png,A\n', "cannot be read|missing"),
        ("path,label\na.png,A,too,many\n", "cannot be read|missing|index"),
    ],
)
def test_faulty_tables(tmp_path: Path, content: str, fault: str) -> None:
    plant(tmp_path, ["a.png"])
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(OctoscopeError, match=fault) as caught:
        load_table(tmp_path / "t.csv")
    assert "\n" not in str(caught.value)


def test_a_table_may_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    plant(tmp_path, ["secret.png", "data/a.png"])
    (tmp_path / "data" / "t.csv").write_text("path\n../secret.png\n")
    with pytest.raises(OctoscopeError, match="leads outside"):
        load_table(tmp_path / "data" / "t.csv")


def test_mixed_absolute_and_relative_paths(tmp_path: Path) -> None:
    plant(tmp_path, ["a.png", "b.png"])
    (tmp_path / "t.csv").write_text(f"path\n{tmp_path}/a.png\nb.png\n")
    with pytest.raises(OctoscopeError, match=r"absolute paths and relative ones \(row 2\)"):
        load_table(tmp_path / "t.csv")


def test_damaged_parquet_and_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(OctoscopeError, match="cannot be read as a table"):
        load_table(tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_bytes(b"path,label\n\xff\xfe.png,A\n")
    with pytest.raises(OctoscopeError, match="cannot be read as a table"):
        load_table(tmp_path / "t.csv")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200) | st.text(alphabet='path,labe;\t\n"0Aé', max_size=80))
@pytest.mark.filterwarnings("ignore")
def test_any_bytes_as_a_table(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | str
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.csv"
    file.write_bytes(content if isinstance(content, bytes) else b"path,label\n" + content.encode())
    with pytest.raises(OctoscopeError):  # no such image exists
        load_table(file)


# --- what cannot be read ------------------------------------------------------------------------


def test_nothing_to_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    plant(tmp_path / "texts", ["a.txt", "b.txt", "c.docx"])
    plant(tmp_path / "masks", ["a.png"])
    plant(tmp_path, ["scan.png"])
    for path, fault in {
        "absent": "no such file or folder",
        "empty": "is an empty folder",
        "texts": r"no scans among its 3 files \(they end in .txt, .docx",
        "masks": "holds only masks",
        "scan.png": "neither a folder nor a CSV",
    }.items():
        with pytest.raises(OctoscopeError, match=fault) as caught:
            load_table(tmp_path / path)
        assert str(caught.value).startswith(str(tmp_path / path))
        assert "\n" not in str(caught.value)
    with pytest.raises(OctoscopeError, match='did you mean "kermany"'):
        load_table(tmp_path, layout="kermani")
    with pytest.raises(OctoscopeError, match=r"holds no table\.csv"):
        load_table(tmp_path / "texts", layout="table")
    plant(tmp_path / "two", ["table.csv", "manifest.csv"])
    with pytest.raises(OctoscopeError, match=r"holds table\.csv and manifest\.csv"):
        load_table(tmp_path / "two", layout="table")
    with pytest.raises(OctoscopeError, match='which layout "folders" cannot be'):
        load_table(tmp_path / "two" / "table.csv", layout="folders")
    assert set(LAYOUTS) == {"kermany", "folders", "table"}


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"CNV-1-1\xff.png")
    try:
        (tmp_path / name).touch()
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    with pytest.raises(OctoscopeError, match="is not UTF-8; rename it"):
        load_table(tmp_path)


names = st.text(alphabet="CNVDME-0129ab _.é", min_size=1, max_size=12)
trees = st.lists(
    st.tuples(
        st.lists(
            st.sampled_from(["train", "val", "CNV", "DME", "images", "masks", "x"]), max_size=4
        ),
        names | st.sampled_from(["CNV-1-1", "DME-2-7", "NORMAL-a2"]),
        st.sampled_from([".png", ".JPG", ".npy", ".txt", ""]),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trees, st.sampled_from(["auto", "kermany", "folders"]))
def test_any_tree_is_read_whole_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[tuple[list[str], str, str]],
    layout: str,
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for folders, name, suffix in files:
        file = root.joinpath(*folders, name + suffix)
        try:
            plant(root, [str(file.relative_to(root))])
        except OSError:  # a file of that name is in the way
            continue
    images = {
        str(p.relative_to(root))
        for p in root.rglob("*")
        if p.is_file()
        and p.suffix.lower() in (".png", ".jpg", ".npy")
        and not any(part.startswith(".") for part in p.relative_to(root).parts)
        and "masks" not in p.relative_to(root).parts
    }
    try:
        table = load_table(root, layout)
    except OctoscopeError:
        assert not images or layout == "kermany"
        return
    left_out = sum(int(note.split()[0]) for note in table.notes if " left out, as" in note)
    assert set(table.frame["path"]) <= images
    assert len(table) + left_out == len(images)


# --- speed, real scans --------------------------------------------------------------------------


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
