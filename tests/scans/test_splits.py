"""No patient in two splits, ever; and everything that was decided is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octoscope.errors import OctoscopeError, PatientOverlapError
from octoscope.scans.splits import (
    carve_validation,
    k_fold,
    overlapping_patients,
    ready_splits,
    require_no_overlap,
    split_by_patient,
)
from octoscope.scans.table import ScanTable

ROOT = Path("data")


def table_of(rows: list[tuple[str | None, str | None, str | None]]) -> ScanTable:
    """A table from (label, patient, split) rows."""
    frame = pd.DataFrame(
        [
            {"path": f"{i}.png", "label": label, "patient": patient, "split": split}
            for i, (label, patient, split) in enumerate(rows)
        ]
    )
    return ScanTable.from_frame(frame, ROOT)


def cohort(
    patients: int = 30,
    scans: int = 3,
    classes: str = "ABC",
    split: str | None = None,
    prefix: str = "p",
) -> list[tuple[str | None, str | None, str | None]]:
    return [
        (classes[p % len(classes)], f"{prefix}{p}", split)
        for p in range(patients)
        for _ in range(scans)
    ]


def splits_of_patients(table: ScanTable) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for group, split in zip(table.groups, table.frame["split"], strict=True):
        if split is not None:
            found.setdefault(group, set()).add(split)
    return found


def straddling(table: ScanTable) -> list[str]:
    return [group for group, splits in splits_of_patients(table).items() if len(splits) > 1]


# Patients of one to three classes, with a skewed number of scans, some of them unlabelled.
random_patients = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["A", "B", "C", None]), st.integers(1, 12)),
        min_size=1,
        max_size=3,
    ),
    min_size=1,
    max_size=40,
)


def random_table(patients: list[list[tuple[str | None, int]]]) -> ScanTable:
    return table_of(
        [
            (label, f"{p:03d}", None)
            for p, parts in enumerate(patients)
            for label, scans in parts
            for _ in range(scans)
        ]
    )


def patients_by_class(table: ScanTable) -> pd.Series:
    return pd.Series(table.groups).groupby(table.frame["label"].to_numpy()).nunique()


@settings(max_examples=80, deadline=None)
@given(patients=random_patients, seed=st.integers(0, 2**40), shuffle=st.integers(0, 2**32 - 1))
def test_no_patient_is_ever_in_two_splits(
    patients: list[list[tuple[str | None, int]]], seed: int, shuffle: int
) -> None:
    table = random_table(patients)
    by_class = patients_by_class(table)
    if by_class.min() < 2:
        with pytest.raises(OctoscopeError, match="has 1 patient"):
            split_by_patient(table, seed=seed)
        return
    done = split_by_patient(table, seed=seed)
    assert set(done.frame["split"]) <= {"train", "val", "test"}  # every row is assigned
    assert not straddling(done)
    assert not overlapping_patients(done)
    again = split_by_patient(
        table.rows(np.random.default_rng(shuffle).permutation(len(table))), seed=seed
    )
    assert splits_of_patients(again) == splits_of_patients(done)
    assert ScanTable.digest(done) == split_by_patient(table, seed=seed).digest()


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(1, 20), min_size=3, max_size=40), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_every_class_is_in_every_split_near_its_share(sizes: list[list[int]], seed: int) -> None:
    rows = [
        (f"class{c}", f"{c}-{p}", None)
        for c, patients in enumerate(sizes)
        for p, scans in enumerate(patients)
        for _ in range(scans)
    ]
    fractions = (0.6, 0.2, 0.2)
    done = split_by_patient(table_of(rows), fractions, seed)
    people = done.frame.drop_duplicates("patient")
    counts = pd.crosstab(people["label"], people["split"])
    assert (counts[["train", "val", "test"]] > 0).all(axis=None)
    for c, patients in enumerate(sizes):
        for split, fraction in zip(("train", "val", "test"), fractions, strict=True):
            off = abs(counts.loc[f"class{c}", split] - fraction * len(patients))
            assert off <= 1  # whole patients cannot come nearer than that, in general


def test_shares_are_close_on_an_ordinary_cohort() -> None:
    rng = np.random.default_rng(0)
    rows = [
        ("AB"[p % 2], f"p{p}", None) for p in range(400) for _ in range(1 + int(rng.exponential(8)))
    ]
    done = split_by_patient(table_of(rows), seed=3)
    people = done.frame.drop_duplicates("patient")
    wanted = [0.7, 0.15, 0.15]
    for frame, off in ((people, 0.005), (done.frame, 0.06)):
        shares = pd.crosstab(frame["label"], frame["split"], normalize="index")
        assert np.abs(shares[["train", "val", "test"]] - wanted).max(axis=None) < off


# Whose scan is added, of which class, and what a new patient is called.
added = st.tuples(st.integers(0, 39), st.sampled_from("ABC"), st.text("abcxyz0", min_size=1))


@settings(max_examples=60, deadline=None)
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
    for n in range(40):
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


def test_scans_of_unknown_patients_stay_in_train() -> None:
    rows = [*cohort(30), *[("A", None, None)] * 40]
    for seed in range(10):
        done = split_by_patient(table_of(rows), seed=seed)
        assert set(done.frame["split"][done.frame["patient"].isna()]) == {"train"}


def test_patients_with_many_scans_are_spoken_of() -> None:
    rows = [*cohort(12, 1, "AB"), *[("A", "big", None)] * 300]
    notes = {n for s in range(20) for n in split_by_patient(table_of(rows), seed=s).notes}
    assert any("patients are shared out by number, and some have many scans" in n for n in notes)


def test_seeds_differ_and_are_pinned() -> None:
    """The draw is a hash: another machine or library version gives this very split."""
    table = table_of(cohort(9, 2))
    split = {p: next(iter(s)) for p, s in splits_of_patients(split_by_patient(table)).items()}
    assert [split[f"p{p}"] for p in range(9)] == PINNED.split()
    assert split_by_patient(table, seed=1) != split_by_patient(table, seed=0)


PINNED = "val train val train val test test test train"


def test_a_split_can_be_left_out() -> None:
    done = split_by_patient(table_of(cohort()), (0.8, 0.2, 0.0))
    assert set(done.frame["split"]) == {"train", "val"}


@pytest.mark.parametrize("fractions", [(0.7, 0.2), (0.7, 0.7, 0.7), (1.2, -0.2, 0.0)])
def test_fractions_must_be_shares(fractions: tuple[float, ...]) -> None:
    with pytest.raises(OctoscopeError, match="sum to 1"):
        split_by_patient(table_of(cohort()), fractions)


def test_a_class_with_one_patient_is_named() -> None:
    table = table_of([*cohort(), *[("RARE", "p77", None)] * 9])
    with pytest.raises(OctoscopeError, match=r"class RARE has 1 patient \(p77\).*add patients"):
        split_by_patient(table)


def test_a_class_with_two_patients_goes_to_train_and_val() -> None:
    table = table_of([*cohort(), ("RARE", "x", None), ("RARE", "y", None), ("RARE", "y", None)])
    done = split_by_patient(table)
    assert set(done.frame["split"][done.frame["label"] == "RARE"]) == {"train", "val"}
    assert "class RARE has too few patients to be in test." in done.notes


def test_unknown_patients_are_one_until_the_user_says_otherwise() -> None:
    table = table_of([*cohort(), *[("NORMAL", None, None)] * 18])
    with pytest.raises(
        OctoscopeError, match=r"NORMAL has 18 scans without a.*--unknown-patients dist"
    ):
        ready_splits(table)
    done = ready_splits(table, unknown_patients="distinct")
    normal = done.frame[done.frame["label"] == "NORMAL"]
    assert set(normal["split"]) == {"train", "val", "test"}
    assert any("taken as that many patients, as asked" in note for note in done.notes)


def test_unknown_patients_of_a_class_with_known_ones_stay_together() -> None:
    table = table_of([*cohort(60), *[("A", None, None)] * 7])
    done = split_by_patient(table)
    assert done.frame.loc[done.frame["patient"].isna(), "split"].nunique() == 1


# --- folds --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=8, max_size=40),
    folds=st.integers(2, 4),
    seed=st.integers(0, 99),
)
def test_folds_partition_the_patients(sizes: list[int], folds: int, seed: int) -> None:
    rows = [("AB"[p % 2], f"p{p}", None) for p, scans in enumerate(sizes) for _ in range(scans)]
    table = table_of(rows)
    seen = []
    for train, val in k_fold(table, folds, seed):
        assert not set(table.groups[train]) & set(table.groups[val])
        assert sorted([*train, *val]) == list(range(len(table)))
        assert set(table.frame["label"].iloc[val]) == {"A", "B"}
        seen.extend(val)
    assert sorted(seen) == list(range(len(table)))


def test_folds_leave_the_test_split_alone() -> None:
    table = table_of([*cohort(30), *cohort(12, split="test", prefix="t")])
    folds = list(k_fold(table, 3, seed=1))
    assert len(folds) == 3
    used = np.concatenate([np.concatenate(fold) for fold in folds])
    assert not (table.frame["split"].iloc[used] == "test").any()


def test_too_many_folds() -> None:
    with pytest.raises(OctoscopeError, match="class A has 4 patients"):
        list(k_fold(table_of(cohort(12)), 5))
    with pytest.raises(OctoscopeError, match="at least 2"):
        list(k_fold(table_of(cohort(12)), 1))


# --- validation ---------------------------------------------------------------------------------


def kermany_v2(overlap: int = 0) -> ScanTable:
    """Many in train, 8 per class in val whose patients are in train, and a test split."""
    train = cohort(90, 20, "ABCD", "train")
    val = [(label, patient, "val") for label, patient, _ in train[::55][:32]]
    test = cohort(40, 5, "ABCD", "test", prefix="t")
    test += [(label, patient, "test") for label, patient, _ in train[:: 20 * 3][:overlap]]
    return table_of([*train, *val, *test])


def test_kermanys_val_is_replaced_and_this_is_said() -> None:
    table = kermany_v2()
    done = ready_splits(table, seed=5)
    assert not straddling(done)
    val = done.split("val")
    assert 0.12 < len(val) / (len(val) + len(done.split("train"))) < 0.18  # 3 or 4 of 22 patients
    assert set(val.frame["label"]) == set("ABCD")
    was_test, is_test = table.frame["split"] == "test", done.frame["split"] == "test"
    assert was_test.equals(is_test)
    assert any("val of 32 scans is too small to choose a model by" in note for note in done.notes)
    assert any("carved out of train by patient (seed 5)" in note for note in done.notes)


def test_a_val_split_of_moderate_size_is_kept() -> None:
    rows = [*cohort(110, 2, "ABC", "train"), *cohort(31, 2, "ABC", "val", prefix="v")]
    table = table_of(rows)
    done = ready_splits(table)
    assert done == table
    assert done.notes == ()
    assert "test" not in set(done.frame["split"])


def test_a_val_split_that_is_a_small_share_but_large_is_kept() -> None:
    rows = [*cohort(300, 30, "ABC", "train"), *cohort(93, 1, "ABC", "val", prefix="v")]
    table = table_of(rows)
    assert ready_splits(table) == table


def test_validation_without_val_leaves_test_alone() -> None:
    table = table_of([*cohort(60, 3, split="train"), *cohort(20, split="test", prefix="t")])
    done = ready_splits(table)
    assert not straddling(done)
    assert (done.frame["split"] == "test").equals(table.frame["split"] == "test")
    assert set(done.split("val").frame["label"]) == set("ABC")


def test_small_classes_give_more_to_validation() -> None:
    rows = [*cohort(200, 5, "A", "train"), *cohort(20, 1, "B", "train", prefix="b")]
    done = carve_validation(table_of(rows), least_per_class=6)
    assert (done.split("val").frame["label"] == "B").sum() == 6
    assert abs((done.split("val").frame["label"] == "A").sum() - 150) <= 5


def test_carving_needs_patients_and_a_train_split() -> None:
    with pytest.raises(OctoscopeError, match="no train split"):
        carve_validation(table_of(cohort(6, split="test")))
    with pytest.raises(OctoscopeError, match="class B has 1 patient"):
        carve_validation(table_of([*cohort(9, 1, "A", "train"), ("B", "b", "train")]))
    with pytest.raises(OctoscopeError, match="fraction"):
        carve_validation(table_of(cohort(9, split="train")), fraction=0.9)


def test_a_class_that_val_lacks_is_added_to_it() -> None:
    """A folder that mixes a split data set with another that was put in train only."""
    rows = [*cohort(60, 3, "AB", "train"), *cohort(20, 3, "AB", "val", prefix="v")]
    table = table_of([*rows, *cohort(18, 1, "N", "train", prefix="n")])
    done = ready_splits(table)
    assert not straddling(done)
    assert set(done.split("val").frame["label"]) == set("ABN")
    assert done.frame["split"][: len(rows)].tolist() == [split for _, _, split in rows]
    assert any("the given val has no N" in note for note in done.notes)


def test_rows_without_a_split_join_train_unless_their_patient_is_held_out() -> None:
    rows = [*cohort(60, 3, "AB", "train"), *cohort(20, 3, "AB", "val", prefix="v")]
    more = [("A", "new", None), ("A", "p0", None), ("A", "v0", None)]
    done = ready_splits(table_of([*rows, *more]))
    assert done.frame["split"].tolist()[-3:] == ["train", "train", None]
    assert any("2 scans without a split: put in train" in note for note in done.notes)
    assert any("1 scan without a split not used" in note for note in done.notes)


# --- overlap ------------------------------------------------------------------------------------


def test_overlap_is_an_error_that_names_patients() -> None:
    table = kermany_v2(overlap=5)
    with pytest.raises(PatientOverlapError, match=r"5 patients \(p\d+ in train and test; .*; …\)"):
        ready_splits(table)
    with pytest.raises(PatientOverlapError):
        require_no_overlap(table)


def test_overlap_can_be_moved_out_of_train() -> None:
    table = kermany_v2(overlap=5)
    done = ready_splits(table, on_overlap="move")
    assert not straddling(done)
    require_no_overlap(done)
    assert (done.frame["split"] == "test").equals(table.frame["split"] == "test")
    assert any("taken out of use, because 5 patients" in note for note in done.notes)
    assert done.frame["split"].isna().sum() > 0
    assert ready_splits(done) == done  # nothing more to do


def test_overlap_of_val_and_test_is_taken_from_val() -> None:
    rows = [*cohort(60, 3, "AB", "train"), *cohort(20, 3, "AB", "val", prefix="v")]
    table = table_of([*rows, *cohort(10, 3, "AB", "test", prefix="v")])
    done = ready_splits(table, on_overlap="move")
    assert not straddling(done)
    assert len(done.split("test")) == 30
    assert len(done.split("val")) == 30


def test_overlap_can_be_allowed_and_is_branded() -> None:
    done = ready_splits(kermany_v2(overlap=5), on_overlap="allow")
    assert any(note.startswith("OVERRIDE: 5 patients") for note in done.notes)
    assert len(straddling(done)) == 5


def test_one_patient_with_images_of_two_classes_is_one_patient() -> None:
    rows = [*cohort(40, 3, "AB"), *[("A", "53018", None)] * 4, *[("B", "53018", None)] * 4]
    for seed in range(20):
        done = split_by_patient(table_of(rows), seed=seed)
        assert done.frame.loc[done.frame["patient"] == "53018", "split"].nunique() == 1
    given = [("A", "53018", "train"), ("B", "53018", "val"), *cohort(30, split="train")]
    with pytest.raises(PatientOverlapError, match="53018 in train and val"):
        require_no_overlap(table_of(given))


def test_unknown_patients_in_given_splits_are_said_to_be_unverified() -> None:
    rows = [("A", None, "train")] * 60 + [("A", None, "val")] * 30
    done = ready_splits(table_of(rows))
    assert any("cannot be ruled out" in note for note in done.notes)


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(OctoscopeError, match='did you mean "move"'):
        ready_splits(table_of(cohort()), on_overlap="mvoe")
    with pytest.raises(OctoscopeError, match='did you mean "distinct"'):
        ready_splits(table_of(cohort()), unknown_patients="distnct")


def test_a_class_without_training_scans_is_an_error() -> None:
    rows = [*cohort(30, split="train"), *cohort(12, split="val", prefix="v"), ("Z", "z", "test")]
    with pytest.raises(OctoscopeError, match="class Z has no scan in train"):
        ready_splits(table_of(rows))


given_splits = st.lists(
    st.tuples(
        st.sampled_from("AB"),
        st.integers(0, 25).map(str),
        st.sampled_from(["train", "train", "train", "val", "test", None]),
        st.integers(1, 5),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=120, deadline=None)
@given(given_splits, st.integers(0, 5))
def test_whatever_was_given_ready_splits_are_patient_safe_or_an_error(
    parts: list[tuple[str, str, str | None, int]], seed: int
) -> None:
    table = table_of([(c, p, s) for c, p, s, scans in parts for _ in range(scans)])
    try:
        done = ready_splits(table, seed, on_overlap="move")
    except OctoscopeError:
        return
    assert not straddling(done)
    assert {"train", "val"} <= set(done.frame["split"])
    assert list(done.frame["path"]) == list(table.frame["path"])
    given_test = table.frame["split"] == "test"
    if table.frame["split"].notna().any():
        assert given_test.equals(done.frame["split"] == "test")
    assert all(split is None or isinstance(split, str) for split in done.frame["split"])


# --- real scans ---------------------------------------------------------------------------------


def test_the_real_split_is_kept(real_data: Path) -> None:
    from octoscope.scans.layouts import load_table

    table = load_table(real_data / "kermany-lesions")
    assert ready_splits(table) == table
    again = split_by_patient(table, seed=2)
    assert not straddling(again)
    assert (pd.crosstab(again.frame["label"], again.frame["split"]) > 0).all(axis=None)
    assert again.frame.loc[again.frame["patient"] == "53018", "label"].nunique() == 2
