from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from octoscope.study.spread import spread


def test_one_scan_of_every_patient_before_two_of_any() -> None:
    labels = np.array(["CNV"] * 6 + ["DME"] * 2)
    patients = np.array(["a", "a", "a", "a", "b", "c", "d", "d"])
    chosen = spread(labels, patients, 4)
    assert (labels[chosen] == "CNV").sum() == 2  # evenly over the classes
    chosen = spread(labels, patients, 5)
    assert sorted(patients[chosen][labels[chosen] == "CNV"]) == ["a", "b", "c"]


def test_all_where_there_are_no_more() -> None:
    assert spread(np.array(["x", "y"]), np.array(["1", "2"]), 5).tolist() == [0, 1]


@given(
    st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from("pqrst")), min_size=1, max_size=60),
    st.integers(1, 70),
)
def test_classes_are_as_even_as_they_can_be(scans: list[tuple[str, str]], most: int) -> None:
    labels, patients = (np.array(column) for column in zip(*scans, strict=True))
    chosen = spread(labels, patients, most)
    assert len(chosen) == len(set(chosen)) == min(most, len(scans))
    taken = {name: int((labels[chosen] == name).sum()) for name in set(labels)}
    for name, count in taken.items():
        if count < (labels == name).sum():  # not used up: no class has two more
            assert max(taken.values()) <= count + 1
