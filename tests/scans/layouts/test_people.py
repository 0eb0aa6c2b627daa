"""Tables as Excel, pandas and people write them; and as somebody hostile would."""

from __future__ import annotations

import time
import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from layout_trees import columns, plant, said
from octoscope.errors import OctoscopeError
from octoscope.scans.layouts import load_table
from octoscope.scans.table import ScanTable

NAMES = [f"Müller {k}_{n}.png" for k in range(4) for n in (0, 1)]
BODY = [f"{name},{'CNV' if k % 4 < 2 else 'DME'},{k // 2:03d}" for k, name in enumerate(NAMES)]
PLAIN = "path,label,patient\n" + "\n".join(BODY) + "\n"

SAME: dict[str, bytes] = {
    "BOM": PLAIN.encode("utf-8-sig"),
    "UTF-16": PLAIN.replace(",", "\t").encode("utf-16"),
    "UTF-16 without a mark": PLAIN.encode("utf-16-le"),
    "Windows-1252": PLAIN.encode("cp1252"),
    "semicolons": PLAIN.replace(",", ";").encode(),
    "sep=;": ("sep=;\r\n" + PLAIN.replace(",", ";")).encode(),
    "bars": PLAIN.replace(",", "|").encode(),
    "CR": PLAIN.replace("\n", "\r").encode(),
    "blanks": PLAIN.replace(",", ", ").encode(),
    "blanks before": PLAIN.replace(",", " ,").encode(),
    "blanks and quotes": PLAIN.replace("path,label,", '"path" , "label" ,').encode(),
    "single quotes": PLAIN.replace("path,label,patient", "'path','label','patient'").encode(),
    "a comma at the end": PLAIN.replace("\n", ",\n").encode(),
    "blank rows": PLAIN.replace("\n", "\n\n").encode() + b"   \n",
    "rows of commas": PLAIN.encode() + b",,\n,,\n",
    "a row twice": (PLAIN + BODY[0] + "\n").encode(),
    "capitals": PLAIN.replace("path,label,patient", "Path,LABEL,Patient").encode(),
    "numbered rows": "\n".join(
        ("," if n == 0 else f"{n},") + line for n, line in enumerate(PLAIN.strip().split("\n"))
    ).encode(),
    "a comment": b"# made by us\n" + PLAIN.encode(),
    "a title": b"Patients of 2020,,\n,,\n" + PLAIN.encode(),
    "case of a class": PLAIN.replace(",CNV,000", ",cnv,000").encode(),
    "blanks around a class": PLAIN.replace(",CNV,000", ", CNV ,000").encode(),
    "no-break blank": PLAIN.replace(",CNV,000", ",CNV\u00a0,000").encode(),
    "backslashes": PLAIN.replace("Müller", ".\\Müller").encode(),
    "a drive": PLAIN.replace("Müller", "C:\\data\\Müller").encode(),
    "another machine": PLAIN.replace("Müller", "/mnt/oct/data/Müller").encode(),
    "a folder above": PLAIN.replace("Müller", "data/Müller").encode(),
    "without endings": PLAIN.replace(".png", "").encode(),
    "capitals of endings": PLAIN.replace(".png", ".PNG").encode(),
    "accents in two": unicodedata.normalize("NFD", PLAIN).encode(),
    "an image column": PLAIN.replace("path,", "file_name,").encode(),
}

OTHER: dict[str, tuple[str, str]] = {
    "a path under two labels": (PLAIN + BODY[0].replace("CNV", "DME"), "with label CNV and DME"),
    "an error of Excel": (PLAIN.replace(",CNV,000", ",#REF!,000"), "the error of a spreadsheet"),
    "shortened ids": (PLAIN.replace(",001", ",1.0E+06"), "has shortened"),
    "half a file": (PLAIN.replace("Müller 0_0", "a/b"), "missing file"),
    "binary": ("\0\1\2" * 50, "it is not text"),
    "empty": (" \n", "it is empty"),
    "header alone": ("path,label\n", "has no rows"),
    "out of the folder": (PLAIN.replace("Müller 0_0", "../Müller 0_0"), "leads outside"),
    "a cell too many": (PLAIN.replace(",CNV,000", ",normal, healthy,000"), "has 4 cells, but the"),
    "a quote not closed": (PLAIN.replace(",000", ',"000'), "holds a line break; close the quote"),
    "a name that is none": (PLAIN.replace(",000", "," + "9" * 5000), "is 5,000 letters long"),
    "a day that is none": ("path,visit\n" + NAMES[0] + "," + "9" * 400, "is not a day number"),
}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(tmp_path_factory.mktemp("people"), NAMES)


def rows_of(table: ScanTable) -> list[tuple[object, ...]]:
    return sorted(columns(table, "path", "label", "patient"))


@pytest.mark.parametrize("name", SAME)
def test_a_table_as_people_have_it_reads_as_the_plain_one(people: Path, name: str) -> None:
    (people / "plain.csv").write_text(PLAIN)
    (people / "t.csv").write_bytes(SAME[name])
    table = load_table(people / "t.csv")
    assert rows_of(table) == rows_of(load_table(people / "plain.csv"))
    assert len(table) == len(NAMES)


@pytest.mark.parametrize("name", OTHER)
def test_a_table_that_cannot_be_right_is_one_sentence(people: Path, name: str) -> None:
    content, fault = OTHER[name]
    (people / "t.csv").write_text(content)
    with pytest.raises(OctoscopeError, match=fault) as caught:
        load_table(people / "t.csv")
    assert "\n" not in str(caught.value)


