"""Small tables to split: shared by the tests of splits."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from hypothesis import strategies as st

from octoscope.scans.table import ScanTable

ROOT = Path("data")


def table_of(rows: list[tuple[str | None, str | None, str | None]]) -> ScanTable:
    """A table from (label, patient, split) rows."""
    frame = pd.DataFrame(
        [
            {"path": f"{i}.png", "label": label, "patient": patient, "split": split}
            for i, (label, patient, split) in enumerate(rows)
        ]
    )
    return ScanTable.from_frame(frame, ROOT)


def cohort(
    patients: int = 30,
    scans: int = 3,
    classes: str = "ABC",
    split: str | None = None,
    prefix: str = "p",
) -> list[tuple[str | None, str | None, str | None]]:
    """Return rows (label, patient, split) of patients who take turns with the classes."""
    return [
        (classes[p % len(classes)], f"{prefix}{p}", split)
        for p in range(patients)
        for _ in range(scans)
    ]


def splits_of_patients(table: ScanTable) -> dict[str, set[str]]:
    """Return the splits in which each patient is."""
    found: dict[str, set[str]] = {}
    for group, split in zip(table.groups, table.frame["split"], strict=True):
        if split is not None:
            found.setdefault(group, set()).add(split)
    return found


def straddling(table: ScanTable) -> list[str]:
    """Return the patients who are in several splits."""
    return [group for group, splits in splits_of_patients(table).items() if len(splits) > 1]


# Patients of one to three classes, with a skewed number of scans, some of them unlabelled.
random_patients = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["A", "B", "C", None]), st.integers(1, 12)),
        min_size=1,
        max_size=3,
    ),
    min_size=1,
    max_size=40,
)


def random_table(patients: list[list[tuple[str | None, int]]]) -> ScanTable:
    """Return the table of drawn patients."""
    return table_of(
        [
            (label, f"{p:03d}", None)
            for p, parts in enumerate(patients)
            for label, scans in parts
            for _ in range(scans)
        ]
    )


def patients_by_class(table: ScanTable) -> pd.Series:
    """Count the patients of each class."""
    return pd.Series(table.groups).groupby(table.frame["label"].to_numpy()).nunique()
