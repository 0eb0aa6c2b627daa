"""Given splits are completed, mended or refused; and everything that was decided is said."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octoscope.errors import OctoscopeError, PatientOverlapError
from octoscope.scans.splits import (
    carve_validation,
    ready_splits,
    require_no_overlap,
    split_by_patient,
)
from octoscope.scans.table import ScanTable
from split_tables import (
    cohort,
    straddling,
    table_of,
)


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
