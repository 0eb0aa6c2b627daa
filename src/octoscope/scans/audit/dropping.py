"""A table without the copies among its scans."""

from __future__ import annotations

import numpy as np

from octoscope.scans.audit.duplicates import Duplicates
from octoscope.scans.audit.finding import listing, plural
from octoscope.scans.table import SPLITS, ScanTable


def without_copies(table: ScanTable, duplicates: Duplicates) -> ScanTable:
    """Leave one of each group of copies, and none where their labels contradict each other.

    The one that is kept stands in the test split if any does, else in val, else in train, so that
    no test scan is lost and nothing that was trained on is tested; among those, one with a label
    and a patient id goes before one without, then the first by path. Where copies have two labels,
    at least one is wrong and nobody can tell which from here, so all of them are left out.

    Args:
        table: The scans.
        duplicates: What the audit of this table found.

    Returns:
        The rows that are left. Its notes say how many were left out, and name the first ones.
    """
    frame = table.frame.set_index("path")
    rank = {split: place for place, split in enumerate(reversed(SPLITS))}

    def order(path: str) -> tuple[int, bool, bool, str]:
        row = frame.loc[path]
        unlabelled, unknown = row["label"] is None, row["patient"] is None
        return rank.get(row["split"], len(rank)), unlabelled, unknown, path

    dropped: list[str] = []
    contradicting: list[str] = []
    shared: list[str] = []
    for group in duplicates.groups:
        if frame.loc[group, "label"].dropna().nunique() > 1:
            contradicting += group
            continue
        kept, *others = sorted(group, key=order)
        dropped += others
        ids = sorted(set(frame.loc[group, "patient"].dropna()))
        if len(ids) > 1:
            shared.append(f"{kept} of {' and '.join(ids)}")
    notes = []
    if dropped:
        left = plural(len(dropped), "copy was", "copies were")
        notes.append(
            f"{left} left out, one of each group was kept, in test before val before train "
            f"(left out: {listing(dropped)})."
        )
    if contradicting:
        left = plural(len(contradicting), "scan was", "scans were")
        notes.append(
            f"{left} left out because copies of the same picture have different labels "
            f"({listing(contradicting)}); correct the labels to keep them."
        )
    if shared:
        many = plural(len(shared), "picture that was kept stands", "pictures that were kept stand")
        notes.append(
            f"{many} under several patient ids ({listing(shared)}): if those are one person, give "
            "the scans one id, or a split by patient does not keep them together."
        )
    if not notes:
        return table.noting("No copies were found, so none was left out.")
    gone = {*dropped, *contradicting}
    keep = np.flatnonzero([path not in gone for path in table.frame["path"]])
    return table.rows(keep).noting(*notes)
