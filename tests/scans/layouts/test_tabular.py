"""Tables as people have them: the right reading, or one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layout_trees import columns, plant, plant_lesions, said
from octoscope.errors import OctoscopeError
from octoscope.scans.layouts import load_table


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
        ("where,label\na.png,A\n", "no column 'path'.*there are: where, label.*--columns path="),
        ("paths,label\na.png,A\n", 'did you mean "paths"'),
        ("path,label\n,A\n", "row 1 has no path"),
        ("path,split\na.png,somewhere\n", "'somewhere' is not a split"),
        ("path,eye\na.png,both\n", "use OD or OS"),
        ("path,visit\na.png,yesterday\n", "'yesterday' is not a day number"),
        ("path,label\na.png,A\na.png,B\n", "a.png stands twice, with label A and B"),
        ("path\n../a.png\n", "leads outside"),
        ('path,label\n"a.png,A\n', "is no file name"),
        ("path,label\na.png,A,too,many\n", "row 1 has 4 cells, but the header names 2"),
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
    (tmp_path / "t.csv").write_bytes(b"path,label\n\x81\xfe.png,A\n")
    with pytest.raises(OctoscopeError, match="it is not text in UTF-8, UTF-16 or Windows-1252"):
        load_table(tmp_path / "t.csv")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200) | st.text(alphabet='path,labe;\t\n"0Aé', max_size=80))
@pytest.mark.filterwarnings("ignore")
def test_any_bytes_as_a_table(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    file = folder / "any.csv"
    file.write_bytes(content if isinstance(content, bytes) else b"path,label\n" + content.encode())
    with pytest.raises(OctoscopeError):  # no such image exists
        load_table(file)
