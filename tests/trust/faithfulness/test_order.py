"""Ranks of pixels: by value, and without a corner being favoured where values are equal."""

from __future__ import annotations

import torch

from octoscope.trust.faithfulness.order import ranks, says_an_order


def test_the_highest_raw_value_comes_first_and_the_most_negative_last() -> None:
    maps = torch.tensor([[[0.5, -3.0], [2.0, 1.0]]])
    assert ranks(maps).tolist() == [[2, 3, 0, 1]]


def test_ranks_are_those_of_a_sort_where_no_values_are_equal() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.stack([torch.randperm(60, generator=generator) for _ in range(5)]).view(5, 3, 4, 5)
    expected = 59 - maps.flatten(1)
    assert torch.equal(ranks(maps.double()).long(), expected)


def test_equal_values_are_ranked_together_and_every_place_is_given_once() -> None:
    maps = torch.zeros(1, 8, 8)
    maps[0, 2:5, 3:6] = 1.0
    maps[0, 7, 7] = -1.0
    place = ranks(maps).view(8, 8)
    assert sorted(place.flatten().tolist()) == list(range(64))
    assert sorted(place[2:5, 3:6].flatten().tolist()) == list(range(9))
    assert place[7, 7] == 63


def test_a_tie_favours_no_corner() -> None:
    place = ranks(torch.zeros(1, 32, 32)).view(32, 32)
    first = place < 256  # a quarter of the pixels
    quarters = [first[:16, :16], first[:16, 16:], first[16:, :16], first[16:, 16:]]
    assert all(45 <= int(quarter.sum()) <= 83 for quarter in quarters)  # 64 ± 3 σ


def test_ties_do_not_depend_on_batch_sign_of_zero_or_chance_but_on_the_seed() -> None:
    maps = torch.zeros(3, 6, 6)
    maps[1, :3] = -0.0
    place = ranks(maps)
    assert torch.equal(place[0], place[1]) and torch.equal(place[0], ranks(maps[2:])[0])
    assert not torch.equal(place[0], ranks(maps, seed=1)[0])


def test_a_map_says_an_order_if_finite_and_not_constant() -> None:
    maps = torch.zeros(5, 2, 2)
    maps[1] = 7.0
    maps[2, 0, 0] = -1.0
    maps[3, 0, 0] = torch.nan
    maps[4, 0, 0] = torch.inf
    assert says_an_order(maps).tolist() == [False, False, True, False, False]
