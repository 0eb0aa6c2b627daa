"""What `load_table` reads at all, and what it says where there is nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layout_trees import plant
from octoscope.errors import OctoscopeError
from octoscope.scans.layouts import LAYOUTS, load_table


def test_nothing_to_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    plant(tmp_path / "texts", ["a.txt", "b.txt", "c.docx"])
    plant(tmp_path / "masks", ["a.png"])
    plant(tmp_path, ["scan.png"])
    for path, fault in {
        "absent": "no such file or folder",
        "empty": "is an empty folder",
        "texts": r"no scans among its 3 files \(2 \.txt, 1 \.docx",
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
            st.sampled_from(
                [
                    "train",
                    "val",
                    "Test set",
                    "CNV",
                    "DME",
                    "images",
                    "masks",
                    "x",
                    "P1",
                    "P2",
                    "1",
                    "2",
                    "OD",
                    "left",
                    "2020-01-01",
                ]
            ),
            max_size=4,
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
    except OctoscopeError as error:
        assert not images or layout == "kermany" or "--layout" in str(error)
        return
    left_out = sum(int(note.split()[0]) for note in table.notes if " left out, as" in note)
    assert set(table.frame["path"]) <= images
    assert len(table) + left_out == len(images)
