"""Which column of a table is which: by usual names, by 0 and 1, or as the user says."""

from __future__ import annotations

from pathlib import Path

import pytest

from layout_trees import columns, plant, said
from octoscope.errors import OctoscopeError
from octoscope.scans.layouts import load_table
from octoscope.scans.layouts.columns import USUAL, parse_columns

ROWS = [("a.png", "CNV", "007"), ("b.png", "DME", "7"), ("c.png", "CNV", "0012")]


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    return plant(tmp_path, [path for path, *_ in ROWS])


def write(folder: Path, header: str, rows: list[tuple[str, ...]] = ROWS) -> Path:
    file = folder / "t.csv"
    file.write_text(header + "\n" + "".join(",".join(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize(
    "header",
    ["file_name,Disease,Subject ID", "Image Path,class,patient-id", "filename,diagnosis,PID"],
)
def test_names_in_wide_use_are_taken_and_said(scans: Path, header: str) -> None:
    table = load_table(write(scans, header))
    assert columns(table, "path", "label", "patient") == set(ROWS)
    for theirs, ours in zip(header.split(","), ("path", "label", "patient"), strict=True):
        assert said(table, f"column {theirs} is taken for the {ours}.")


def test_a_mapping_says_which_is_which(scans: Path) -> None:
    file = write(scans, "where,What It Is,who")
    with pytest.raises(OctoscopeError, match=r"there are: where, What It Is, who\); say which"):
        load_table(file)
    for mapping in (
        "path=where,label=What It Is,patient=who",
        ' PATH = where , label=what it is,"patient=who"',
        {"path": "where", "label": "What It Is", "patient": "who"},
    ):
        table = load_table(file, columns=mapping)
        assert columns(table, "path", "label", "patient") == set(ROWS)


def test_a_mapping_wins_over_names_and_can_leave_a_column_out(scans: Path) -> None:
    rows = [(*row, f"x{n}") for n, row in enumerate(ROWS)]
    file = write(scans, "path,label,patient,person", rows)
    table = load_table(file, columns="patient=person")
    assert table.frame["patient"].tolist() == ["x0", "x1", "x2"]
    assert table.frame["patient (of the file)"].tolist() == ["007", "7", "0012"]
    table = load_table(file, columns="patient=")
    assert table.frame["patient"].isna().all()


def test_numbered_splits_are_asked_about_and_can_be_left_out(scans: Path) -> None:
    file = write(scans, "path,label,split", [("a.png", "A", "0"), ("b.png", "B", "1")])
    with pytest.raises(OctoscopeError, match="numbers 0, 1, which may be splits or folds"):
        load_table(file)
    assert load_table(file, columns="split=").frame["split"].isna().all()


def test_a_mapping_reaches_the_table_beside_the_scans(tmp_path: Path) -> None:
    plant(tmp_path, ["CNV/a.png", "DME/b.png"])
    (tmp_path / "people.csv").write_text("scan_file;who\na;007\nb;7\n")
    table = load_table(tmp_path, columns="path=scan_file,patient=who")
    assert columns(table, "path", "label", "patient") == {
        ("CNV/a.png", "CNV", "007"),
        ("DME/b.png", "DME", "7"),
    }
    with pytest.raises(OctoscopeError, match="no table has the columns nowhere that --columns"):
        load_table(tmp_path, columns="path=nowhere")


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("file_name", "is not of the form path=file_name"),
        ("", "is not of the form"),
        ("label=", "x"),
        ("lable=Disease", 'did you mean "label"'),
        ("path=a,path=b", "path stands twice"),
        ("path=", "path is empty"),
        ("path=absent", 'has no column "absent".*there are: path, label'),
    ],
)
def test_a_faulty_mapping_is_one_sentence(scans: Path, given: str, fault: str) -> None:
    file = write(scans, "path,label,patient")
    if given == "label=":
        assert load_table(file, columns=given).classes == ()
        return
    with pytest.raises(OctoscopeError, match=fault) as caught:
        load_table(file, columns=given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("path,label,Label", "columns label and Label, which may both be label"),
        ("path,class,diagnosis", "no column label, but class and diagnosis; say which"),
        ("path,label,label", 'two columns named "label" with different cells'),
        ("Path,path,label", "may both be path"),
    ],
)
def test_two_columns_for_one_thing_are_asked_about(scans: Path, header: str, fault: str) -> None:
    with pytest.raises(OctoscopeError, match=fault):
        load_table(write(scans, header))


def test_a_column_twice_with_the_same_cells_is_one(scans: Path) -> None:
    rows = [(path, label, label) for path, label, _ in ROWS]
    assert load_table(write(scans, "path,label,label", rows)).classes == ("CNV", "DME")


def test_usual_names_are_no_columns_where_their_cells_say_otherwise(scans: Path) -> None:
    rows = [("a.png", "A", "set one", "front"), ("b.png", "B", "set two", "back")]
    table = load_table(write(scans, "path,label,subset,side", rows))
    assert table.frame["split"].isna().all()
    assert table.frame["eye"].isna().all()
    assert table.frame["side"].tolist() == ["front", "back"]


def test_one_column_per_class(scans: Path) -> None:
    rows = [("a.png", "1", "0"), ("b.png", "0", "1"), ("c.png", "1.0", "0.0")]
    table = load_table(write(scans, "filename, CNV, DME", rows))
    assert table.frame["label"].tolist() == ["CNV", "DME", "CNV"]
    assert said(table, "the class is the column that is 1 (CNV, DME)")
    rows[1] = ("b.png", "1", "1")
    table = load_table(write(scans, "filename,CNV,DME", rows))
    assert table.classes == ()
    assert said(table, "2 of them are 1 in row 2, so they are not taken for classes")


def test_usual_names_are_for_one_column_each() -> None:
    names = [name for known in USUAL.values() for name in known]
    assert len(names) == len(set(names))
    assert parse_columns(None) == {}