def test_empty_cells_of_programs_and_names_of_people(people: Path) -> None:
    """What pandas writes for nothing is no class; None, NA or unknown may be one."""
    labels = ["nan", "NaN", "", "None", "NA", "CNV", "CNV", "#N/A"]
    patients = ["1", "nan", "None", "n/a", "unknown", "-", "7", "07"]
    rows = [f"{n},{x},{p}" for n, x, p in zip(NAMES, labels, patients, strict=True)]
    (people / "t.csv").write_text("path,label,patient\n" + "\n".join(rows))
    table = load_table(people / "t.csv")
    assert table.frame["label"].tolist() == [None, None, None, "None", "NA", "CNV", "CNV", None]
    assert table.frame["patient"].tolist() == ["1", None, None, None, None, None, "7", "07"]
    assert said(table, "3 cells of column label that say '#N/A', 'NaN', 'nan': taken as empty")
    assert said(table, "'NA', 'None' is taken for the name of a class (2 scans)")
    assert said(table, "patients 07 and 7 are taken as 2 persons")


def test_other_columns_are_numbers_only_if_they_are(people: Path) -> None:
    (people / "t.csv").write_text(
        "path,mm,site,code,flag\n"
        f"{NAMES[0]},5.5,A,007,True\n{NAMES[1]},,B,12,False\n{NAMES[2]}, 3e-2 ,nan,1,True\n"
    )
    frame = load_table(people / "t.csv").frame
    assert frame["mm"].fillna(-1).tolist() == [5.5, -1, 0.03]
    assert frame["site"].fillna("").tolist() == ["A", "B", ""]
    assert frame["code"].tolist() == ["007", "12", "1"]
    assert frame["flag"].tolist() == [True, False, True]


def test_a_name_in_a_folder_below_is_found_if_it_is_the_only_one(tmp_path: Path) -> None:
    plant(tmp_path, ["CNV/a.png", "DME/b.png", "study/b.png", "study/study.json"])
    (tmp_path / "t.csv").write_text("image,label\na,CNV\nb,DME\n")
    table = load_table(tmp_path / "t.csv")
    assert table.frame["path"].tolist() == ["CNV/a.png", "DME/b.png"]
    assert said(table, "2 files of column path found by name in folders below (a is CNV/a.png)")
    plant(tmp_path, ["NORMAL/b.png"])
    with pytest.raises(OctoscopeError, match="missing file"):
        load_table(tmp_path / "t.csv")


def test_a_parquet_that_holds_too_much_or_no_text(people: Path) -> None:
    file = people / "t.parquet"
    for cells, fault in (
        ([["OD"], ["OS"]], "column eye holds a"),
        ([b"\xff\xfe", b"OS"], "bytes that are no text"),
    ):
        pd.DataFrame({"path": NAMES[:2], "eye": cells}).to_parquet(file)
        with pytest.raises(OctoscopeError, match=fault):
            load_table(file)
    pd.DataFrame({"path": NAMES[:2], "patient": [2.0**60, 1.0]}).to_parquet(file)
    with pytest.raises(OctoscopeError, match="too large to be exact"):
        load_table(file)
    pd.DataFrame({"path": NAMES[:2], "split": [0, 1]}).to_parquet(file)
    with pytest.raises(OctoscopeError, match="numbers 0, 1, which may be splits"):
        load_table(file)


def test_cells_of_several_lines_are_said(people: Path) -> None:
    rows = f'{NAMES[0]},"first line\nsecond"\n{NAMES[1]},short\n'
    (people / "t.csv").write_text("path,remark\n" + rows)
    table = load_table(people / "t.csv")
    assert len(table) == 2
    assert said(table, "1 cell of t.csv spans several lines (first: row 1); if rows are lost")


HOSTILE: dict[str, bytes] = {
    "a wide header": b"path" + b"," * 4_000_000,
    "wide rows": b"path,a\n" + (b"," * 1000 + b"\n") * 1000,
    "quotes": b"path,a\n" + b'"' * 1_000_000,
    "blank lines": b"path\n" + b"\n" * 200_000,
    "blanks in a cell": b"path,label\n{0},a" + b" " * 100_000 + b"a\n",
    "blanks at the end": b"path,label\n{0},a" + b" " * 100_000 + b"\n",
    "Latin letters": b"path,label\n{0}," + b"a" * 100_000 + b"\xe9\n",
    "a long number": b"path,mm\n{0}," + b"9" * 100_000 + b"\n",
    "a long day": b"path,visit\n{0}," + b"1" * 100_000 + b"\n",
    "long words of a split": b"path,split\n{0}," + b"hold " * 20_000 + b"\n",
    "a deep path": b"path\n" + b"a/" * 50_000 + b"x\n",
    "many steps up": b"path\n" + b"../" * 40_000 + b"x\n",
    "no separator": b"sep=\n\npath\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_table_takes_no_time(people: Path, name: str) -> None:
    (people / "h.csv").write_bytes(HOSTILE[name].replace(b"{0}", NAMES[0].encode()))
    start = time.process_time()
    try:
        load_table(people / "h.csv")
    except OctoscopeError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 2000
    assert time.process_time() - start < 1


def test_a_spreadsheet_is_not_read(people: Path) -> None:
    (people / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(OctoscopeError, match="is an Excel file, which is not read; save it as CSV"):
        load_table(people / "t.xlsx")
