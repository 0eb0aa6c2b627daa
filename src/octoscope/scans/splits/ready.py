"""`ready_splits`: from the splits that were given to splits that can be trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.scans.splits.making import (
    FRACTIONS,
    LEAST_PER_CLASS,
    carve_validation,
    move_to_val,
    split_by_patient,
)
from octoscope.scans.splits.overlap import settle_overlap
from octoscope.scans.table import ScanTable
from octoscope.scans.wording import many

# A given validation split is too small if it is both a small part of train and small in itself.
SMALL_SHARE, SMALL_CLASS = 0.05, 30

OVERLAP_CHOICES = ("error", "move", "allow")
UNKNOWN_CHOICES = ("grouped", "distinct")


def ready_splits(
    table: ScanTable,
    seed: int = 0,
    *,
    fractions: Sequence[float] = FRACTIONS,
    on_overlap: str = "error",
    unknown_patients: str = "grouped",
) -> ScanTable:
    """Do whatever is needed so that train and val exist and no patient straddles splits.

    - No split given: `split_by_patient`.
    - Some rows without a split: they join train, unless their patient is in val or test; those
      stay out of use.
    - No val, or one too small to choose a model by (under 5 % of train and under 30 scans in a
      class, as Kermany's 32): `carve_validation`. A larger one stays as it is.
    - A class that train has and val lacks: patients of it move from train to val.
    - A given test split is never changed.

    Args:
        table: As loaded.
        seed: As in `split_by_patient`.
        fractions: Shares of train, val and test where no split is given; of train and val, in
            proportion, where val is made.
        on_overlap: For patients in several given splits: ``error``; ``move`` takes their scans
            out of use where they are in train (or in val, for patients of test); ``allow``
            keeps them and says so in a note that begins with ``OVERRIDE:``.
        unknown_patients: ``grouped``, or ``distinct`` for `patients_assumed_distinct`.

    Raises:
        PatientOverlapError: See `on_overlap`.
        OctoscopeError: If a class has too few patients, or no scans in train.
    """
    _require_choice("on_overlap", on_overlap, OVERLAP_CHOICES)
    _require_choice("unknown_patients", unknown_patients, UNKNOWN_CHOICES)
    if unknown_patients == "distinct":
        table = table.patients_assumed_distinct()
    if table.frame["split"].isna().all():
        return split_by_patient(table, fractions, seed)
    fraction = fractions[1] / (fractions[0] + fractions[1])
    table = _return_small_validation(_place_unsplit(table))
    table = settle_overlap(table, on_overlap)
    if (table.frame["split"] == "val").any():
        table = _complete_validation(table, fraction, seed)
    else:
        table = carve_validation(table, fraction, seed=seed)
    lost = set(table.frame["label"].dropna()) - set(table.split("train").frame["label"])
    if lost:
        raise OctoscopeError(
            f"{table.root}: class {min(lost)} has no scan in train; add some or remove the class"
        )
    return table.noting(*_unverified(table))


def _place_unsplit(table: ScanTable) -> ScanTable:
    """Put rows without a split in train, except those whose patient is in val or test."""
    split = table.frame["split"].to_numpy(dtype=object, copy=True)
    without = table.frame["split"].isna().to_numpy()
    if not without.any():
        return table
    held = np.isin(split, ["val", "test"])
    taken = without & np.isin(table.groups.astype(str), np.unique(table.groups[held].astype(str)))
    joining = without & ~taken
    split[joining] = "train"
    notes = []
    if joining.any():
        notes.append(f"{many(int(joining.sum()), 'scan')} without a split: put in train.")
    if taken.any():
        notes.append(
            f"{many(int(taken.sum()), 'scan')} without a split not used: val or test has scans of "
            "the same patient."
        )
    return table.noting(*notes, split=split)


def _return_small_validation(table: ScanTable) -> ScanTable:
    """Return a val split to train if it is too small to choose a model by."""
    split = table.frame["split"]
    val, train = int((split == "val").sum()), int((split == "train").sum())
    if not val or val >= SMALL_SHARE * train:
        return table
    least = table.frame.loc[split == "val", "label"].value_counts().min()
    if least >= SMALL_CLASS:
        return table
    return table.noting(
        f"the given val of {many(val, 'scan')} is too small to choose a model by "
        f"({val / train:.2%} of train); it joins train, and validation is carved out anew.",
        split=split.where(split != "val", "train"),
    )


def _complete_validation(table: ScanTable, fraction: float, seed: int) -> ScanTable:
    """Move patients of the classes that val lacks from train to val."""
    split, label = table.frame["split"], table.frame["label"]
    lacking = sorted(set(label[split == "train"].dropna()) - set(label[split == "val"]))
    for name in lacking:
        groups = table.groups.astype(str)
        train = (table.frame["split"] == "train").to_numpy()
        rows = train & np.isin(groups, groups[train & (label == name).to_numpy()])
        table = move_to_val(table, rows, fraction, LEAST_PER_CLASS, seed)
        moved = rows & (table.frame["split"] == "val").to_numpy()
        table = table.noting(
            f"the given val has no {name}: {many(int(moved.sum()), 'scan')} of "
            f"{many(len(set(groups[moved])), 'patient')} moved there from train (seed {seed})."
        )
    return table


def _require_choice(option: str, choice: str, choices: tuple[str, ...]) -> None:
    if choice not in choices:
        raise OctoscopeError(
            f'{option} "{choice}" is unknown{did_you_mean(choice, choices)}; '
            f"use {', '.join(choices)}"
        )


def _unverified(table: ScanTable) -> list[str]:
    """Note scans of unknown patients in several splits, whose overlap nobody can rule out."""
    unknown = table.frame["patient"].isna() & table.frame["split"].notna()
    if table.frame.loc[unknown, "split"].nunique() < 2:
        return []
    return [
        f"{many(int(unknown.sum()), 'scan')} without a patient id in several given splits: "
        "patients who straddle them cannot be ruled out."
    ]
