"""Shifts and mirrors of pictures, and maps that move with them or do not."""

from __future__ import annotations

import pytest
import torch

from octoscope.attribution.nulls import null_centre, null_edges, null_intensity
from octoscope.errors import OctoscopeError
from octoscope.trust.similarity import spearman
from octoscope.trust.stability.equivariance import (
    flip_equivariance,
    pixels_of,
    shift_equivariance,
    shifted,
)

IMAGES = torch.rand(3, 1, 20, 24, generator=torch.Generator().manual_seed(5))


def test_a_picture_moves_and_its_edge_is_repeated() -> None:
    picture = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    assert shifted(picture, (0, 1)).tolist() == [[1, 1, 2], [4, 4, 5], [7, 7, 8]]
    assert shifted(picture, (-1, 0)).tolist() == [[4, 5, 6], [7, 8, 9], [7, 8, 9]]
    assert shifted(picture, (2, -1)).tolist() == [[2, 3, 3], [2, 3, 3], [2, 3, 3]]
    assert picture[0].tolist() == [1, 2, 3]


def test_shifts_in_pixels_and_shares() -> None:
    assert pixels_of((4, 8), (224, 224)) == (4, 8)
    assert pixels_of((4, -8), (3, 224, 224)) == (0, 4, -8)
    assert pixels_of((0.02, 0.04), (200, 100)) == (4, 4)
    assert pixels_of((0, 8.0), (64, 64)) == (0, 8)
    assert pixels_of((1, 4, 8), (5, 64, 64)) == (1, 4, 8)


@pytest.mark.parametrize(
    ("shift", "size"),
    [
        ((4, 8), (224,)),
        ((), (64, 64)),
        ((0, 0), (64, 64)),
        ((0.001, 0.001), (64, 64)),
        ((32, 0), (64, 64)),
        ((0, -32), (64, 64)),
        ((1.5, 2), (64, 64)),
    ],
)
def test_shifts_that_make_no_sense_are_refused(
    shift: tuple[float, ...], size: tuple[int, ...]
) -> None:
    with pytest.raises(OctoscopeError, match="shift"):
        pixels_of(shift, size)


@pytest.mark.parametrize("shift", [(2, 3), (-2, 3), (2, -3), (0, 5), (-4, 0)])
def test_a_map_of_single_pixels_moves_with_its_picture(shift: tuple[int, int]) -> None:
    score = shift_equivariance(
        null_intensity(IMAGES), null_intensity(shifted(IMAGES, shift)), shift
    )
    torch.testing.assert_close(score, torch.ones(3, dtype=torch.float64))
    wrong = tuple(-step for step in shift)  # compared in the wrong direction
    moved = null_intensity(shifted(IMAGES, shift))
    assert (shift_equivariance(null_intensity(IMAGES), moved, wrong) < 0.5).all()


def test_the_margin_is_left_out() -> None:
    shift, map_ = (2, 3), null_intensity(IMAGES)
    moved = shifted(map_, shift)
    moved[:, :2] = 100 * torch.rand(3, 2, 24)
    moved[:, :, :3] = -100 * torch.rand(3, 20, 3)
    assert (shift_equivariance(map_, moved, shift) > 1 - 1e-9).all()
    moved[:, 2, 3] = 1000  # the first pixel inside
    assert (shift_equivariance(map_, moved, shift) < 1 - 1e-9).all()


def test_a_map_that_stays_is_compared_with_where_it_should_be() -> None:
    bell = null_centre(IMAGES)
    expected = spearman(bell[:, :-4], bell[:, 4:])
    score = shift_equivariance(bell, bell, (4, 0))
    torch.testing.assert_close(score, expected)
    assert (score < 0.95).all()


def test_edges_move_but_for_the_last_row() -> None:
    shift = (2, 3)
    score = shift_equivariance(null_edges(IMAGES), null_edges(shifted(IMAGES, shift)), shift)
    assert ((score > 0.9) & (score < 1)).all()


def test_mirrored_maps() -> None:
    map_ = torch.rand(2, 6, 7)
    torch.testing.assert_close(
        flip_equivariance(map_, map_.flip(-1)), torch.ones(2, dtype=torch.float64)
    )
    torch.testing.assert_close(
        flip_equivariance(map_, -map_.flip(-1)), -torch.ones(2, dtype=torch.float64)
    )
    assert (flip_equivariance(map_, map_.flip(-2)) < 0.9).all()
    volume = torch.rand(2, 3, 6, 7)
    torch.testing.assert_close(
        flip_equivariance(volume, volume.flip(-1), axes=3), torch.ones(2, dtype=torch.float64)
    )


def test_maps_that_say_nothing_are_undefined() -> None:
    map_ = torch.rand(3, 8, 8)
    map_[0] = 1
    map_[1, 5, 5] = torch.nan
    assert flip_equivariance(map_, torch.rand(3, 8, 8)).isnan().tolist() == [True, True, False]
    only_in_the_margin = torch.zeros(1, 8, 8)
    only_in_the_margin[0, 0, 0] = 1
    assert shift_equivariance(torch.rand(1, 8, 8), only_in_the_margin, (2, 2)).isnan().all()
