"""Near pairs against the comparison of all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from octoscope.scans.audit.fingerprint import pack
from octoscope.scans.audit.near import LEAST_TELLING, RADIUS, near_pairs


def all_pairs(flags: np.ndarray, telling: np.ndarray, near: float) -> set[tuple[int, int]]:
    """Compare every pair bit by bit."""
    found = set()
    for i in range(len(flags)):
        for j in range(i + 1, len(flags)):
            common = telling[i] & telling[j]
            differing = flags[i] != flags[j]
            if (
                differing.sum() <= RADIUS
                and common.sum() >= LEAST_TELLING
                and (differing & common).sum() * 256 <= near * common.sum()
            ):
                found.add((i, j))
    return found


def hashes(flags: np.ndarray, telling: np.ndarray) -> np.ndarray:
    return np.stack([pack(flags), pack(telling)], axis=1)


def clustered(seed: int, skew: float) -> tuple[np.ndarray, np.ndarray]:
    """Random hashes and, of some, copies with up to 40 bits changed; `skew` makes bits alike."""
    rng = np.random.default_rng(seed)
    flags = rng.random((90, 256)) < np.where(np.arange(256) < 256 * skew, 0.03, 0.5)
    for copy, (origin, bits) in enumerate(
        zip(rng.integers(0, 45, 45), rng.integers(1, 41, 45), strict=True)
    ):
        flags[45 + copy] = flags[origin]
        flags[45 + copy, rng.choice(256, bits, replace=False)] ^= True
    return flags, rng.random((90, 256)) < 0.9


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.5, 0.8]), st.sampled_from([12.0, 20.0, 31.0]))
@settings(max_examples=30, deadline=None)
def test_finds_exactly_what_all_pairs_find(seed: int, skew: float, near: float) -> None:
    flags, telling = clustered(seed, skew)
    found = near_pairs(hashes(flags, telling), near)
    assert {(int(i), int(j)) for i, j in found} == all_pairs(flags, telling, near)


@pytest.mark.parametrize("bits", [0, 1, 15, 16, 30, 31, 32, 33])
def test_no_pair_within_the_radius_is_missed(bits: int) -> None:
    rng = np.random.default_rng(bits)
    flags = rng.random((400, 256)) < 0.5
    for i in range(200):  # worst case: the changed bits are spread over all bands
        flags[200 + i] = flags[i]
        flags[200 + i, rng.permutation(256)[:bits]] ^= True
    found = near_pairs(hashes(flags, np.ones_like(flags)), near=256)
    expected = 200 if bits <= RADIUS else 0
    assert len(found) == expected
    assert (found[:, 1] - found[:, 0] == 200).all()


def test_many_copies_cost_as_many_pairs_and_hang_together() -> None:
    rng = np.random.default_rng(0)
    flags = np.repeat(rng.random((2, 256)) < 0.5, 3_000, axis=0)
    pairs = near_pairs(hashes(flags, np.ones_like(flags)))
    assert len(pairs) == 2 * 2_999
    graph = coo_array((np.ones(len(pairs)), pairs.T), (6_000, 6_000))
    assert connected_components(graph, directed=False)[0] == 2


def test_plain_pictures_are_not_compared() -> None:
    flags = np.zeros((5, 256), bool)
    telling = np.zeros((5, 256), bool)
    telling[:, : LEAST_TELLING - 1] = True
    assert len(near_pairs(hashes(flags, telling))) == 0


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(count: int) -> None:
    flags = np.random.default_rng(0).random((count, 256)) < 0.5
    assert near_pairs(hashes(flags, np.ones_like(flags))).shape == (0, 2)
