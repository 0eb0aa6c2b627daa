"""What a table accepts, refuses, remembers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octoscope.errors import OctoscopeError
from octoscope.scans.table import COLUMNS, ScanTable

ROOT = Path("data")


def small(**columns: list[object]) -> ScanTable:
    frame = pd.DataFrame(
        {
            "path": ["a.png", "b.png", "c.png", "d.png"],
            "label": ["CNV", "CNV", "DME", None],
            "patient": ["1", None, None, None],
            "split": ["train", "val", "train", None],
            **columns,
        }
    )
    return ScanTable.from_frame(frame, ROOT, notes=["first"], lesions={1: "cyst"})


def test_columns_are_complete_and_plain() -> None:
    table = small(device=["x", "y", "z", "z"])
    assert tuple(table.frame.columns) == (*COLUMNS, "device")
    assert table.classes == ("CNV", "DME")
    assert table.targets.tolist() == [0, 0, 1, -1]
    assert len(table) == 4
    for column in ("path", "label", "patient", "eye", "split", "mask"):
        assert all(v is None or type(v) is str for v in table.frame[column]), column
    assert table.frame["visit"].isna().all()
    assert table.paths[0] == ROOT / "a.png"
    assert table.mask_paths == [None] * 4


def test_cells_become_text_and_days() -> None:
    table = small(
        patient=[12.0, np.nan, "  ", 7],
        visit=["0", 31.0, None, ""],
        eye=["OD", " OS ", "", pd.NA],
        mask=["m.png", "", None, np.nan],
    )
    assert table.frame["patient"].tolist() == ["12", None, None, "7"]
    assert table.frame["visit"].fillna(-1).tolist() == [0, 31, -1, -1]
    assert table.frame["eye"].tolist() == ["OD", "OS", None, None]
    assert table.mask_paths == [ROOT / "m.png", None, None, None]


def test_file_names_keep_their_spaces() -> None:
    table = ScanTable.from_frame(pd.DataFrame({"path": [" odd /a.png"]}), ROOT)
    assert table.frame["path"].tolist() == [" odd /a.png"]


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({"path": ["a.png", "b.png", "a.png", "d.png"]}, r"row 3 .*'a.png' stands twice"),
        ({"path": ["a.png", None, "c.png", "d.png"]}, "row 2 .*every row needs a path"),
        ({"path": ["a.png", "../b.png", "c.png", "d.png"]}, r"\.\./b\.png: leads outside data"),
        ({"path": ["a.png", "x/../../b.png", "c.png", "d.png"]}, "leads outside data"),
        ({"path": ["/etc/a.png", "b.png", "c.png", "d.png"]}, "leads outside data"),
        ({"mask": [None, "/etc/a.png", None, None]}, "leads outside data"),
        ({"split": ["train", "dev", None, None]}, r"row 2 .*'dev' is not a split; use train, val"),
        ({"eye": ["OD", "right", None, None]}, "'right' is not an eye; use OD or OS"),
        ({"visit": [0, "May", None, None]}, "'May' is not a day number"),
        ({"visit": [0, 1e30, None, None]}, "is not a day number"),
    ],
)
def test_faults_name_the_row(columns: dict[str, list[object]], fault: str) -> None:
    with pytest.raises(OctoscopeError, match=fault):
        small(**columns)


def test_no_path_no_rows_wrong_class() -> None:
    with pytest.raises(OctoscopeError, match="no column 'path'"):
        ScanTable.from_frame(pd.DataFrame({"label": ["A"]}), ROOT)
    with pytest.raises(OctoscopeError, match="holds no scans"):
        ScanTable.from_frame(pd.DataFrame({"path": []}), ROOT)
    frame = pd.DataFrame({"path": ["a"], "label": ["A"]})
    assert ScanTable.from_frame(frame, ROOT, classes=["B", "A"]).targets.tolist() == [1]
    with pytest.raises(OctoscopeError, match="'A' is not one of the classes B, C"):
        ScanTable.from_frame(frame, ROOT, classes=["B", "C"])


def test_unknown_patients_of_a_class_are_one_group() -> None:
    table = small()
    assert table.groups.tolist() == ["1", "unknown:CNV", "unknown:DME", "unknown:None"]
    distinct = table.patients_assumed_distinct()
    assert distinct.groups.tolist() == ["1", "scan:b.png", "scan:c.png", "scan:d.png"]
    assert distinct.notes[0] == "first"
    assert distinct.notes[1].startswith("3 scans without a patient id are taken as that many")
    assert distinct.patients_assumed_distinct() is distinct
    assert table.frame["patient"].isna().sum() == 3  # the original stands


def test_split_and_rows() -> None:
    table = small()
    train = table.split("train")
    assert train.frame["path"].tolist() == ["a.png", "c.png"]
    assert list(train.frame.index) == [0, 1]
    assert (train.classes, train.notes, train.lesions) == (("CNV", "DME"), ("first",), {1: "cyst"})
    with pytest.raises(
        OctoscopeError, match=r'no scan is in split "test" \(splits there: train, v'
    ):
        table.split("test")


def test_noting_keeps_missing_cells_none() -> None:
    table = small().noting("second", split=np.array(["test", None, "val", None], dtype=object))
    assert table.notes == ("first", "second")
    assert table.frame["split"].tolist() == ["test", None, "val", None]
    assert small().noting("x").frame["split"].tolist() == ["train", "val", "train", None]


def test_digest_changes_with_what_matters_and_nothing_else() -> None:
    table = small()
    assert table == small()
    assert hash(table) == hash(small())
    assert table != "something else"
    assert table.noting("a note").digest() == table.digest()
    assert small(device=["x"] * 4).digest() == table.digest()
    changed = [
        small(label=["CNV", "CNV", "DME", "DME"]),
        small(patient=["2", None, None, None]),
        small(split=["train", "val", "train", "test"]),
        small(mask=["m.png", None, None, None]),
        small(eye=["OD", None, None, None]),
        small(visit=[1, None, None, None]),
        table.rows(np.array([1, 0, 2, 3])),
        ScanTable.from_frame(table.frame, ROOT, classes=["DME", "CNV"], lesions={1: "cyst"}),
        ScanTable.from_frame(table.frame, ROOT, lesions={1: "drusen"}),
    ]
    assert len({t.digest() for t in [table, *changed]}) == len(changed) + 1


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_saved_rows_come_back(tmp_path: Path, name: str) -> None:
    table = small(visit=[3, None, 4, 5], device=["x", None, "y", "z"])
    table.save(tmp_path / name)
    read = pd.read_parquet if name.endswith("parquet") else pd.read_csv
    back = ScanTable.from_frame(read(tmp_path / name), ROOT, lesions={1: "cyst"})
    assert back == table
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_findable_paths(tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": ["a.png", "b.png"], "mask": ["m/a.png", None]})
    table = ScanTable.from_frame(frame, tmp_path / "data")
    table.save(tmp_path / "t.csv", findable=True)
    assert pd.read_csv(tmp_path / "t.csv")["path"].tolist() == ["data/a.png", "data/b.png"]
    table.save(tmp_path / "x" / "t.csv", findable=True)
    back = pd.read_csv(tmp_path / "x" / "t.csv")
    assert back["path"].tolist() == [f"{tmp_path}/data/a.png", f"{tmp_path}/data/b.png"]
    assert back["mask"].fillna("").tolist() == [f"{tmp_path}/data/m/a.png", ""]


cells = st.none() | st.floats() | st.integers() | st.text(max_size=5) | st.booleans()


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*COLUMNS, "device"]), st.lists(cells, min_size=3, max_size=3), max_size=8
    )
)
def test_any_cells_are_taken_or_refused_in_one_sentence(columns: dict[str, list[object]]) -> None:
    frame = pd.DataFrame({"path": ["a", "b", "c"]} | columns)
    try:
        table = ScanTable.from_frame(frame, ROOT)
    except OctoscopeError as error:
        assert "\n" not in str(error)
        return
    again = ScanTable.from_frame(table.frame, ROOT)
    assert again == table
    for column in ("path", "label", "patient", "eye", "split", "mask"):
        assert all(v is None or type(v) is str for v in table.frame[column]), column
