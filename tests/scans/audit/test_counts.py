"""Counts and overlaps of a small table that can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from octoscope.scans.audit.counts import count_findings, count_scans, patients_in_several
from octoscope.scans.table import ScanTable

ROWS = [
    ("CNV", "1", "train"),
    ("CNV", "1", "train"),
    ("CNV", "2", "val"),
    ("DME", "1", "val"),
    ("DME", None, "train"),
    ("DME", None, "train"),
    ("NORMAL", None, "train"),
    (None, "9", None),
]


def small(rows: list[tuple[str | None, str | None, str | None]] = ROWS) -> ScanTable:
    frame = pd.DataFrame(rows, columns=["label", "patient", "split"])
    return ScanTable.from_frame(frame.assign(path=[f"{i}.png" for i in range(len(rows))]), Path())


def test_counts() -> None:
    found = {(c["class"], c["split"]): c for c in count_scans(small())}
    triples = {k: (c["scans"], c["patients"], c["without_patient"]) for k, c in found.items()}
    assert triples == {
        ("CNV", "train"): (2, 1, 0),
        ("CNV", "val"): (1, 1, 0),
        ("DME", "train"): (2, 0, 2),
        ("DME", "val"): (1, 1, 0),
        ("NORMAL", "train"): (1, 0, 1),
        (None, None): (1, 1, 0),
    }


def test_overlaps() -> None:
    table = small()
    overlap = [{"patient": "1", "splits": ["train", "val"], "scans": 3}]
    assert patients_in_several(table, "split") == overlap
    both = [{"patient": "1", "classes": ["CNV", "DME"], "scans": 3}]
    assert patients_in_several(table, "label") == both


def test_findings_name_what_they_mean() -> None:
    table = small()
    overlaps = patients_in_several(table, "split")
    found = count_findings(table, overlaps, patients_in_several(table, "label"))
    said = [(f.level, f.sentence) for f in found]
    assert [s for level, s in said if level == "error"] == [
        "1 patient has scans in more than one split (1 in train and val): a network is then tested "
        "on eyes it has learned by heart. Write a patient-safe split with "
        "`octoscope check --write table.csv`."
    ]
    warnings = " ".join(s for level, s in said if level == "warning")
    assert "The 1 scan of class NORMAL has no patient ids" in warnings
    assert "Class NORMAL has no scan in val." in warnings
    infos = " ".join(s for level, s in said if level == "info")
    assert "1 patient has scans in more than one class (1: CNV, DME)" in infos
    assert "1 scan has no label." in infos
    assert "3 scans of DME and NORMAL have no patient id" in infos
    assert "CNV 1 in val and DME 1 in val" in infos


def test_a_sound_table_gives_no_error_or_warning() -> None:
    rows = [
        (label, f"{label}{split}{p}", split)
        for label in ("CNV", "DME")
        for split in ("train", "val", "test")
        for p in range(6)
    ]
    assert count_findings(small(rows), [], []) == []
    assert patients_in_several(small(rows), "split") == []
