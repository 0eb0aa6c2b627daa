"""Copies of scans: groups of them, and whether they cross splits, patients or labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from octoscope.scans.audit.copies import find_copies
from octoscope.scans.audit.finding import Finding, Level, plural
from octoscope.scans.audit.measure import Measurement
from octoscope.scans.table import ScanTable

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Groups of scans that show the same picture, each a sorted list of paths.

    Attributes:
        exact: Same file bytes or same decoded pixels.
        near: Linked by copies that were confirmed on the pixels, holding at least two different
            pictures.
        across_splits: Those of the above with scans in more than one split.
        across_patients: Those with scans of more than one known patient.
        across_labels: Those with more than one label.
        look_alikes: Pairs in two splits, or of two known patients, that look alike and could not
            be confirmed to be copies.
    """

    exact: list[list[str]]
    near: list[list[str]]
    across_splits: list[list[str]]
    across_patients: list[list[str]]
    across_labels: list[list[str]]
    look_alikes: list[list[str]] = field(default_factory=list)

    @property
    def groups(self) -> list[list[str]]:
        """All groups, each scan in one of them at most."""
        return whole_groups(self.exact, self.near)

    def to_dict(self) -> dict[str, list[list[str]]]:
        """Return the six lists."""
        return {
            "exact": self.exact,
            "near": self.near,
            "across_splits": self.across_splits,
            "across_patients": self.across_patients,
            "across_labels": self.across_labels,
            "look_alikes": self.look_alikes,
        }


def find_duplicates(
    table: ScanTable, measured: Sequence[Measurement], workers: int | None = None
) -> Duplicates:
    """Find the groups of exact and near copies among readable scans that are not blank.

    Args:
        table: The scans.
        measured: Their measurements, in the same order.
        workers: Threads; by default one per core.
    """
    rows = [i for i, m in enumerate(measured) if m.fault is None and not m.blank]
    exact_links = _same([measured[i].file_digest for i in rows], rows) + _same(
        [measured[i].pixel_digest for i in rows], rows
    )
    paths = table.frame["path"].tolist()
    exact = _groups(exact_links, len(paths))
    copies = _group_of(exact, len(paths))
    # Label masks are full of equal ones, and no scans: they are a finding of their own.
    pictures = [i for i in rows if copies[i] == i and measured[i].kind != "mask"]
    found = find_copies(measured, pictures, workers)
    near = [
        group
        for group in _groups([*exact_links, *map(tuple, found.confirmed.tolist())], len(paths))
        if len({copies[i] for i in group}) > 1
    ]

    def crossing(column: str) -> list[list[int]]:
        values = table.frame[column]
        return [g for g in whole_groups(exact, near) if values.iloc[g].dropna().nunique() > 1]

    def apart(pair: list[int]) -> bool:
        split, patient = (table.frame[c].iloc[pair].dropna() for c in ("split", "patient"))
        if patient.nunique() == 1 and len(patient) == 2:
            return False  # neighbouring B-scans, other visits
        return split.nunique() > 1 or patient.nunique() > 1

    def named(groups: list[list[int]]) -> list[list[str]]:
        return sorted(sorted(paths[i] for i in group) for group in groups)

    return Duplicates(
        exact=named(exact),
        near=named(near),
        across_splits=named(crossing("split")),
        across_patients=named(crossing("patient")),
        across_labels=named(crossing("label")),
        look_alikes=named([pair for pair in found.look_alikes.tolist() if apart(pair)]),
    )


def duplicate_findings(table: ScanTable, duplicates: Duplicates) -> list[Finding]:
    """Say which copies do harm, and which are to be expected."""
    frame = table.frame.set_index("path")
    findings = []

    def tell(
        groups: list[list[str]], level: Level, what: str, then: str, column: str = "patient"
    ) -> None:
        if groups:
            many = plural(len(groups), "picture stands", "pictures stand")
            example = _example(groups, frame[column])
            findings.append(Finding(level, f"{many} {what} ({example}): {then}"))

    tell(
        duplicates.across_splits,
        "error",
        "in more than one split, as exact or near copies",
        "a network is then tested on what it was trained on. Remove the copies (`octoscope check "
        "--drop-copies --write table.csv`), or give them the same patient and split again.",
        "split",
    )
    tell(
        duplicates.across_labels,
        "warning",
        "under more than one label",
        "at least one of the labels is wrong. Correct them; `--drop-copies` leaves all of these "
        "scans out.",
        "label",
    )
    crossed = {tuple(g) for g in duplicates.across_splits}
    tell(
        [g for g in duplicates.across_patients if tuple(g) not in crossed],
        "warning",
        "under more than one patient id",
        "a split by patient does not keep these copies together. Correct the ids or remove the "
        "copies.",
    )
    harmful = crossed | {tuple(g) for g in (*duplicates.across_patients, *duplicates.across_labels)}
    harmless = [group for group in duplicates.groups if tuple(group) not in harmful]
    without_id = [g for g in harmless if frame["patient"][g].isna().any()]
    tell(
        without_id,
        "info",
        "several times among scans without a patient id",
        "give the copies one patient id, or keep one of each.",
    )
    tell(
        [g for g in harmless if g not in without_id],
        "info",
        "several times for one patient in one split",
        "they add little and leak nothing.",
    )
    if duplicates.look_alikes:
        many = plural(len(duplicates.look_alikes), "pair of scans", "pairs of scans")
        findings.append(
            Finding(
                "info",
                f"{many} of different splits or patients look alike without being shown to be "
                f"copies ({_example(duplicates.look_alikes, frame['patient'])}): neighbouring "
                "B-scans of one eye do, and so do much reduced copies. Look at them if the patient "
                "ids are not certain.",
            )
        )
    return findings


def _same(digests: Sequence[str], rows: Sequence[int]) -> list[tuple[int, int]]:
    """Link each row to the first one with the same digest."""
    first: dict[str, int] = {}
    return [(first.setdefault(d, i), i) for d, i in zip(digests, rows, strict=True)]


def _groups(links: Sequence[tuple[int, ...]], count: int) -> list[list[int]]:
    """Return the connected components of at least two among rows 0…count-1."""
    edges = np.array(links, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), (count, count))
    _, component = connected_components(graph, directed=False)
    members = defaultdict(list)
    for row, of in enumerate(component):
        members[of].append(row)
    return [group for group in members.values() if len(group) > 1]


def _group_of(groups: list[list[int]], count: int) -> np.ndarray:
    """Return for each row (N,) a number that it shares with its copies only."""
    number = np.arange(count)
    for group in groups:
        number[group] = group[0]
    return number


def whole_groups(exact: list[list[T]], near: list[list[T]]) -> list[list[T]]:
    """Return the near groups and those exact groups that are not part of one."""
    inside = {member for group in near for member in group}
    return [*near, *(group for group in exact if group[0] not in inside)]


def _example(groups: list[list[str]], column: pd.Series) -> str:
    """Name two scans of the first group, that differ in `column` if any do."""
    one, *others = groups[0]
    two = next((p for p in others if column[p] != column[one]), others[0])
    more = f", and {len(groups) - 1:,} more" if len(groups) > 1 else ""
    return f"{one} and {two}{more}"
