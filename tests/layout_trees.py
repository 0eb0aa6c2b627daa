"""Trees of empty files, and what a table says of them: shared by the tests of layouts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from octoscope.scans.table import ScanTable


def plant(root: Path, paths: Iterable[str]) -> Path:
    """Make empty files, with their folders."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def kermany_v2() -> list[str]:
    """Return 56 names as in the second edition of the Kermany data."""
    return [
        f"{split}/{label}/{label}-{patient}-{n}.jpeg"
        for split, patients in {"train": range(10, 15), "val": range(10, 11), "test": (99,)}.items()
        for label in ("CNV", "DME", "DRUSEN", "NORMAL")
        for patient in patients
        for n in (1, 2)
    ]


def columns(table: ScanTable, *names: str) -> set[tuple[object, ...]]:
    """Return the rows of some columns."""
    return set(table.frame[list(names)].itertuples(index=False, name=None))


def said(table: ScanTable, words: str) -> bool:
    """Say whether a note holds these words."""
    return any(words in note for note in table.notes)


LESIONS = {"0": "background", "1": "intraretinal_cyst", "4": "retinal_drusen"}
"""What the masks of `plant_lesions` are said to hold."""


def plant_lesions(root: Path) -> None:
    """Plant four scans of two classes, three of them with masks, and lesion names."""
    scans = ["train/CNV/CNV-1-1", "train/DME/DME-2-1", "val/CNV/CNV-3-1", "val/DME/DME-4-1"]
    plant(root, [f"images/{name}.jpeg" for name in scans])
    plant(root, [f"masks/{name}.png" for name in scans[:3]])
    (root / "lesions.json").write_text(json.dumps(LESIONS))
