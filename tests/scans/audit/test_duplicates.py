"""Copies across splits, patients and labels, planted in small studies."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter

from octoscope.scans.audit.duplicates import Duplicates, duplicate_findings, find_duplicates
from octoscope.scans.audit.measure import measure_all
from octoscope.scans.table import ScanTable


def scan(seed: int, height: int = 120, width: int = 200) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=(height, width)), 5) * 350
    return np.clip(110 + smooth + rng.normal(0, 6, (height, width)), 0, 255).astype(np.uint8)


class Study:
    """Writes scans and keeps their rows."""

    def __init__(self, root: Path) -> None:
        self.root, self.rows = root, []

    def row(self, name: str, label: str, patient: str | None, split: str | None) -> Path:
        self.rows.append({"path": name, "label": label, "patient": patient, "split": split})
        return self.root / name

    def audited(self) -> tuple[ScanTable, Duplicates]:
        table = ScanTable.from_frame(pd.DataFrame(self.rows), self.root)
        return table, find_duplicates(table, measure_all(table.paths, 2))


def levels(table: ScanTable, duplicates: Duplicates) -> list[str]:
    return [f.level for f in duplicate_findings(table, duplicates)]


def test_planted_copies_and_nothing_else(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for i in range(12):
        split = "train" if i < 8 else "test"
        Image.fromarray(scan(i)).save(study.row(f"{i:02d}.png", "CNV", f"p{i}", split))
    shutil.copy(tmp_path / "00.png", study.row("same-bytes.png", "CNV", "p0", "train"))
    Image.fromarray(scan(1)).save(study.row("same-pixels.bmp", "CNV", "p1", "test"))
    Image.fromarray(scan(2)).save(study.row("again.jpeg", "DME", "p2", "train"), quality=70)
    half = Image.fromarray(scan(3)).resize((100, 60), Image.Resampling.BICUBIC)
    half.save(study.row("half.png", "CNV", "other", "train"))
    framed = np.full((150, 250), 255, np.uint8)
    framed[15:135, 20:220] = scan(4)
    Image.fromarray(framed).save(study.row("framed.png", "CNV", "p4", "test"))

    table, found = study.audited()
    assert found.exact == [["00.png", "same-bytes.png"], ["01.png", "same-pixels.bmp"]]
    assert found.near == [
        ["02.png", "again.jpeg"],
        ["03.png", "half.png"],
        ["04.png", "framed.png"],
    ]
    assert found.across_splits == [["01.png", "same-pixels.bmp"], ["04.png", "framed.png"]]
    assert found.across_labels == [["02.png", "again.jpeg"]]
    assert found.across_patients == [["03.png", "half.png"]]
    findings = duplicate_findings(table, found)
    assert [f.level for f in findings] == ["error", "warning", "warning", "info"]
    assert findings[0].sentence.startswith(
        "2 pictures stand in more than one split, as exact or near copies "
        "(01.png and same-pixels.bmp, and 1 more): a network is then tested on what it was "
        "trained on."
    )


def test_exact_copies_of_a_near_copy_are_one_group(tmp_path: Path) -> None:
    study = Study(tmp_path)
    Image.fromarray(scan(0)).save(study.row("a.png", "CNV", "p", "train"))
    shutil.copy(tmp_path / "a.png", study.row("b.png", "CNV", "p", "train"))
    Image.fromarray(scan(0)).save(study.row("c.jpeg", "CNV", "p", "test"), quality=80)
    table, found = study.audited()
    assert found.exact == [["a.png", "b.png"]]
    assert found.near == [["a.png", "b.png", "c.jpeg"]]
    assert found.across_splits == [["a.png", "b.png", "c.jpeg"]]
    assert levels(table, found) == ["error"]


def test_blank_and_unreadable_files_are_no_copies_of_each_other(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for i, split in enumerate(["train", "val", "test"]):
        blank = np.full((60, 80), 12, np.uint8)
        Image.fromarray(blank).save(study.row(f"blank{i}.png", "CNV", f"p{i}", split))
        study.row(f"text{i}.png", "CNV", f"q{i}", split).write_text("the same text")
    table, found = study.audited()
    assert found.to_dict() == Duplicates([], [], [], [], []).to_dict()
    assert levels(table, found) == []


def test_scans_of_unknown_patients_are_mentioned_only(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for name in ("a.png", "b.png"):
        Image.fromarray(scan(0)).save(study.row(name, "NORMAL", None, None))
    table, found = study.audited()
    (finding,) = duplicate_findings(table, found)
    assert finding.level == "info"
    assert "without a patient id (a.png and b.png)" in finding.sentence
