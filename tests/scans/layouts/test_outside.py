"""Nothing outside the folder of the data is listed, opened or quoted because a file there says so.

What Python opens and lists is watched by an audit hook.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layout_trees import plant, said
from octoscope.errors import OctoscopeError
from octoscope.scans.layouts import load_table

SECRET = "root:x:0:0:superuser"
touched: list[str] | None = None


def watch(event: str, arguments: tuple[object, ...]) -> None:
    if touched is not None and event in ("open", "os.listdir", "os.scandir"):
        touched.append(os.fspath(arguments[0]) if isinstance(arguments[0], str | Path) else "")


sys.addaudithook(watch)


@contextmanager
def watched() -> Iterator[list[str]]:
    global touched
    touched = []
    try:
        yield touched
    finally:
        touched = None


@pytest.fixture
def data(tmp_path: Path) -> Path:
    plant(tmp_path / "outside", ["private/1.png"])
    (tmp_path / "outside" / "secret.csv").write_text(f"{SECRET},path\n1,{SECRET}\n")
    (tmp_path / "outside" / "secret.json").write_text(json.dumps({"1": SECRET, "x": SECRET}))
    return plant(tmp_path / "data", ["CNV/a.png", "DME/b.png", "NORMAL/c.png"])


def refused_untouched(data: Path, place: Path) -> str:
    with watched() as seen, pytest.raises(OctoscopeError) as caught:
        load_table(place)
    outside = str(data.parent / "outside")
    assert not [path for path in seen if os.path.realpath(path).startswith(outside)]
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "../outside/private/1.png",
        "CNV/../../outside/private/1.png",
        "..\\outside\\private\\1.png",
        "./../outside/private/1.png",
        "../outside/../outside/private/1.png",
    ],
)
@pytest.mark.parametrize("column", ["path", "mask"])
def test_a_path_out_of_the_folder_is_refused_by_name(data: Path, path: str, column: str) -> None:
    cells = ("CNV/a.png", path) if column == "mask" else (path, "")
    (data / "t.csv").write_text(f"path,mask\n{','.join(cells)}\n")
    assert "leads outside" in refused_untouched(data, data / "t.csv")


def test_an_absolute_mask_beside_relative_paths_is_refused(data: Path) -> None:
    outside = data.parent / "outside" / "private" / "1.png"
    (data / "t.csv").write_text(f"path,mask\nCNV/a.png,{outside}\n")
    refused_untouched(data, data / "t.csv")


def test_a_manifest_that_leads_out_is_not_followed(data: Path) -> None:
    (data / "manifest.csv").write_text(
        "path,mask\nCNV/a.png,../outside/private/1.png\n../outside/private/1.png,\n"
    )
    with watched() as seen:
        table = load_table(data)
    assert not [path for path in seen if "outside" in path]
    assert table.frame["mask"].isna().all()
    assert said(table, "manifest.csv: ../outside/private/1.png: leads outside")


@pytest.mark.parametrize("name", ["manifest.csv", "table.csv", "lesions.json", "x.parquet"])
def test_a_link_to_a_text_outside_is_passed_over(data: Path, name: str) -> None:
    target = "secret.json" if name.endswith("json") else "secret.csv"
    (data / name).symlink_to(data.parent / "outside" / target)
    with watched() as seen:
        table = load_table(data)
    assert not [path for path in seen if "secret" in os.path.realpath(path)]
    assert said(table, f"{name} is a link to a file outside the folder and was passed over")
    assert not said(table, SECRET)


def test_what_is_in_a_table_beside_scans_is_not_quoted_when_refused(data: Path) -> None:
    (data / "notes.csv").write_text(f"{SECRET},b\n1,2\n")
    table = load_table(data)
    assert said(table, "notes.csv: does not name scans as a table should")
    assert not said(table, SECRET)


def test_a_link_is_no_table_of_a_folder_and_no_lesion_names(data: Path) -> None:
    (data / "table.csv").symlink_to(data.parent / "outside" / "secret.csv")
    with watched() as seen, pytest.raises(OctoscopeError, match=r"holds no table\.csv"):
        load_table(data, "table")
    (data / "t.csv").write_text("path\nCNV/a.png\n")
    (data / "lesions.json").symlink_to(data.parent / "outside" / "secret.json")
    with watched() as more:
        assert load_table(data / "t.csv").lesions == {}
    assert not [path for path in (*seen, *more) if "secret" in os.path.realpath(path)]


def test_names_that_are_too_long_are_one_sentence(data: Path) -> None:
    long = "x" * 300
    for rows in (f"{long}.png\n", f"{long}/a.png\n", f"CNV/{long}\n", f"/{long}/a.png\n"):
        (data / "t.csv").write_text("path\n" + rows)
        with pytest.raises(OctoscopeError, match="missing file"):
            load_table(data / "t.csv")
    with pytest.raises(OctoscopeError, match="no such file or folder"):
        load_table(data / long)
    (data / "t.csv").write_text("path\nCNV/a\x01.png\n")
    with pytest.raises(OctoscopeError, match="is no file name"):
        load_table(data / "t.csv")


def test_names_as_long_as_may_be_are_read(tmp_path: Path) -> None:
    folder, name = "CNV " + "y" * 240, "é" * 120 + ".png"
    table = load_table(plant(tmp_path, [f"{folder}/{name}", f"DME/{name}"]))
    table.save(tmp_path / "t.csv", findable=True)
    assert load_table(tmp_path / "t.csv") == table


# --- which of the two was taken -----------------------------------------------------------------


def test_a_table_that_contradicts_file_names_is_not_silent(tmp_path: Path) -> None:
    """Files named as Kermany's beside a table with other labels."""
    names = [f"{c}/{c}-{p}-1.jpeg" for c in ("CNV", "DME") for p in (1, 2)]
    plant(tmp_path, names)
    rows = "".join(f"{n},{'NORMAL' if '1-1' in n else n[:3].lower()},OD\n" for n in names)
    (tmp_path / "table.csv").write_text("path,label,eye\n" + rows)
    table = load_table(tmp_path)
    assert table.classes == ("CNV", "DME")
    assert said(table, "table.csv names 4 scans; it gives eye.")
    assert said(table, "table.csv: another label for 2 scans (first: CNV/CNV-1-1.jpeg); names and")
    assert load_table(tmp_path, "table").classes == ("NORMAL", "cnv", "dme")


