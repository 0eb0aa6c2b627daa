"""How many scans of how many patients there are, by class and split, and whose patients overlap."""

from __future__ import annotations

from typing import Any

import numpy as np

from octoscope.scans.audit.finding import Finding, listing, plural
from octoscope.scans.table import SPLITS, ScanTable

FEWEST_PATIENTS = 5
"""A class with fewer patients in a split gives no number worth an interval."""


def count_scans(table: ScanTable) -> list[dict[str, Any]]:
    """Return ``{class, split, scans, patients, without_patient}`` per class and split that occur.

    `patients` counts the known ones; `without_patient` the scans whose patient is unknown.
    """
    frame = table.frame
    counts = []
    for label in [*table.classes, None]:
        in_class = frame["label"].isna() if label is None else frame["label"] == label
        for split in [*SPLITS, None]:
            in_split = frame["split"].isna() if split is None else frame["split"] == split
            rows = frame[in_class & in_split]
            if len(rows):
                counts.append(
                    {
                        "class": label,
                        "split": split,
                        "scans": len(rows),
                        "patients": int(rows["patient"].nunique()),
                        "without_patient": int(rows["patient"].isna().sum()),
                    }
                )
    return counts


def patients_in_several(table: ScanTable, column: str) -> list[dict[str, Any]]:
    """Return ``{patient, <column>s: [...], scans}`` of known patients with several values."""
    known = table.frame[table.frame["patient"].notna() & table.frame[column].notna()]
    values = known.groupby("patient", sort=True)[column]
    several = values.nunique()
    plurals = {"split": "splits", "label": "classes"}
    order = SPLITS if column == "split" else table.classes
    return [
        {
            "patient": patient,
            plurals[column]: sorted(set(values.get_group(patient)), key=order.index),
            "scans": int(values.size()[patient]),
        }
        for patient in several[several > 1].index
    ]


def count_findings(
    table: ScanTable, overlaps: list[dict[str, Any]], several_classes: list[dict[str, Any]]
) -> list[Finding]:
    """Say what the counts mean for training and testing."""
    return [
        *_overlap_findings(overlaps, several_classes),
        *_size_findings(table),
        *_unknown_findings(table),
    ]


def _overlap_findings(
    overlaps: list[dict[str, Any]], several_classes: list[dict[str, Any]]
) -> list[Finding]:
    findings = []
    if overlaps:
        example = listing([f"{o['patient']} in {' and '.join(o['splits'])}" for o in overlaps])
        findings.append(
            Finding(
                "error",
                f"{plural(len(overlaps), 'patient has', 'patients have')} scans in more than one "
                f"split ({example}): a network is then tested on eyes it has learned by heart. "
                "Write a patient-safe split with `octoscope check --write table.csv`.",
            )
        )
    if several_classes:
        example = listing([f"{s['patient']}: {', '.join(s['classes'])}" for s in several_classes])
        findings.append(
            Finding(
                "info",
                f"{plural(len(several_classes), 'patient has', 'patients have')} scans in more "
                f"than one class ({example}); both eyes or several visits may explain it.",
            )
        )
    return findings


def _size_findings(table: ScanTable) -> list[Finding]:
    frame, findings = table.frame, []
    splits = [s for s in SPLITS if (frame["split"] == s).any()]
    unlabelled = int(frame["label"].isna().sum())
    if unlabelled:
        findings.append(
            Finding("info", f"{plural(unlabelled, 'scan has', 'scans have')} no label.")
        )
    if len(table.classes) == 1:
        findings.append(
            Finding(
                "warning",
                f"All labelled scans are {table.classes[0]}: there is nothing to tell apart.",
            )
        )
    groups = table.groups
    for label in table.classes:
        of_class = (frame["label"] == label).to_numpy()
        if not of_class.any():
            findings.append(Finding("warning", f"Class {label} has no scan."))
            continue
        if len(np.unique(groups[of_class].astype(str))) == 1:
            whose = (
                "no patient ids, so all of them count as one patient"
                if frame["patient"][of_class].isna().any()
                else f"one patient ({groups[of_class][0]}) only"
            )
            findings.append(
                Finding(
                    "warning",
                    f"The {plural(int(of_class.sum()), 'scan')} of class {label} "
                    f"{'has' if of_class.sum() == 1 else 'have'} {whose}: "
                    "the class cannot be divided among train, val and test by patient.",
                )
            )
        for split in splits:
            if not (of_class & (frame["split"] == split).to_numpy()).any():
                findings.append(Finding("warning", f"Class {label} has no scan in {split}."))
    return [*findings, *_few_patients(table)]


def _few_patients(table: ScanTable) -> list[Finding]:
    """Say in which splits a class has too few patients for a narrow interval."""
    frame = table.frame[table.frame["split"].isin(["val", "test"])]
    few = [
        f"{label} {count} in {split}"
        for (split, label), count in frame.groupby(["split", "label"])["patient"].nunique().items()
        if 0 < count < FEWEST_PATIENTS
    ]
    if not few:
        return []
    sentence = f"Few patients to test on ({listing(few, most=8)}): expect wide intervals."
    return [Finding("info", sentence)]


def _unknown_findings(table: ScanTable) -> list[Finding]:
    unknown = table.frame["patient"].isna()
    if not unknown.any():
        return []
    labels = [k for k in table.classes if (table.frame["label"][unknown] == k).any()]
    of = f" of {listing(labels, most=8)}" if labels else ""
    return [
        Finding(
            "info",
            f"{plural(int(unknown.sum()), 'scan')}{of} "
            f"{'has' if unknown.sum() == 1 else 'have'} no patient id. Splits keep those of a "
            "class together as one patient; the tests of artefacts below count each as a patient "
            "of its own, so as to warn rather than to miss.",
        )
    ]
