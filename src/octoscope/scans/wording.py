"""The sentences that tables say about themselves, in their notes."""

from __future__ import annotations

import pandas as pd


def many(number: int, one: str, more: str = "") -> str:
    """Return "1 scan", "1,234 scans"; `more` where the plural is not `one` with an s."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def first_of(paths: list[str]) -> str:
    """Return ``first: PATH``, or the path alone if there is no other."""
    return paths[0] if len(paths) == 1 else f"first: {paths[0]}"


def headline(what: str, frame: pd.DataFrame) -> str:
    """Return "read as WHAT: 84,484 scans of 4 classes (CNV 37,455, …) from 4,657 patients."."""
    counts = frame["label"].value_counts().sort_index()
    classes = ", ".join(f"{label} {count:,}" for label, count in counts.items())
    of = f" of {many(len(counts), 'class', 'classes')} ({classes})" if len(counts) else ""
    known = frame["patient"].nunique()
    patients = many(known, "patient") if known else "unknown patients"
    return f"read as {what}: {many(len(frame), 'scan')}{of} from {patients}."


def unknown_patients(frame: pd.DataFrame) -> list[str]:
    """Say which scans have no patient id and what that means; nothing if all have one."""
    unknown = frame["patient"].isna()
    if not unknown.any():
        return []
    counts = frame.loc[unknown, "label"].fillna("unlabelled").value_counts().sort_index()
    classes = ", ".join(f"{label} {count:,}" for label, count in counts.items())
    return [
        f"{many(int(unknown.sum()), 'scan')} without a patient id ({classes}): those of one class "
        "count as one patient, who stays in one split; if each is of another patient, say so with "
        "--unknown-patients distinct."
    ]
