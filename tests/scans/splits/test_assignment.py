"""Who keeps his split when scans and patients are added: everybody, or all but a neighbour."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octoscope.scans.splits import (
    carve_validation,
    split_by_patient,
)
from octoscope.scans.table import ScanTable
from split_tables import (
    cohort,
    patients_by_class,
    splits_of_patients,
    table_of,
)

# Whose scan is added, of which class, and what a new patient is called.
added = st.tuples(st.integers(0, 39), st.sampled_from("ABC"), st.text("abcxyz0", min_size=1))


@settings(max_examples=40, deadline=None)
@given(
    patients=st.lists(
        st.tuples(st.sets(st.sampled_from("ABC"), min_size=1, max_size=2), st.integers(1, 9)),
        min_size=9,
        max_size=40,
    ),
    add=added,
    seed=st.integers(0, 99),
)
def test_what_is_added_moves_nobody_or_a_neighbour(
    patients: list[tuple[set[str], int]], add: tuple[int, str, str], seed: int
) -> None:
    """More scans of a patient move no one; a new patient, one at each of the two borders.

    Where a class lives on patients of several classes, mending that may move one more of it.
    """
    rows = [
        (label, f"p{p}", None)
        for p, (labels, scans) in enumerate(patients)
        for label in sorted(labels)
        for _ in range(scans)
    ]
    if patients_by_class(table_of(rows)).min() < 2:
        return
    before = splits_of_patients(split_by_patient(table_of(rows), seed=seed))
    which, label, name = add
    known = which % len(patients)
    own = min(patients[known][0])
    more = [*rows, (own, f"p{known}", None), (own, f"p{known}", None)]
    assert splits_of_patients(split_by_patient(table_of(more), seed=seed)) == before
    newer = [*rows, (label, f"new{name}", None)]
    after = splits_of_patients(split_by_patient(table_of(newer), seed=seed))
    moved = [patient for patient in before if after[patient] != before[patient]]
    pure = all(len(labels) == 1 for labels, _ in patients)
    assert len(moved) <= (2 if pure else 4)


@pytest.mark.parametrize("way", [split_by_patient, carve_validation])
def test_few_move_when_a_patient_is_added(way: Callable[..., ScanTable]) -> None:
    """Two borders, at 15 % and 85 %: 2 x 2 x 0.15 x 0.85 = 0.51 patients on average."""
    moved = []
    for n in range(20):
        rows = cohort(30 + n, 2, "ABC", "train")
        before = splits_of_patients(way(table_of(rows)))
        after = splits_of_patients(way(table_of([*rows, ("ABC"[n % 3], f"new{n}", "train")])))
        moved.append(sum(after[patient] != before[patient] for patient in before))
    assert max(moved) <= 2
    assert np.mean(moved) < 1


def test_a_new_class_moves_nobody_of_the_others() -> None:
    rows = cohort(60, 2, "BCD")
    before = splits_of_patients(split_by_patient(table_of(rows)))
    after = splits_of_patients(split_by_patient(table_of([*rows, *cohort(9, 1, "A", prefix="a")])))
    assert {patient: after[patient] for patient in before} == before
