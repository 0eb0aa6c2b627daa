"""Scans and patients of an external test set that the model has met in training or validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from octoscope.data.cache import ScanCache
from octoscope.data.identity import FileRecord
from octoscope.errors import OctoscopeError, PatientOverlapError
from octoscope.scans.table import ScanTable
from octoscope.scans.wording import first_of, many

Overlap = Literal["error", "move", "allow"]
SEEN = ("train", "val")


@dataclass(frozen=True, eq=False)
class Leak:
    """Which of N scans a model has met.

    Attributes:
        scans: ``(N,)`` bool: the file is, byte for byte, one of train or val.
        patients: ``(N,)`` bool: the patient's id is one of train or val, the file is not.
        test: ``(N,)`` bool: the file is one of the study's test split.
        saved_anew: Whether `scans` are the same pictures in other files.
    """

    scans: np.ndarray
    patients: np.ndarray
    test: np.ndarray
    saved_anew: bool = False

    @classmethod
    def of_copies(cls, scans: np.ndarray) -> Leak:
        """Return the leak of scans that show the same pictures as others in other files.

        Args:
            scans: ``(N,)`` bool.
        """
        none = np.zeros_like(scans)
        return cls(scans, none, none, saved_anew=True)

    @property
    def any(self) -> np.ndarray:
        """``(N,)`` bool: the scan tells nothing of scans that the model has not met."""
        return self.scans | self.patients


def find_leak(
    table: ScanTable, hashes: Sequence[str], study: ScanCache, *, own_ids: bool = False
) -> Leak:
    """Compare a table with the scans of a study by content, and by the ids of patients.

    Args:
        table: N scans from elsewhere.
        hashes: SHA-256 of each file, '' where it cannot be read.
        study: The cache that the model was trained on.
        own_ids: The patient ids of the table are its own: one that stands in the study too is
            another person there.

    Raises:
        OctoscopeError: If what is known of the study's files is damaged.
    """
    if study.folder is None:
        raise OctoscopeError("the cache of the study is not on the disk; its files are not known")
    record = FileRecord.load(study.folder / "files.parquet")
    content = dict(zip(record.paths, record.hashes, strict=True))
    frame = study.table.frame
    by_split = {
        split: {content.get(path, "") for path in frame.loc[frame["split"] == split, "path"]} - {""}
        for split in (*SEEN, "test")
    }
    given = np.asarray(hashes, dtype=object)
    scans = np.isin(given.astype(str), [*by_split["train"], *by_split["val"]])
    met = set(frame.loc[frame["split"].isin(SEEN), "patient"].dropna())
    ids = [
        patient is not None and patient in met and not patient.startswith("scan:")
        for patient in table.frame["patient"]
    ]
    patients = np.array(ids, dtype=bool) & ~scans
    return Leak(
        scans,
        np.zeros(len(table), dtype=bool) if own_ids else patients,
        np.isin(given.astype(str), list(by_split["test"])),
    )


def settle_leak(table: ScanTable, leak: Leak, choice: Overlap, run: str) -> ScanTable:
    """Do with scans that the model has met what is asked for.

    Args:
        table: N scans.
        leak: Which of them the model has met.
        choice: ``error``: stop; ``move``: leave them out; ``allow``: keep them, with a note that
            begins with ``OVERRIDE:``.
        run: Name of the run.

    Raises:
        PatientOverlapError: See `choice`; or if nothing would be left.
    """
    notes = []
    if leak.test.any():
        notes.append(
            f"{many(int(leak.test.sum()), 'scan')} of the test split of the study "
            f"({_first(table, leak.test)}): evaluating them here opens that split as well."
        )
    if not leak.any.any():
        return table.noting(*notes)
    met = _met(table, leak, run)
    if choice == "error":
        raise PatientOverlapError(f"{table.root}: {met}{_advice(leak)}")
    if choice == "allow":
        return table.noting(f"OVERRIDE: {met}.", *notes)
    left = np.flatnonzero(~leak.any)
    if not len(left):
        raise PatientOverlapError(f"{table.root}: {met}; none would be left")
    return table.rows(left).noting(f"{met}: left out, as asked.", *notes)


def _met(table: ScanTable, leak: Leak, run: str) -> str:
    """Say how many scans and patients were met."""
    parts = []
    if leak.scans.any():
        number, of = int(leak.scans.sum()), many(len(table), "scan")
        verb = "is a file that" if number == 1 else "are files that"
        if leak.saved_anew:
            shown = "shows the same picture" if number == 1 else "show the same pictures"
            verb = f"{shown} as what"
        how = "copies saved anew, or neighbours in a volume; " if leak.saved_anew else ""
        parts.append(
            f"{number:,} of {of} {verb} {run} was trained or validated on "
            f"({how}{_first(table, leak.scans)})"
        )
    if leak.patients.any():
        ids = sorted(set(table.frame.loc[leak.patients, "patient"]))
        verb = "has the id of a patient" if len(ids) == 1 else "have ids of patients"
        parts.append(
            f"{many(len(ids), 'patient')} with {many(int(leak.patients.sum()), 'further scan')} "
            f"{verb} that {run} was trained or validated on ({first_of(ids)})"
        )
    return ", and ".join(parts)


def _advice(leak: Leak) -> str:
    """Say what can be done."""
    if (leak.scans | leak.test).all():
        return (
            "; these are the study's own scans, so leave out --data and name a split with --split"
        )
    own = (
        ", or say with --own-ids true that the ids of this data set are of other people"
        if leak.patients.any()
        else ""
    )
    return f"; leave them out with --on-overlap move{own}, or keep them with --on-overlap allow"


def _first(table: ScanTable, rows: np.ndarray) -> str:
    return first_of(table.frame.loc[rows, "path"].tolist())
