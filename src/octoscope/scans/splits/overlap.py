"""Patients who are in more than one of the given splits."""

from __future__ import annotations

import numpy as np

from octoscope.errors import PatientOverlapError
from octoscope.scans.table import SPLITS, ScanTable
from octoscope.scans.wording import many


def overlapping_patients(table: ScanTable) -> dict[str, tuple[str, ...]]:
    """Return each known patient who is in several splits, with these splits, sorted by id."""
    known = table.frame.dropna(subset=["patient", "split"])
    splits = known.groupby("patient")["split"].agg(set)
    return {
        str(patient): tuple(name for name in SPLITS if name in found)
        for patient, found in splits.items()
        if len(found) > 1
    }


def require_no_overlap(table: ScanTable) -> None:
    """Check that every known patient is in one split only.

    Raises:
        PatientOverlapError: Naming how many are not, and the first few.
    """
    if overlap := overlapping_patients(table):
        raise PatientOverlapError(
            f"{table.root}: {_some(overlap)} in more than one split, so scores would be too good; "
            "take them out of train with --on-overlap move, or keep them, which the report will "
            "say in red, with --on-overlap allow"
        )


def settle_overlap(table: ScanTable, on_overlap: str) -> ScanTable:
    """Raise, take out, or declare the patients who are in several splits."""
    overlap = overlapping_patients(table)
    if not overlap or on_overlap == "error":
        require_no_overlap(table)
        return table
    if on_overlap == "allow":
        return table.noting(
            f"OVERRIDE: {_some(overlap)} in more than one split, which was allowed; scores of the "
            "later split are too good by an unknown amount."
        )
    split = table.frame["split"].to_numpy(dtype=object, copy=True)
    home = [overlap.get(patient, (None,))[-1] for patient in table.frame["patient"]]
    out = np.array(
        [h is not None and s is not None and h != s for h, s in zip(home, split, strict=True)]
    )
    split[out] = None
    return table.noting(
        f"{many(int(out.sum()), 'scan')} taken out of use, because {_some(overlap)} in val or test "
        "too.",
        split=split,
    )


def _some(overlap: dict[str, tuple[str, ...]]) -> str:
    """Return "12 patients (1016042 in train and test, …) are"."""
    first = "; ".join(f"{p} in {' and '.join(s)}" for p, s in list(overlap.items())[:3])
    more = "; …" if len(overlap) > 3 else ""
    verb = "are" if len(overlap) > 1 else "is"
    return f"{many(len(overlap), 'patient')} ({first}{more}) {verb}"
