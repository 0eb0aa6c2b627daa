"""Localisation metrics by hand: perfect, inverted, constant, tied and empty maps and masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from quantus import AttributionLocalisation, PointingGame, RelevanceMassAccuracy

from octoscope.errors import OctoscopeError
from octoscope.trust.localisation import (
    grow,
    lesion_area,
    lift_over_chance,
    mass_of_other_scans,
    pointing_chance,
    pointing_game,
    relevance_mass,
)

MASK = np.zeros((1, 4, 5), dtype=bool)
MASK[0, 1:3, 1:3] = True  # 4 of 20 pixels


def one(tensor: torch.Tensor) -> float:
    assert tensor.shape == (1,)
    return float(tensor[0])


def test_a_perfect_map_has_all_its_mass_on_the_lesion() -> None:
    assert one(relevance_mass(MASK.astype(float), MASK)) == 1
    assert one(lift_over_chance(MASK.astype(float), MASK)) == pytest.approx(5)
    assert one(pointing_game(MASK.astype(float), MASK, tolerance=0)) == 1


def test_an_inverted_map_has_none() -> None:
    inverted = 1.0 - MASK
    assert one(relevance_mass(inverted, MASK)) == 0
    assert one(lift_over_chance(inverted, MASK)) == 0
    assert one(pointing_game(inverted, MASK, tolerance=0)) == 0


def test_a_constant_map_scores_chance() -> None:
    constant = np.full((1, 4, 5), 3.0)
    assert one(relevance_mass(constant, MASK)) == pytest.approx(0.2)
    assert one(lift_over_chance(constant, MASK)) == pytest.approx(1)
    assert one(pointing_game(constant, MASK, tolerance=0)) == pytest.approx(0.2)
    assert one(pointing_game(constant, MASK, tolerance=1)) == pytest.approx(
        one(pointing_chance(MASK, tolerance=1))
    )


def test_evidence_against_the_class_does_not_count() -> None:
    signed = np.array([[[4.0, -9.0], [1.0, 3.0]]])
    mask = np.array([[[True, True], [False, False]]])
    assert one(relevance_mass(signed, mask)) == pytest.approx(4 / 8)
    assert one(relevance_mass(-signed, mask)) == pytest.approx(1)


def test_maps_and_masks_that_say_nothing_are_undefined_not_zero() -> None:
    nothing, empty = np.zeros((1, 4, 5)), np.zeros_like(MASK)
    for maps in (nothing, nothing - 1, nothing + np.nan, nothing + np.inf):
        assert np.isnan(one(relevance_mass(maps, MASK)))
        assert np.isnan(one(pointing_game(maps, MASK)))
    partly = MASK.astype(float)
    partly[0, 3, 4] = np.inf
    assert np.isnan(one(relevance_mass(partly, MASK)))
    partly[0, 3, 4] = -np.inf
    assert np.isnan(one(relevance_mass(partly, MASK)))
    some = np.ones((1, 4, 5))
    for metric in (relevance_mass, lift_over_chance, pointing_game):
        assert np.isnan(one(metric(some, empty)))
    assert np.isnan(one(pointing_chance(empty)))
    assert one(lesion_area(empty)) == 0


def test_of_tied_maxima_the_share_that_hits_counts() -> None:
    maps = np.zeros((1, 4, 5))
    maps[0, 1, 1] = maps[0, 0, 4] = maps[0, 3, 4] = 7
    assert one(pointing_game(maps, MASK, tolerance=0)) == pytest.approx(1 / 3)


def test_the_tolerance_is_a_euclidean_distance() -> None:
    maps = np.zeros((1, 9, 9))
    maps[0, 7, 7] = 1
    mask = np.zeros((1, 9, 9), dtype=bool)
    mask[0, 4, 3] = True  # 3 down and 4 across: distance 5
    assert one(pointing_game(maps, mask, tolerance=4.99)) == 0
    assert one(pointing_game(maps, mask, tolerance=5)) == 1


def test_growing_is_the_set_of_near_pixels() -> None:
    generator = np.random.default_rng(0)
    masks = generator.random((3, 12, 15)) < 0.03
    masks[2] = False
    grown = grow(masks, 3).numpy()
    rows, columns = np.indices((12, 15))
    for mask, got in zip(masks, grown, strict=True):
        expected = np.zeros_like(mask)
        for r, c in zip(*np.nonzero(mask), strict=True):
            expected |= (rows - r) ** 2 + (columns - c) ** 2 <= 9
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(grow(masks, 0), masks)


def test_within_the_retina_chance_knows_where_the_retina_is() -> None:
    retina = np.zeros((1, 4, 5), dtype=bool)
    retina[0, 1:3] = True  # 10 pixels, 4 of them lesion
    maps = retina.astype(float)
    assert one(lift_over_chance(maps, MASK)) == pytest.approx(0.4 / 0.2)
    assert one(lesion_area(MASK, retina)) == pytest.approx(0.4)
    assert one(lift_over_chance(maps, MASK, retina)) == pytest.approx(1)
    outside = ~retina * 1.0
    assert np.isnan(one(relevance_mass(outside, MASK, retina)))


def test_scores_do_not_depend_on_the_batch_or_on_leading_axes() -> None:
    generator = np.random.default_rng(1)
    maps = generator.normal(size=(3, 6, 10, 12)).astype(np.float32)  # 3 methods, 6 scans
    maps[0, 2], masks = 0, generator.random((6, 10, 12)) < 0.2
    masks[4] = False
    for metric in (relevance_mass, lift_over_chance, pointing_game):
        together = metric(maps, masks)
        assert together.shape == (3, 6)
        for m in range(3):
            for b in range(6):
                alone = metric(maps[m, b][None], masks[b][None])
                np.testing.assert_array_equal(together[m, b], alone[0])


def test_scale_does_not_matter_and_tensors_and_arrays_agree() -> None:
    generator = np.random.default_rng(2)
    maps, masks = generator.normal(size=(4, 8, 8)), generator.random((4, 8, 8)) < 0.3
    for metric in (relevance_mass, pointing_game):
        np.testing.assert_allclose(metric(maps, masks), metric(1e-20 * maps, masks))
        np.testing.assert_allclose(
            metric(maps, masks), metric(torch.from_numpy(maps), torch.from_numpy(masks))
        )


def test_volumes_are_scored_by_the_same_functions() -> None:
    masks = np.zeros((2, 3, 4, 5), dtype=bool)
    masks[:, 1, 1:3, 1:3] = True
    maps = masks + 1.0
    np.testing.assert_allclose(relevance_mass(maps, masks), 8 / 64)
    np.testing.assert_allclose(pointing_game(maps, masks, tolerance=1), 1)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(OctoscopeError, match=r"maps of shape \(1, 7, 7\) do not fit masks"):
        relevance_mass(np.ones((1, 7, 7)), MASK)
    with pytest.raises(OctoscopeError, match="do not fit masks"):
        relevance_mass(np.ones((2, 4, 5)), MASK)
    with pytest.raises(OctoscopeError, match="does not fit masks"):
        relevance_mass(np.ones((1, 4, 5)), MASK, within=np.ones((1, 5, 4), dtype=bool))


def test_the_mass_of_other_scans_by_hand() -> None:
    maps = np.array([[[1.0, 3.0]], [[2.0, 2.0]], [[0.0, 4.0]], [[5.0, 0.0]], [[0.0, 0.0]]])
    masks = np.array([[[1, 0]]] * 4 + [[[0, 1]]], dtype=bool)
    patients = np.array(["a", "a", "b", "c", "d"])
    labels = np.array(["X", "X", "X", "Y", "X"])
    got = mass_of_other_scans(maps, masks, patients, labels).numpy()
    # Scan 0 meets only scan 2 (1 is of its own patient, 3 of another class, 4 is empty).
    np.testing.assert_allclose(got[:2], 0)
    np.testing.assert_allclose(got[2], (1 / 4 + 2 / 4) / 2)
    assert np.isnan(got[3]), "no other patient of class Y"
    np.testing.assert_allclose(got[4], (3 / 4 + 2 / 4 + 4 / 4) / 3)


def test_maps_that_are_the_same_for_every_scan_do_not_beat_the_other_scans() -> None:
    generator = np.random.default_rng(3)
    maps = np.repeat(np.outer(np.hanning(16), np.hanning(16))[None], 10, axis=0)
    masks = np.zeros((10, 16, 16), dtype=bool)
    for mask in masks:
        r, c = generator.integers(4, 9, 2)
        mask[r : r + 4, c : c + 4] = True
    prior = mass_of_other_scans(maps, masks, np.arange(10), np.zeros(10))
    own = relevance_mass(maps, masks)
    assert (lift_over_chance(maps, masks) > 1.5).all(), "a bright centre beats the area share"
    np.testing.assert_allclose(own, prior)


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float64, (1, 3, 4), elements=st.integers(-3, 5).map(float)),
    arrays(np.bool_, (1, 3, 4)),
    st.integers(-40, 40),
)
def test_in_range_scale_free_and_only_the_positive_part_counts(
    maps: np.ndarray, masks: np.ndarray, power: int
) -> None:
    for metric in (relevance_mass, lambda m, k: pointing_game(m, k, tolerance=0)):
        value = one(metric(maps, masks))
        assert np.isnan(value) == (not masks.any() or maps.max() <= 0)
        assert np.isnan(value) or 0 <= value <= 1
        np.testing.assert_array_equal(one(metric(maps * 2.0**power, masks)), value)
        np.testing.assert_array_equal(one(metric(maps.clip(0), masks)), value)


def test_agrees_with_quantus_on_maps_that_are_nowhere_negative() -> None:
    generator = np.random.default_rng(4)
    maps, masks = generator.random((6, 8, 9)), generator.random((6, 8, 9)) < 0.3
    given_to = {"x_batch": maps, "a_batch": maps, "s_batch": masks}
    expected = {
        "mass": RelevanceMassAccuracy(disable_warnings=True).evaluate_batch(**given_to),
        "inside": AttributionLocalisation(disable_warnings=True).evaluate_batch(**given_to),
        "pointing": PointingGame(disable_warnings=True).evaluate_batch(**given_to),
    }
    np.testing.assert_allclose(relevance_mass(maps, masks), expected["mass"])
    np.testing.assert_allclose(relevance_mass(maps, masks), expected["inside"], rtol=1e-8)
    np.testing.assert_array_equal(pointing_game(maps, masks, tolerance=0), expected["pointing"])


def test_quantus_hits_where_there_is_no_lesion_and_never_misses_with_a_constant_map() -> None:
    peer, some = PointingGame(disable_warnings=True), np.ones((1, 4, 5))
    empty = np.zeros_like(MASK)
    assert peer.evaluate_batch(a_batch=some, s_batch=empty)[0]
    assert np.isnan(one(pointing_game(some, empty)))
    assert peer.evaluate_batch(a_batch=some, s_batch=MASK)[0]
    assert one(pointing_game(some, MASK, tolerance=0)) == pytest.approx(0.2)


def test_signed_sums_of_quantus_leave_the_range() -> None:
    signed, mask = np.array([[[3.0, -2.0]]]), np.array([[[True, False]]])
    peer = RelevanceMassAccuracy(disable_warnings=True)
    assert peer.evaluate_batch(a_batch=signed, s_batch=mask)[0] == 3
    assert one(relevance_mass(signed, mask)) == 1


def test_the_weighted_score_of_quantus_hangs_on_the_batch_and_lift_does_not() -> None:
    maps = np.ones((4, 4, 5))
    masks = np.repeat(MASK, 4, axis=0)
    peer = AttributionLocalisation(weighted=True, disable_warnings=True)
    three, four = (
        peer.evaluate_batch(x_batch=maps[:n], a_batch=maps[:n], s_batch=masks[:n])[0]
        for n in (3, 4)
    )
    assert three == pytest.approx(2 * four), "divided by the size of all but two images"
    assert one(lift_over_chance(maps[:3], masks[:3])[:1]) == one(lift_over_chance(maps, masks)[:1])
