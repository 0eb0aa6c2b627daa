from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from octoscope.data.sampling import (
    augmentation_seed,
    class_weights,
    cut_batches,
    epoch_order,
    shard,
)


@given(st.integers(1, 200), st.integers(0, 2**31), st.integers(0, 500))
def test_an_epoch_visits_every_row_once_and_is_a_function_of_seed_and_epoch(count, seed, epoch):
    order = epoch_order(count, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(count))
    assert order.dtype == np.int64
    np.testing.assert_array_equal(order, epoch_order(count, seed=seed, epoch=epoch))


def test_epochs_and_seeds_differ():
    orders = [
        tuple(epoch_order(50, seed=seed, epoch=epoch)) for seed in range(5) for epoch in range(5)
    ]
    assert len(set(orders)) == len(orders)


def test_weighted_draws_follow_the_weights():
    weights = np.repeat([1.0, 3.0], [300, 100])  # 300 rare draws in all, 300 common ones
    draws = np.concatenate(
        [epoch_order(400, seed=1, epoch=epoch, weights=weights) for epoch in range(50)]
    )
    common = (draws >= 300).sum()
    # Binomial with n = 20,000 and p = 1/2: 5 standard deviations are 354.
    assert abs(common - 10_000) < 354
    assert len(np.unique(draws)) == 400


@given(st.integers(1, 60), st.integers(1, 9))
def test_ranks_get_equally_many_rows_and_all_of_them(count, world):
    order = epoch_order(count, seed=0, epoch=0)
    parts = [shard(order, rank, world) for rank in range(world)]
    assert {len(part) for part in parts} == {-(-count // world)}
    together = np.concatenate(parts)
    assert set(together) == set(range(count))
    assert np.bincount(together).max() <= -(-world // count) + 1


@given(st.integers(1, 100), st.integers(1, 40), st.booleans())
def test_batches_are_the_order_cut_up(count, size, drop_single):
    order = np.arange(count)[::-1]
    batches = cut_batches(order, size, drop_single=drop_single)
    together = np.concatenate(batches)
    np.testing.assert_array_equal(together, order[: len(together)])
    assert all(len(batch) == size for batch in batches[:-1])
    dropped = count - len(together)
    assert dropped == int(drop_single and size > 1 and count > 1 and count % size == 1)
    if drop_single and size > 1 and count > 1:
        assert min(map(len, batches)) > 1


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200))
def test_class_weights_are_those_of_scikit_learn(targets):
    targets = np.array(targets)
    weights = class_weights(targets, 5)
    present = np.unique(targets)
    np.testing.assert_allclose(
        weights[present], compute_class_weight("balanced", classes=present, y=targets)
    )
    assert (weights[np.setdiff1d(np.arange(5), present)] == 0).all()
    assert weights[targets].mean() == pytest.approx(1)


def test_augmentation_seeds_differ_and_repeat():
    places = [(s, e, i, r) for s in range(3) for e in range(3) for i in range(20) for r in range(3)]
    seeds = [augmentation_seed(*place) for place in places]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [augmentation_seed(*place) for place in places]
    assert all(0 <= seed < 2**63 for seed in seeds)
