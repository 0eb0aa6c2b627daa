"""Trees as people have them: the right reading, or a question whose every answer works.

What each file is stands beside its path, as whoever made the tree would say it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from layout_trees import plant, said
from octoscope.errors import OctoscopeError
from octoscope.scans.layouts import load_table

CLASSES = ("CNV", "DME", "NORMAL")
Truth = dict[str, tuple[str | None, str | None, str | None, str | None]]
"""Path → label, patient, eye, split."""


def srinivasan() -> Truth:
    return {
        f"Publication_Dataset/{label}{n}/TIFFs/8bitTIFFs/{scan:03d}.tif": (
            label, f"{label}{n}", None, None)
        for label in ("AMD", "DME", "NORMAL") for n in range(1, 6) for scan in (1, 2)
    }  # fmt: skip


def neh() -> Truth:
    return {
        f"NEH/{label}/{n}/{scan}.jpg": (label, f"{label}/{n}", None, None)
        for label in ("CNV", "DRUSEN", "NORMAL") for n in range(1, 7) for scan in (1, 2)
    }  # fmt: skip


TREES: dict[str, Truth] = {
    "one class with folders of patients": {
        f"CNV/p{p}/{n}.png": ("CNV", f"p{p}", None, None) for p in range(4) for n in range(3)
    },
    "patients first": {
        f"P{p}/{c}/1.png": (c, f"P{p}", None, None) for p in range(6) for c in CLASSES
    },
    "patients first, each of one class": {
        f"{p:03d}/{CLASSES[p % 3]}/{n}.png": (CLASSES[p % 3], f"{p:03d}", None, None)
        for p in range(6)
        for n in (1, 2)
    },
    "patients first, below splits": {
        f"{s}/Patient {p}/{c}/1.png": (c, f"Patient {p}", None, s)
        for s, people in {"train": range(4), "test": range(4, 6)}.items()
        for p in people
        for c in CLASSES
    },
    "Srinivasan": srinivasan(),
    "NEH": neh(),
    "Duke": {
        f"{c}/{c}_{p}/{n}.png": (c, f"{c}_{p}", None, None)
        for c in ("AMD", "Control")
        for p in (1005, 1010, 1020)
        for n in (1, 2)
    },
    "eyes below classes": {
        f"{c}/{side}/{side}{p}.png": (c, None, side, None)
        for c in CLASSES
        for side in ("OD", "OS")
        for p in range(3)
    },
    "eyes below patients": {
        f"{c}/pat{p}/{side}/1.png": (c, f"pat{p}", eye, None)
        for k, c in enumerate(CLASSES)
        for p in (10 + 3 * k, 12 + 5 * k)
        for side, eye in (("left", "OS"), ("Right", "OD"))
    },
    "a folder for the format": {
        f"{c}/jpg/{p}.jpg": (c, None, None, None) for c in CLASSES for p in range(3)
    },
    "OCTID": {
        f"OCTID/{c}/{c}{p}.jpeg": (c, None, None, None)
        for c in ("AMRD", "CSR", "DR", "MH", "NORMAL")
        for p in range(3)
    },
    "ImageNet": {
        f"{s}/{c}/{s}{p}.JPEG": (c, None, None, s)
        for s in ("train", "val")
        for c in ("n01440764", "n01443537")
        for p in range(3)
    },
    "angles, one of them missing in val": {
        f"{s}/{c}/{p}.png": (c, None, None, s)
        for s, classes in {"train": ("0", "90", "180", "270"), "val": ("0", "90", "270")}.items()
        for c in classes
        for p in range(3)
    },
    "grades": {f"{c}/{p}.png": (str(c), None, None, None) for c in range(5) for p in range(3)},
    "quality": {
        f"{c}/{p}.png": (c, None, None, None) for c in ("valid", "invalid") for p in range(3)
    },
    "sets": {
        f"{folder}/{c}/{p}.png": (c, None, None, s)
        for folder, s in {
            "Train_set": "train",
            "Test_set": "test",
            "dev": "val",
            "hold-out": "test",
        }.items()
        for c in CLASSES
        for p in range(2)
    },
    "named sets": {
        f"{folder}/{c}/{p}.png": (c, None, None, s)
        for folder, s in {
            "oct_training_data": "train",
            "oct_validation_data": "val",
            "oct_testing": "test",
        }.items()
        for c in CLASSES
        for p in range(2)
    },
    "eval beside train and test": {
        f"{folder}/{c}/{p}.png": (c, None, None, s)
        for folder, s in {"TrainImages": "train", "eval": "val", "TestImages": "test"}.items()
        for c in CLASSES
        for p in range(2)
    },
    "splits below classes": {
        f"{c}/{s}/{p}.png": (c, None, None, s)
        for c in CLASSES
        for s in ("train", "test")
        for p in range(2)
    },
    "capitals differ between splits": {
        f"{s.title()}/{folder}/{s}{p}.png": (c, None, None, s)
        for s, names in {
            "train": {"CNV": "CNV", "Normal": "Normal", "wet AMD": "wet AMD"},
            "test": {"cnv": "CNV", "NORMAL": "Normal", "Wet_AMD": "wet AMD"},
        }.items()
        for folder, c in names.items()
        for p in range(3 if s == "train" else 2)
    },
    "tests of two kinds are no splits": {
        f"test_{c}/{p}.png": (f"test_{c}", None, None, None)
        for c in ("alpha", "beta")
        for p in range(3)
    },
    "volumes of patients": {
        f"{c}/P{10 * k + p}/vol_{v}/{n}.png": (c, f"P{10 * k + p}", None, None)
        for k, c in enumerate(CLASSES, 1)
        for p in range(3)
        for v in (1, 2)
        for n in (1, 2)
    },
    "patients without a class": {
        f"P{p}/{n}.png": (None, f"P{p}", None, None) for p in range(3) for n in (1, 2)
    },
}

QUESTIONS: dict[str, list[str]] = {
    "names of people, then classes": [
        f"{p}/{c}/1.png" for p in ("smith", "jones", "doe") for c in CLASSES
    ],
    "devices, then classes": [f"{d}/{c}/1.png" for d in ("Spectralis", "Cirrus") for c in CLASSES],
    "unknown words below patients": [f"P{p}/{c}/1.png" for p in range(5) for c in ("foo", "bar")],
    "classes within classes": [f"AMD/{c}/{n}.png" for c in ("wet", "dry") for n in (1, 2)]
    + ["NORMAL/3.png", "NORMAL/4.png"],
    "numbers alone": [f"{p}/{n}.png" for p in (101, 102, 205) for n in (1, 2)],
    "numbers in numbers": [f"{c}/{p}/1.png" for c in (1, 2) for p in (17, 18)],
    "letters with numbers": [f"{p}/{n}.png" for p in ("A1", "A2", "B1", "B2") for n in (1, 2)],
}


def reading(root: Path, layout: str = "auto") -> Truth:
    frame = load_table(root, layout).frame
    return {
        row.path: (row.label, row.patient, row.eye, row.split)
        for row in frame.itertuples(index=False)
    }


@pytest.mark.parametrize("name", TREES)
def test_a_tree_is_read_right(tmp_path: Path, name: str) -> None:
    truth = TREES[name]
    assert reading(plant(tmp_path / "data", truth)) == truth


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_tree_that_may_be_two_things_is_asked_about(tmp_path: Path, name: str) -> None:
    root = plant(tmp_path / "data", QUESTIONS[name])
    with pytest.raises(OctoscopeError, match="say how to read them: --layout") as caught:
        load_table(root)
    assert "\n" not in str(caught.value)
    answers = re.findall(r"--layout '([^']+)'", str(caught.value))
    assert len(answers) >= 2
    readings = [reading(root, answer) for answer in answers]
    assert all(readings[0] != other for other in readings[1:])
    assert load_table(root, "folders").layout == "folders"  # the old rule, by name


def test_what_was_assumed_is_said(tmp_path: Path) -> None:
    def notes(name: str) -> str:
        return " ".join(load_table(plant(tmp_path / name, TREES[name])).notes)

    assert "folders taken for splits: Test_set (test), Train_set (train), dev (val), hold-out" in (
        notes("sets")
    )
    assert "class Normal is also spelled NORMAL: taken as one class" in (
        notes("capitals differ between splits")
    )
    assert "begin anew in every class: 1 of one class and 1 of another are taken as two" in (
        notes("NEH")
    )
    assert "folders taken for eyes: OD (OD), OS (OS)" in notes("eyes below classes")
    assert "2 folders taken for neither class nor patient (vol_1, vol_2)" in (
        notes("volumes of patients")
    )
    assert "within a folder for each patient" in notes("patients first")
    assert "folders that name class and patient" in notes("Srinivasan")


@pytest.mark.parametrize("order", ["{1}_{0}", "{0}_{1}"])
def test_folders_that_name_class_and_split_are_asked_about(tmp_path: Path, order: str) -> None:
    truth = {
        f"{order.format(s, c)}/{n}.png": (c, None, None, s)
        for c in ("AMD", "CNV")
        for s in ("train", "test")
        for n in (1, 2)
    }
    root = plant(tmp_path / "data", truth)
    with pytest.raises(OctoscopeError, match="name class and split at once") as caught:
        load_table(root)
    (answer,) = re.findall(r"--layout '([^']+)'", str(caught.value))
    assert reading(root, answer) == truth


def test_numbers_of_a_clinic_are_one_person_across_classes(tmp_path: Path) -> None:
    """Not 1, 2, 3 … in every class, but ids that happen to be in two."""
    plant(tmp_path, [f"{c}/{p}/1.png" for c, p in (("CNV", 417), ("CNV", 902), ("DME", 417))])
    table = load_table(tmp_path)
    assert set(table.frame["patient"]) == {"417", "902"}
    assert said(table, "1 patient with scans in several classes (first: 417)")


def test_a_folder_above_patients_is_not_taken_for_their_class(tmp_path: Path) -> None:
    plant(tmp_path, [f"Foo/p{p}/{n}.png" for p in range(3) for n in (1, 2)])
    table = load_table(tmp_path)
    assert table.classes == ()
    assert set(table.frame["patient"]) == {"p0", "p1", "p2"}
    assert said(table, "the folder Foo is not taken for a class; if it is")
    assert load_table(tmp_path, "{class}/{patient}/*").classes == ("Foo",)


# --- a template ---------------------------------------------------------------------------------


def test_a_template_reads_file_names_too(tmp_path: Path) -> None:
    plant(
        tmp_path, [f"x/{c}/{c.lower()}_{p}_{n}.png" for c in CLASSES for p in (7, 8) for n in "ab"]
    )
    truth = reading(tmp_path, "**/{class}/{class}_{patient}_*")
    assert truth["x/CNV/cnv_7_a.png"] == ("CNV", "7", None, None)
    assert len(truth) == 12


def test_a_template_takes_splits_eyes_and_dates(tmp_path: Path) -> None:
    plant(tmp_path, ["Train_set/A/smith/right/2020-01-31/1.png", "dev/B/doe/OS/2020-03-01/2.png"])
    table = load_table(tmp_path, "{split}/{class}/{patient}/{eye}/{visit}/*")
    assert table.frame["split"].tolist() == ["train", "val"]
    assert table.frame["eye"].tolist() == ["OD", "OS"]
    assert table.frame["visit"].tolist() == [0, 30]
    assert said(table, "counted in days from the first of them, 2020-01-31")


def test_images_that_do_not_fit_a_template_are_counted(tmp_path: Path) -> None:
    plant(tmp_path, ["A/1.png", "B/2.png", "loose.png"])
    table = load_table(tmp_path, "{class}/*")
    assert table.frame["path"].tolist() == ["A/1.png", "B/2.png"]
    assert said(table, "1 image left out, as they do not lie as '{class}/*' says (loose.png)")


@pytest.mark.parametrize(
    ("layout", "fault"),
    [
        ("{patient}/{class}", r"did you mean '\{patient\}/\{class\}/\*'\?"),
        ("{patent}/{class}/*", 'did you mean "patient"'),
        ("{class/*", "a brace is missing"),
        ("*/*", "names no field"),
        ("{split}/{class}/*", "takes 'smith' for the split, which is not train"),
        ("{eye}/{class}/*", "takes 'smith' for the eye, which is not OD"),
        ("{class}/" + "*" * 30, "more than 12"),
        ("{class}/x/*", "no image lies as"),
    ],
)
def test_a_faulty_template_is_one_sentence(tmp_path: Path, layout: str, fault: str) -> None:
    plant(tmp_path, ["smith/CNV/1.png"])
    with pytest.raises(OctoscopeError, match=fault) as caught:
        load_table(tmp_path, layout)
    assert "\n" not in str(caught.value)
