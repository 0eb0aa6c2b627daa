"""One table, written as programs and people write it: it reads back the same, or is refused."""

from __future__ import annotations

import csv
import datetime
import io
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layout_trees import plant, said
from octoscope.errors import OctoscopeError
from octoscope.scans.layouts import load_table
from octoscope.scans.table import ScanTable

Row = tuple[str, str | None, str | None, str | None, str | None, int | None]
HEADER = ("path", "label", "patient", "eye", "split", "visit")
PATHS = [f"Müller {n}.png" for n in range(8)]

# What a careful person writes; every other way of writing must read back as this.
plain_rows = st.lists(
    st.tuples(
        st.sampled_from(["CNV", "DME", "wet AMD", "Größe", "normal, healthy", "None", None]),
        st.sampled_from(["007", "7", "0012", "12", "José", "p-1", "1016042", None]),
        st.sampled_from(["OD", "OS", None]),
        st.sampled_from(["train", "val", "test", None]),
        st.sampled_from([0, 31, 365, None]),
    ),
    min_size=1,
    max_size=8,
)

SPELLINGS: dict[str, dict[str, list[str]]] = {
    "eye": {"OD": ["OD", "od", "R", "Right", "right eye"], "OS": ["OS", "L", "LEFT", "Left"]},
    "split": {
        "train": ["train", "Training", "TRAIN", "Train set"],
        "val": ["val", "VALID", "validation", "dev"],
        "test": ["test", "Test ", "testing", "hold-out"],
    },
}


def truth(rows: list[Any]) -> list[Row]:
    return [(path, *row) for path, row in zip(PATHS, rows, strict=False)]


def read_back(table: ScanTable) -> list[Row]:
    frame = table.frame.sort_values("path")
    return [
        (*(getattr(row, name) for name in HEADER[:-1]), None if pd.isna(row.visit) else row.visit)
        for row in frame.itertuples(index=False)
    ]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(tmp_path_factory.mktemp("scans"), PATHS)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=plain_rows, data=st.data())
def test_a_csv_written_any_way_reads_back_the_same(
    scans: Path, rows: list[Any], data: st.DataObject
) -> None:
    expected = truth(rows)
    draw = data.draw
    encoding = draw(
        st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
    )
    separator = draw(st.sampled_from(",;\t"))
    newline = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    blanks = draw(st.sampled_from(["", " ", "  "]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    form = draw(st.sampled_from(["NFC", "NFD"])) if encoding.startswith("utf") else "NFC"
    header = draw(st.sampled_from([HEADER, tuple(h.upper() for h in HEADER)]))
    order = draw(st.permutations(range(len(HEADER))))
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, quoting=quoting, lineterminator=newline)
    spelled = []
    for row in [header, *expected]:
        cells = ["" if cell is None else str(cell) for cell in row]
        for at, name in enumerate(HEADER):
            if cells[at] in SPELLINGS.get(name, {}):
                cells[at] = draw(st.sampled_from(SPELLINGS[name][cells[at]]))
        writer.writerow([unicodedata.normalize(form, cells[at]) for at in order])
        spelled.append(cells)
    text = out.getvalue()
    if blanks and quoting == csv.QUOTE_MINIMAL and "normal, healthy" not in text:
        text = text.replace(separator, separator + blanks)
    if draw(st.booleans()):
        text += separator * (len(HEADER) - 1) + newline + newline
    above = draw(st.sampled_from(["", f"# exported by us{newline}", f"sep={separator}{newline}"]))
    file = scans / "t.csv"
    file.write_bytes((above + text).encode(encoding))
    table = load_table(file)
    assert read_back(table) == expected
    if encoding == "cp1252":
        assert said(table, "read as Windows-1252")


TYPES: dict[str, Callable[[pd.Series], pd.Series]] = {
    "object": lambda column: column,
    "category": lambda column: column.astype("category"),
    "bytes": lambda column: column.map(lambda cell: cell.encode(), na_action="ignore"),
    "string": lambda column: column.astype("string"),
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=plain_rows, data=st.data())
def test_parquet_of_any_type_reads_back_the_same(
    scans: Path, rows: list[Any], data: st.DataObject
) -> None:
    expected = truth(rows)
    frame = pd.DataFrame(expected, columns=HEADER, dtype=object)
    for name in HEADER[:-1]:
        kind = data.draw(st.sampled_from(list(TYPES)), label=name)
        frame[name] = TYPES[kind](frame[name].where(frame[name].notna(), None))
    days = data.draw(st.sampled_from(["float64", "Int64"]))
    frame["visit"] = frame["visit"].astype(float).astype(days)
    if data.draw(st.booleans()):
        frame = frame.set_index("path")
    frame.to_parquet(scans / "t.parquet")
    assert read_back(load_table(scans / "t.parquet")) == expected


@settings(max_examples=40, deadline=None)
@given(
    ids=st.lists(st.none() | st.integers(0, 30), min_size=2, max_size=8),
    how=st.sampled_from(["text", "point zero", "float", "integer"]),
)
def test_numbers_of_patients_are_one_whatever_their_type(
    scans: Path, ids: list[int | None], how: str
) -> None:
    """A missing cell makes pandas write 7 as 7.0: neither merges nor splits anybody."""
    paths = PATHS[: len(ids)]
    file = scans / "ids.parquet"
    if how in ("text", "point zero"):
        file = scans / "ids.csv"
        end = ".0" if how == "point zero" else ""
        cells = ["" if i is None else f"{i}{end}" for i in ids]
        file.write_text("path,patient\n" + "".join(f"{p},{c}\n" for p, c in zip(paths, cells)))  # noqa: B905
    else:
        kind = "float64" if how == "float" else "Int64"
        patient = pd.array([pd.NA if i is None else i for i in ids], dtype="Int64").astype(
            "Int64" if kind == "Int64" else "Float64"
        )
        pd.DataFrame({"path": paths, "patient": patient}).to_parquet(file)
    found = load_table(file).frame["patient"].tolist()
    assert found == [None if i is None else str(i) for i in ids]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=6), min_size=1, max_size=8))
