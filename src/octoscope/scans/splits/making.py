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
LEAST_PER_CLASS = 3
FAR_OFF = 0.1
"""Scans further than this from the wanted share of a split are spoken of."""


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
    shares = np.array(fractions, dtype=float)
    split = _spread(table, everything, shares, seed)
    done = table.noting(split=np.array(SPLITS, dtype=object)[split])
    return done.noting(
        f"split by patient (seed {seed}): {_sizes(done)}.",
        *_uneven(done, shares),
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
    fold = _spread(table, rows, np.full(folds, 1 / folds), seed)
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
        fraction: Share of the patients of each class.
        least_per_class: A class that would get fewer patients gives more, up to a third.
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
    split = table.frame["split"].to_numpy(dtype=object, copy=True)
    split[rows] = np.array(["train", "val"], dtype=object)[
        _spread(table, rows, np.array([1 - fraction, fraction]), seed, least)
    ]
    return table.noting(split=split)


def _spread(
    table: ScanTable, rows: np.ndarray, shares: np.ndarray, seed: int, least: int = 1
) -> np.ndarray:
    """Assign the patients of the rows ``(N,)`` bool; return a split index for each such row."""
    groups = table.groups[rows].astype(str)
    patients, first, patient = np.unique(groups, return_index=True, return_inverse=True)
    holds = np.zeros((len(patients), len(table.classes) + 1), dtype=bool)
    holds[patient, table.targets[rows]] = True  # target -1 is the last column, which is no class
    unknown = table.frame["patient"].isna().to_numpy()[rows][first]
    return assign_patients(
        patients.tolist(),
        holds[:, :-1],
        table.classes,
        shares,
        seed,
        least=least,
        unknown=unknown,
    )[patient]


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


def _uneven(table: ScanTable, shares: np.ndarray) -> list[str]:
    """Note it if patients with many scans leave a split far from its share of the scans."""
    have = [float((table.frame["split"] == name).mean()) for name in SPLITS]
    if max(abs(h - s) for h, s in zip(have, shares, strict=True)) <= FAR_OFF:
        return []
    parts = ", ".join(
        f"{name} {h:.0%} of the scans (wanted {s:.0%})"
        for name, h, s in zip(SPLITS, have, shares, strict=True)
    )
    return [
        f"patients are shared out by number, and some have many scans: {parts}; another seed "
        "gives another split."
    ]


def _missing_classes(table: ScanTable, splits: Sequence[str]) -> list[str]:
    """Note the classes that have too few patients to be in each of the splits."""
    there = set(zip(table.frame["label"], table.frame["split"], strict=True))
    return [
        f"class {name} has too few patients to be in {split}."
        for split in splits
        for name in table.classes
        if (name, split) not in there
    ]
