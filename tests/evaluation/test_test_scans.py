"""Two test splits are compared by what their files hold, exactly or by a sample."""

from __future__ import annotations

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from octoscope.evaluation.test_scans import MOST, TestScans


def hashes(numbers: set[int] | range) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in numbers]


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_the_share_of_small_splits_is_that_of_their_sets(one: set[int], two: set[int]) -> None:
    share = TestScans.of(hashes(one)).share_in(TestScans.of(hashes(two)))
    assert share == (len(one & two) / len(one) if one else 0)


def test_the_share_of_large_splits_is_told_from_a_sample() -> None:
    one, two = TestScans.of(hashes(range(6000))), TestScans.of(hashes(range(4000, 8000)))
    assert len(one.least) == MOST and one.n == 6000
    assert abs(one.share_in(two) - 1 / 3) < 0.08  # five standard errors of a thousand scans
    assert abs(two.share_in(one) - 1 / 2) < 0.08
    assert one.share_in(TestScans.of(hashes(range(9000, 9004)))) == 0
    assert TestScans.of(hashes(range(4))).share_in(one) in (0, 1)


def test_it_survives_json_and_nothing_else_passes_for_it() -> None:
    scans = TestScans.of(["", *hashes({1, 2})])
    assert scans.n == 2
    assert TestScans.from_dict(json.loads(json.dumps(scans.to_dict()))) == scans
    for wrong in (None, 3, [], {}, {"n": None, "least": []}, {"n": 1, "least": 5}):
        assert TestScans.from_dict(wrong) is None