def test_patients_are_never_merged_in_silence(scans: Path, ids: list[str]) -> None:
    """Two ids are one person only if they differ in nothing that anybody can see."""
    paths = PATHS[: len(ids)]
    pd.DataFrame({"path": paths, "patient": ids}).to_parquet(scans / "p.parquet")
    try:
        found = load_table(scans / "p.parquet").frame["patient"].tolist()
    except OctoscopeError as error:
        assert "\n" not in str(error)
        return
    seen = [unicodedata.normalize("NFC", i).strip("\ufeff\u200b\u200c\u200d\u200e\u200f").strip()
            for i in ids]  # fmt: skip
    if all(number.isdigit() for number in seen):
        return
    for a in range(len(ids)):
        for b in range(a):
            if found[a] is not None and found[a] == found[b]:
                assert seen[a].partition(".")[0] == seen[b].partition(".")[0]


DATES = [datetime.date(2020, 1, 31), datetime.date(2020, 3, 1), datetime.date(2021, 2, 28)]


@pytest.mark.parametrize(
    "form", ["%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y%m%d", "%Y-%m-%d 08:15"]
)
def test_dates_become_days(scans: Path, form: str) -> None:
    cells = "".join(f"{p},{d.strftime(form)}\n" for p, d in zip(PATHS, DATES, strict=False))
    (scans / "d.csv").write_text("path,visit\n" + cells)
    table = load_table(scans / "d.csv")
    assert table.frame["visit"].tolist() == [(d - DATES[0]).days for d in DATES]
    assert said(table, "counted in days from the first of them, 2020-01-31")


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        (("01/02/2020", "03/04/2020"), "may be day/month or month/day; write dates as YYYY"),
        (("2020-01-01", "12"), "holds dates, but also '12'"),
        (("2020-02-30", ""), "is not a date that exists"),
        (("baseline", ""), "is not a day number"),
        (("1.5", "2"), "is not a day number"),
    ],
)
def test_visits_that_cannot_be_days(scans: Path, cells: tuple[str, str], fault: str) -> None:
    rows = "".join(f"{p},{cell}\n" for p, cell in zip(PATHS, cells, strict=False))
    (scans / "d.csv").write_text("path,visit\n" + rows)
    with pytest.raises(OctoscopeError, match=fault):
        load_table(scans / "d.csv")
