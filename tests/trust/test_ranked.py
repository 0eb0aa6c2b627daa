"""Rank accuracy, average precision and IoU at the lesion's area: by hand, by peers, by property."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from quantus import RelevanceRankAccuracy
from sklearn.metrics import average_precision_score

from octoscope.errors import OctoscopeError
from octoscope.trust.localisation import lesion_area
from octoscope.trust.ranked import (
    iou_at_own_area,
    pixel_average_precision,
    relevance_rank_accuracy,
)

METRICS = (relevance_rank_accuracy, pixel_average_precision, iou_at_own_area)
Metric = Callable[..., torch.Tensor]

SMALL = st.tuples(
    arrays(np.float64, (1, 3, 4), elements=st.integers(-3, 5).map(float)),
    arrays(np.bool_, (1, 3, 4)),
)
"""Maps with many ties, and masks that may be empty or full."""


def one(tensor: torch.Tensor) -> float:
    assert tensor.shape == (1,) and tensor.dtype == torch.float64
    return float(tensor[0])


def test_by_hand_with_a_tie_at_the_cut() -> None:
    maps = np.array([[[5.0, 3.0, 3.0], [3.0, 1.0, -7.0]]])
    mask = np.array([[[True, True, False], [False, False, True]]])  # k = 3
    # The first place is a hit; two of the three tied at 3 are taken, one of which is a hit.
    assert one(relevance_rank_accuracy(maps, mask)) == pytest.approx((1 + 2 / 3) / 3)
    assert one(iou_at_own_area(maps, mask)) == pytest.approx((5 / 3) / (6 - 5 / 3))
    # Precision 1/1 at 5, 2/4 at 3, 3/6 at what is not positive.
    assert one(pixel_average_precision(maps, mask)) == pytest.approx((1 + 2 / 4 + 3 / 6) / 3)


def test_within_a_region_only_its_pixels_are_ranked() -> None:
    maps = np.array([[[9.0, 4.0, 3.0], [8.0, 4.0, 1.0]]])
    mask = np.array([[[False, True, False], [False, False, True]]])
    region = np.array([[[False, True, True], [False, True, True]]])
    # Ranked: 4 4 | 3 | 1 with the mask on one 4 and the 1.
    assert one(relevance_rank_accuracy(maps, mask, region)) == pytest.approx(1 / 2)
    expected = average_precision_score([1, 0, 0, 1], [4, 3, 4, 1])
    assert one(pixel_average_precision(maps, mask, region)) == pytest.approx(expected)
    for metric in METRICS:
        assert np.isnan(one(metric(maps, ~region, region)))
        assert np.isnan(one(metric(np.where(region, -1, 1.0), mask, region)))


@settings(max_examples=80, deadline=None)
@given(SMALL)
def test_agrees_with_scikit_learn_on_ties_and_all(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    maps, masks = drawn
    got = one(pixel_average_precision(maps, masks))
    if not masks.any() or maps.max() <= 0:
        assert np.isnan(got)
        return
    expected = average_precision_score(masks.ravel(), maps.clip(0).ravel())
    assert got == pytest.approx(expected, rel=1e-12)


@settings(max_examples=80, deadline=None)
@given(SMALL)
def test_ties_count_as_their_mean_over_random_order(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    maps, masks = drawn
    got = one(relevance_rank_accuracy(maps, masks))
    if not masks.any() or maps.max() <= 0:
        assert np.isnan(got)
        return
    value, lesion, k = maps.clip(0).ravel(), masks.ravel(), masks.sum()
    cut = np.sort(value)[::-1][k - 1]
    above, tied = value > cut, value == cut
    hits = (above & lesion).sum() + lesion[tied].mean() * (k - above.sum())
    assert got == pytest.approx(hits / k, rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(SMALL, st.integers(-40, 40))
def test_in_range_and_only_the_order_counts(
    drawn: tuple[np.ndarray, np.ndarray], power: int
) -> None:
    maps, masks = drawn
    for metric in METRICS:
        value = one(metric(maps, masks))
        assert np.isnan(value) or 0 <= value <= 1
        for same in (maps**3, np.where(maps > 0, np.exp(maps), maps - 5), maps * 2.0**power):
            np.testing.assert_array_equal(one(metric(same, masks)), value)
        clipped = metric(maps.clip(0), masks)  # what speaks against the class is not ranked
        np.testing.assert_array_equal(one(clipped), value)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("lesion", [1, 2, 4])
def test_perfect_is_one_and_nothing_is_worse_than_the_reverse(metric: Metric, lesion: int) -> None:
    mask = (np.arange(5) < lesion)[None, None]
    values = [
        one(metric(np.array(order, dtype=float)[None, None], mask))
        for order in permutations(range(1, 6))
    ]
    assert one(metric(mask.astype(float), mask)) == max(values) == 1
    assert one(metric(np.arange(1.0, 6)[None, None], mask)) == pytest.approx(min(values))
    assert min(values) < 1


def test_a_constant_map_scores_chance() -> None:
    mask = np.zeros((1, 4, 5), dtype=bool)
    mask[0, 1:3, 1:4] = True
    constant = np.full((1, 4, 5), 0.1, dtype=np.float32)
    area = one(lesion_area(mask))
    assert one(relevance_rank_accuracy(constant, mask)) == pytest.approx(area)
    assert one(pixel_average_precision(constant, mask)) == pytest.approx(area)
    assert one(iou_at_own_area(constant, mask)) == pytest.approx(area / (2 - area))


def test_a_map_silent_on_the_lesion_scores_chance_by_average_precision_only() -> None:
    mask = np.array([[[True, False, False, False]]])
    assert one(pixel_average_precision(1.0 - mask, mask)) == pytest.approx(1 / 4)
    assert one(relevance_rank_accuracy(1.0 - mask, mask)) == 0
    assert one(iou_at_own_area(1.0 - mask, mask)) == 0


@pytest.mark.parametrize("metric", METRICS)
def test_maps_and_masks_that_say_nothing_are_undefined(metric: Metric) -> None:
    mask = np.array([[[True, False]]])
    for values in ([0, 0], [-1, -2], [np.nan, 1], [np.inf, 1], [-np.inf, 1]):
        assert np.isnan(one(metric(np.array([[values]], dtype=float), mask)))
    assert np.isnan(one(metric(np.array([[[1.0, 2.0]]]), np.zeros_like(mask))))
    with pytest.raises(OctoscopeError, match="do not fit masks"):
        metric(np.ones((1, 2, 1)), mask)


@pytest.mark.parametrize("metric", METRICS)
def test_no_dependence_on_the_batch_nor_on_axes(metric: Metric) -> None:
    generator = np.random.default_rng(0)
    maps = generator.normal(size=(2, 5, 6, 7)).round(1)
    masks, region = generator.random((5, 6, 7)) < 0.3, generator.random((5, 6, 7)) < 0.7
    masks[3], kept = False, maps.copy()
    for within in (None, region):
        together = metric(maps, masks, within)
        assert together.shape == (2, 5) and together[:, 3].isnan().all()
        for m in range(2):
            for b in range(5):
                alone = metric(maps[m, [b]], masks[[b]], None if within is None else within[[b]])
                np.testing.assert_array_equal(together[m, b], alone[0])
        volumes = metric(
            maps.reshape(2, 5, 3, 2, 7),
            masks.reshape(5, 3, 2, 7),
            None if within is None else within.reshape(5, 3, 2, 7),
        )
        np.testing.assert_array_equal(volumes, together)
    np.testing.assert_array_equal(maps, kept)


def test_agrees_with_quantus_where_no_value_is_tied() -> None:
    generator = np.random.default_rng(1)
    maps, masks = generator.random((6, 8, 9)), generator.random((6, 8, 9)) < 0.2
    peer = RelevanceRankAccuracy(disable_warnings=True)
    expected = peer.evaluate_batch(a_batch=maps, s_batch=masks)
    np.testing.assert_allclose(relevance_rank_accuracy(maps, masks), expected)


def test_a_constant_map_of_quantus_hits_where_the_sort_happens_to_begin() -> None:
    mask = np.zeros((1, 4, 5), dtype=bool)
    mask[0, 0, :2] = True  # the first two pixels
    constant = np.ones((1, 4, 5))
    peer = RelevanceRankAccuracy(disable_warnings=True)
    first = peer.evaluate_batch(a_batch=constant, s_batch=mask)[0]
    last = peer.evaluate_batch(a_batch=constant, s_batch=mask[:, ::-1, ::-1])[0]
    assert first != last
    for same in (mask, mask[:, ::-1, ::-1].copy()):
        assert one(relevance_rank_accuracy(constant, same)) == pytest.approx(0.1)