def test_a_table_gives_classes_to_a_folder_that_has_none(tmp_path: Path) -> None:
    plant(tmp_path, [f"{n}.png" for n in range(4)])
    (tmp_path / "labels.csv").write_text("image,diagnosis\n0,CNV\n1,DME\n2,CNV\n9,DME\n")
    table = load_table(tmp_path)
    assert table.frame["label"].tolist() == ["CNV", "DME", "CNV", None]
    assert said(table, "labels.csv: 1 row without a scan (9)")
    assert said(table, "1 image in no class folder (3.png), so without a label")


def test_a_table_answers_the_question_that_folders_leave(tmp_path: Path) -> None:
    names = [f"smith{p}/thing{c}/1.png" for p in "ab" for c in "xy"]
    plant(tmp_path, names)
    rows = "".join(f"{n},{n.split('/')[1]},{n.split('/')[0]}\n" for n in names)
    (tmp_path / "who.csv").write_text("path,label,patient\n" + rows)
    table = load_table(tmp_path)
    assert table.classes == ("thingx", "thingy")
    assert set(table.frame["patient"]) == {"smitha", "smithb"}
    assert said(table, "classes and patients are those of the table beside the scans")


def test_boxes_of_a_detection_data_set_are_no_labels(tmp_path: Path) -> None:
    plant(tmp_path, [f"train/{n}.jpg" for n in range(2)])
    (tmp_path / "train" / "_annotations.csv").write_text(
        "filename,width,height,class,xmin,ymin,xmax,ymax\n0.jpg,9,9,CNV,1,1,2,2\n"
        "0.jpg,9,9,DME,1,1,2,2\n1.jpg,9,9,CNV,1,1,2,2\n"
    )
    table = load_table(tmp_path)
    assert table.classes == ()
    assert said(table, "says different things of one scan in several rows, and was not used")
