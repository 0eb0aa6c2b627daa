"""Regions at Otsu's threshold and at the mean against masks: by hand, by peers, by property."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.filters import threshold_otsu
from sklearn.metrics import accuracy_score, average_precision_score, jaccard_score

from octoscope.errors import OctoscopeError
from octoscope.trust.localisation import relevance_mass
from octoscope.trust.overlap import (
    intersection_over_attention,
    iou_at_otsu,
    mean_iou,
    otsu_threshold,
    pixel_accuracy,
    soft_average_precision,
)

weighted_ioa = partial(intersection_over_attention, weighted=True)
METRICS = (
    iou_at_otsu,
    intersection_over_attention,
    weighted_ioa,
    pixel_accuracy,
    mean_iou,
    soft_average_precision,
)
Metric = Callable[..., torch.Tensor]

SMALL = st.tuples(
    arrays(np.float64, (1, 3, 4), elements=st.integers(-3, 5).map(float)),
    arrays(np.bool_, (1, 3, 4)),
)


def one(tensor: torch.Tensor) -> float:
    assert tensor.shape == (1,) and tensor.dtype == torch.float64
    return float(tensor[0])


def test_by_hand() -> None:
    maps = np.array([[[8.0, 6.0, 6.0], [1.0, 0.0, -9.0]]])  # Otsu's region: the first row
    mask = np.array([[[True, True, False], [True, False, False]]])
    assert one(iou_at_otsu(maps, mask)) == pytest.approx(2 / 4)
    assert one(intersection_over_attention(maps, mask)) == pytest.approx(2 / 3)
    assert one(weighted_ioa(maps, mask)) == pytest.approx(14 / 20)
    assert one(relevance_mass(maps, mask)) == pytest.approx(15 / 21), "the faint pixel counts"
    # The mean of the positive part is 3.5: the same region.
    assert one(pixel_accuracy(maps, mask)) == pytest.approx(4 / 6)
    assert one(mean_iou(maps, mask)) == pytest.approx((2 / 4 + 2 / 4) / 2)


@settings(max_examples=80, deadline=None)
@given(SMALL)
def test_regions_agree_with_scikit_image_and_scikit_learn(
    drawn: tuple[np.ndarray, np.ndarray],
) -> None:
    maps, masks = drawn
    positive, lesion = maps.clip(0).ravel(), masks.ravel()
    got = {metric: one(metric(maps, masks)) for metric in METRICS}
    if not lesion.any() or positive.min() == positive.max():
        assert np.isnan(list(got.values())).all()
        return
    otsu, mean = positive > threshold_otsu(positive), positive > positive.mean()
    soft = (positive - positive.min()) / np.ptp(positive)
    expected = {
        iou_at_otsu: jaccard_score(lesion, otsu),
        intersection_over_attention: lesion[otsu].mean(),
        weighted_ioa: positive[otsu & lesion].sum() / positive[otsu].sum(),
        pixel_accuracy: accuracy_score(lesion, mean),
        mean_iou: np.nan if lesion.all() else jaccard_score(lesion, mean, average="macro"),
        soft_average_precision: average_precision_score(
            np.concatenate([lesion, ~lesion]), np.concatenate([soft, 1 - soft])
        ),
    }
    for metric, value in expected.items():
        np.testing.assert_allclose(got[metric], value, rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_that_of_scikit_image(seed: int) -> None:
    generator = np.random.default_rng(seed)
    maps = generator.normal(size=(3, 40, 50))
    maps[1] = maps[1] ** 2 * (maps[1] > 0)  # skewed, with half of it at zero
    maps[2, :10] += 6
    positive = maps.clip(0).reshape(3, -1)
    got = otsu_threshold(torch.from_numpy(np.sort(positive, axis=-1)))
    np.testing.assert_allclose(got, [threshold_otsu(p) for p in positive], rtol=1e-12)
    masks = generator.random(maps.shape) < 0.1
    expected = [jaccard_score(m.ravel(), p > threshold_otsu(p))
                for m, p in zip(masks, positive, strict=True)]  # fmt: skip
    np.testing.assert_allclose(iou_at_otsu(maps, masks), expected)


@settings(max_examples=80, deadline=None)
@given(SMALL, st.integers(-40, 40))
def test_in_range_and_scale_does_not_matter(
    drawn: tuple[np.ndarray, np.ndarray], power: int
) -> None:
    maps, masks = drawn
    for metric in METRICS:
        value = one(metric(maps, masks))
        assert np.isnan(value) or 0 <= value <= 1
        np.testing.assert_array_equal(one(metric(maps * 2.0**power, masks)), value)
        np.testing.assert_array_equal(one(metric(maps.clip(0), masks)), value)


@settings(max_examples=40, deadline=None)
@given(SMALL)
def test_perfect_is_one_and_inverted_is_worst(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    maps, masks = drawn
    for metric in METRICS:
        perfect = one(metric(masks.astype(float), masks))
        worst = one(metric(1.0 - masks, masks))
        assert np.isnan(perfect) == (masks.all() or not masks.any())
        if np.isnan(perfect):
            continue
        assert perfect == 1
        value = one(metric(maps, masks))
        if metric is soft_average_precision:  # ties: only chance, see the next test
            assert worst <= 0.5
        else:
            assert worst == 0
        assert np.isnan(value) or value <= perfect


def test_of_both_classes_an_inverted_map_gets_every_sure_pair_wrong() -> None:
    mask = np.array([[[True, False, False, False]]])
    # All sure pairs are wrong; all right ones are tied at zero: precision 4/8 there.
    assert one(soft_average_precision(1.0 - mask, mask)) == pytest.approx(0.5)


def test_a_dark_map_is_mostly_right_about_the_background() -> None:
    mask = np.zeros((1, 10, 10), dtype=bool)
    mask[0, 0, 0] = True
    wrong = np.zeros((1, 10, 10))
    wrong[0, 5, 5] = 1
    assert one(pixel_accuracy(wrong, mask)) == pytest.approx(0.98)
    assert one(soft_average_precision(wrong, mask)) > 0.9
    assert one(iou_at_otsu(wrong, mask)) == one(weighted_ioa(wrong, mask)) == 0


@pytest.mark.parametrize("metric", METRICS)
def test_maps_that_mark_nothing_and_empty_masks_are_undefined(metric: Metric) -> None:
    mask = np.array([[[True, False, False]]])
    nothing = [[0, 0, 0], [-1, -2, 0], [0.1, 0.1, 0.1], [np.nan, 1, 0], [np.inf, 1, 0],
               [-np.inf, 1, 0]]  # fmt: skip
    for values in nothing:
        assert np.isnan(one(metric(np.array([[values]], dtype=np.float32), mask)))
    assert np.isnan(one(metric(np.array([[[1.0, 2.0, 0.0]]]), np.zeros_like(mask))))
    with pytest.raises(OctoscopeError, match="do not fit masks"):
        metric(np.ones((1, 3, 1)), mask)


@pytest.mark.parametrize("metric", METRICS)
def test_no_dependence_on_the_batch_nor_on_axes(metric: Metric) -> None:
    generator = np.random.default_rng(0)
    maps = generator.normal(size=(2, 5, 6, 7)).astype(np.float32)
    masks = generator.random((5, 6, 7)) < 0.3
    masks[3], maps[1, 2], kept = False, 1, maps.copy()
    kept[1, 2] = 1
    together = metric(maps, masks)
    assert together.shape == (2, 5)
    assert together[:, 3].isnan().all() and together[1, 2].isnan()
    for m in range(2):
        for b in range(5):
            np.testing.assert_array_equal(together[m, b], metric(maps[m, [b]], masks[[b]])[0])
    volumes = metric(maps.reshape(2, 5, 3, 2, 7), masks.reshape(5, 3, 2, 7))
    np.testing.assert_array_equal(volumes, together)
    np.testing.assert_array_equal(maps, kept)


def test_weighing_differs_from_the_stretched_weights_only_where_a_map_is_nowhere_zero() -> None:
    """The authors of M3d-CAM stretch a map from its minimum to 0…1 before they weigh by it."""
    mask = np.array([[[True, False, False, False]]])
    for lift, agree in ((0.0, True), (3.0, False)):
        maps = np.array([[[5.0, 4.0, 1.0, 0.0]]]) + lift
        stretched = (maps - maps.min()) / np.ptp(maps)
        marked = stretched >= threshold_otsu(stretched.ravel())
        theirs = stretched[marked & mask].sum() / stretched[marked].sum()
        close = np.isclose(one(weighted_ioa(maps, mask)), theirs)
        assert close == agree
