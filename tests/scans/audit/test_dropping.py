"""A table without copies: one of each group is left, none whose labels contradict each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from octoscope.errors import OctoscopeError
from octoscope.scans.audit.dropping import without_copies
from octoscope.scans.audit.duplicates import Duplicates
from octoscope.scans.table import ScanTable
from octoscope.verbs.data import check


def table_of(tmp_path: Path, *rows: tuple[str, str | None, str | None, str | None]) -> ScanTable:
    frame = pd.DataFrame(rows, columns=["path", "label", "patient", "split"])
    return ScanTable.from_frame(frame, tmp_path)


def groups(*near: list[str]) -> Duplicates:
    return Duplicates([], [list(group) for group in near], [], [], [])


def test_the_copy_in_test_is_kept(tmp_path: Path) -> None:
    table = table_of(
        tmp_path,
        ("a", "CNV", "p", "train"),
        ("b", "CNV", "p", "test"),
        ("c", "CNV", "p", "val"),
        ("d", "DME", "q", "train"),
        ("e", "DME", None, "train"),
        ("f", "DME", "r", "val"),
    )
    left = without_copies(table, groups(["a", "b", "c"], ["d", "e"]))
    assert left.frame["path"].tolist() == ["b", "d", "f"]
    assert left.notes[-1] == (
        "3 copies were left out, one of each group was kept, in test before val before train "
        "(left out: c, a and e)."
    )


def test_contradicting_labels_are_left_out_altogether_and_said(tmp_path: Path) -> None:
    table = table_of(
        tmp_path, ("a", "CNV", "p", "train"), ("b", "DME", "p", "train"), ("c", "DME", "q", "train")
    )
    left = without_copies(table, groups(["a", "b"]))
    assert left.frame["path"].tolist() == ["c"]
    assert "2 scans were left out because" in left.notes[-1]
    assert "a and b" in left.notes[-1]


def test_a_picture_under_two_patients_is_kept_once_and_said(tmp_path: Path) -> None:
    table = table_of(tmp_path, ("a", "CNV", "p", "train"), ("b", "CNV", "q", "test"))
    left = without_copies(table, groups(["a", "b"]))
    assert left.frame["path"].tolist() == ["b"]
    assert "b of p and q" in left.notes[-1]


def test_nothing_to_drop(tmp_path: Path) -> None:
    table = table_of(tmp_path, ("a", "CNV", "p", "train"))
    left = without_copies(table, groups())
    assert left.frame.equals(table.frame)
    assert "none was left out" in left.notes[-1]


def speckled(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=(96, 144)), 5) * 350
    return np.clip(110 + smooth + rng.normal(0, 9, (96, 144)), 0, 255).astype(np.uint8)


def test_check_writes_the_table_without_copies(tmp_path: Path) -> None:
    rows = []
    for i in range(24):
        name = f"{i:02d}.png"
        Image.fromarray(speckled(i)).save(tmp_path / name)
        split = ("train", "train", "val", "test")[i // 2 % 4]
        rows.append((name, ("CNV", "DME")[i % 2], f"p{i}", split))
    Image.fromarray(speckled(0)[:, ::-1].copy()).save(tmp_path / "mirrored.png")
    rows.append(("mirrored.png", "CNV", "other", "test"))
    frame = pd.DataFrame(rows, columns=["path", "label", "patient", "split"])
    frame.to_csv(tmp_path / "t.csv", index=False)
    out = tmp_path / "left.csv"
    with pytest.raises(OctoscopeError, match="more than one split"):
        check(tmp_path / "t.csv")
    with pytest.raises(OctoscopeError, match="--write"):
        check(tmp_path / "t.csv", drop_copies=True)
    check(tmp_path / "t.csv", write=out, drop_copies=True)
    left = pd.read_csv(out)["path"].map(lambda p: Path(p).name).tolist()
    assert sorted(left) == sorted([f"{i:02d}.png" for i in range(1, 24)] + ["mirrored.png"])
