"""New splits and folds, by patient and stratified by class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from octoscope.errors import OctoscopeError
from octoscope.scans.splits.assignment import assign_patients
from octoscope.scans.table import SPLITS, ScanTable
from octoscope.scans.wording import many

FRACTIONS = (0.7, 0.15, 0.15)
VALIDATION_FRACTION = 0.15
LEAST_PER_CLASS = 10
LARGEST_SHARE = 1 / 3


def split_by_patient(
    table: ScanTable, fractions: Sequence[float] = FRACTIONS, seed: int = 0
) -> ScanTable:
    """Put every scan in train, val or test anew, by patient and stratified by class.

    Args:
        table: Any table; the splits that it has are overwritten.
        fractions: Shares of train, val and test; 0 leaves one out.
        seed: Another seed, another split; the order of the rows does not matter.

    Raises:
        OctoscopeError: If the fractions are no shares, or a class has a single patient.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise OctoscopeError(
            f"the fractions {tuple(fractions)} are not shares of train, val and test; "
            "give three numbers that sum to 1"
        )
    wanted = sum(f > 0 for f in fractions)
    everything = np.ones(len(table), dtype=bool)
    _require_patients(table, everything, min(wanted, 2), "be in more than one split")
    shares = np.tile(np.array(fractions, dtype=float)[:, None], len(table.classes) + 1)
    split = _spread(table, everything, shares, seed)
    done = table.noting(split=np.array(SPLITS, dtype=object)[split])
    return done.noting(
        f"split by patient (seed {seed}): {_sizes(done)}.",
        *_missing_classes(done, [n for n, f in zip(SPLITS, fractions, strict=True) if f > 0]),
    )


def k_fold(
    table: ScanTable, folds: int = 5, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield ``(train, val)`` row positions for each of `folds`, by patient and stratified.

    Scans of a given test split are in no fold.

    Raises:
        OctoscopeError: If `folds` is below 2 or a class has fewer patients.
    """
    if folds < 2:
        raise OctoscopeError(f"{folds} folds are too few; use at least 2")
    rows = (table.frame["split"] != "test").to_numpy()
    _require_patients(table, rows, folds, f"be in each of {folds} folds")
    shares = np.full((folds, len(table.classes) + 1), 1 / folds)
    fold = _spread(table, rows, shares, seed)
    position = np.flatnonzero(rows)
    for k in range(folds):
        yield position[fold != k], position[fold == k]


def carve_validation(
    table: ScanTable,
    fraction: float = VALIDATION_FRACTION,
    least_per_class: int = LEAST_PER_CLASS,
    seed: int = 0,
) -> ScanTable:
    """Take validation patients out of train; a val split that is there goes back to train first.

    Args:
        table: A table with a train split. Its test split is not touched.
        fraction: Share of the scans of each class.
        least_per_class: A class that would get fewer scans gives more, up to a third.
        seed: As in `split_by_patient`.

    Raises:
        OctoscopeError: If there is no train split, or a class has a single patient in it.
    """
    given = int((table.frame["split"] == "val").sum())
    rows = table.frame["split"].isin(["train", "val"]).to_numpy()
    if not (table.frame["split"] == "train").any():
        raise OctoscopeError(f"{table.root}: has no train split to take validation scans from")
    if not 0 < fraction <= 0.5:
        raise OctoscopeError(f"a validation fraction of {fraction} is not in (0, 0.5]")
    done = move_to_val(table, rows, fraction, least_per_class, seed)
    val = done.split("val")
    returned = f"; the given val of {many(given, 'scan')} was returned to train first"
    return done.noting(
        f"validation was carved out of train by patient (seed {seed}): {many(len(val), 'scan')} of "
        f"{many(len(set(val.groups)), 'patient')}{returned if given else ''}.",
        *_missing_classes(done, ["val"]),
    )


def move_to_val(
    table: ScanTable, rows: np.ndarray, fraction: float, least: int, seed: int
) -> ScanTable:
    """Divide the patients of `rows` into train and val."""
    _require_patients(table, rows, 2, "be in both train and val")
    scans = np.bincount(table.targets[rows] % (len(table.classes) + 1), minlength=1)
    scans = np.pad(scans, (0, len(table.classes) + 1 - len(scans)))
    wanted = np.maximum(fraction, np.minimum(least / np.maximum(scans, 1), LARGEST_SHARE))
    split = table.frame["split"].to_numpy(dtype=object, copy=True)
    split[rows] = np.array(["train", "val"], dtype=object)[
        _spread(table, rows, np.stack([1 - wanted, wanted]), seed)
    ]
    return table.noting(split=split)


def _spread(table: ScanTable, rows: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """Assign the patients of the rows ``(N,)`` bool; return a split index for each such row."""
    patients, patient = np.unique(table.groups[rows].astype(str), return_inverse=True)
    counts = np.zeros((len(patients), len(table.classes) + 1), dtype=np.int64)
    np.add.at(counts, (patient, table.targets[rows]), 1)  # target -1 is the last column
    return assign_patients(patients.tolist(), counts, shares, seed)[patient]


def _require_patients(table: ScanTable, rows: np.ndarray, least: int, purpose: str) -> None:
    """Raise if a class has fewer than `least` patients among `rows`, saying why that matters."""
    frame = table.frame[rows]
    groups = pd.Series(table.groups[rows], index=frame.index)
    for name, patients in groups.groupby(frame["label"].to_numpy()).nunique().items():
        if patients >= least:
            continue
        of_class = frame["label"] == name
        unknown = int((of_class & frame["patient"].isna()).sum())
        if unknown:
            raise OctoscopeError(
                f"{table.root}: class {name} has {many(unknown, 'scan')} without a patient id, "
                f"which count as one patient, so it cannot {purpose}; if each is of another "
                "patient, say so with --unknown-patients distinct "
                "(patients_assumed_distinct in Python)"
            )
        raise OctoscopeError(
            f"{table.root}: class {name} has {many(patients, 'patient')} "
            f"({groups[of_class].iloc[0]}"
            f"{', …' if patients > 1 else ''}), so it cannot {purpose}; add patients or remove "
            "the class"
        )


def _sizes(table: ScanTable) -> str:
    """Return "train 210 scans of 42 patients, val …"."""
    split, groups = table.frame["split"].to_numpy(dtype=object), table.groups
    return ", ".join(
        f"{name} {many(int((split == name).sum()), 'scan')} of "
        f"{many(len(set(groups[split == name])), 'patient')}"
        for name in SPLITS
        if (split == name).any()
    )


def _missing_classes(table: ScanTable, splits: Sequence[str]) -> list[str]:
    """Note the classes that have too few patients to be in each of the splits."""
    there = set(zip(table.frame["label"], table.frame["split"], strict=True))
    return [
        f"class {name} has too few patients to be in {split}."
        for split in splits
        for name in table.classes
        if (name, split) not in there
    ]
