"""Likeness of maps: by hand, and against SciPy and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, spearmanr
from skimage.metrics import structural_similarity

from octoscope.attribution.ranks import mid_ranks, standard_ranks
from octoscope.errors import OctoscopeError
from octoscope.trust.similarity import (
    pairwise,
    rank_product,
    ranked,
    spearman,
    ssim,
    top_overlap,
)

GENERATOR = torch.Generator().manual_seed(0)
A = torch.randn(3, 16, 20, generator=GENERATOR).round(decimals=1)  # with many ties
B = A + torch.randn(3, 16, 20, generator=GENERATOR).round(decimals=1)


def test_ranks_share_the_mean_where_values_are_equal() -> None:
    values = torch.tensor([[3.0, 1.0, 3.0, -0.0, 0.0], [2.0, 2.0, 2.0, 2.0, 2.0]])
    assert mid_ranks(values).tolist() == [[4.5, 3, 4.5, 1.5, 1.5], [3, 3, 3, 3, 3]]
    assert np.array_equal(mid_ranks(A.flatten(1)).numpy(), rankdata(A.flatten(1), axis=1))
    assert standard_ranks(values)[1].tolist() == [0] * 5
    assert standard_ranks(values)[0].norm() == pytest.approx(1)


def test_spearman_is_scipys() -> None:
    expected = [spearmanr(a.flatten(), b.flatten())[0] for a, b in zip(A, B, strict=True)]
    assert spearman(A, B).tolist() == pytest.approx(expected, abs=1e-12)
    assert torch.equal(rank_product(ranked(A), ranked(B)), spearman(A, B))


def test_ssim_is_that_of_scikit_image_on_scaled_maps() -> None:
    def scaled(one: torch.Tensor) -> np.ndarray:
        one = one.double().numpy()
        return (one - one.min()) / (one.max() - one.min())

    expected = [
        structural_similarity(
            scaled(a), scaled(b), data_range=1, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(A, B, strict=True)
    ]  # fmt: skip
    assert ssim(A, B).tolist() == pytest.approx(expected, abs=1e-12)


def test_same_inverted_and_rescaled_maps() -> None:
    assert torch.allclose(spearman(A, A), torch.ones(3).double())
    assert torch.allclose(spearman(A, -A), -torch.ones(3).double())
    assert torch.allclose(spearman(A, A.exp()), torch.ones(3).double())
    assert torch.allclose(ssim(A, 3 * A - 7), torch.ones(3).double(), atol=1e-5)
    assert (ssim(A, -A) < 0).all()
    assert top_overlap(A, A).tolist() == [1, 1, 1]


@pytest.mark.parametrize("function", [spearman, ssim, top_overlap])
@pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf])
def test_a_map_that_says_nothing_is_like_no_other(function, value) -> None:
    silent = A.clone()
    silent[1] = value
    if value == torch.inf:
        silent[1, 1:] = 0
    before = silent.clone()
    for found in (function(silent, B), function(B, silent), function(silent, silent)):
        assert found.isnan().tolist() == [False, True, False]
    assert torch.equal(silent.nan_to_num(), before.nan_to_num())


@pytest.mark.parametrize("function", [spearman, ssim, top_overlap])
def test_maps_are_compared_one_by_one(function) -> None:
    together = function(A, B)
    alone = torch.cat([function(A[i : i + 1], B[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-14)
    broadcast = function(A[:1], B[None].expand(2, -1, -1, -1))
    assert broadcast.shape == (2, 3)
    torch.testing.assert_close(broadcast[1, 2], function(A[0], B[2]), rtol=0, atol=1e-14)


def test_the_top_by_hand() -> None:
    a = torch.tensor([[4.0, 3.0], [2.0, 1.0]])
    b = torch.tensor([[4.0, 1.0], [3.0, 2.0]])
    assert top_overlap(a, b, 0.5).item() == pytest.approx(1 / 3)
    assert top_overlap(a, -a, 0.5).item() == 0
    tied = torch.tensor([[1.0, 1.0], [0.0, 1.0]])  # a top of 2 is two thirds of each of three
    assert top_overlap(a, tied, 0.5).item() == pytest.approx((4 / 3) / (8 / 3))


def test_pairs_of_methods() -> None:
    maps = torch.stack([A, B, torch.zeros_like(A)])
    for function in (spearman, ssim, top_overlap):
        found = pairwise(maps, function)
        assert found.shape == (3, 3, 3)
        torch.testing.assert_close(found[0, 1], function(A, B), rtol=0, atol=1e-14)
        torch.testing.assert_close(found, found.transpose(0, 1), equal_nan=True)
        assert found[2].isnan().all()
        assert torch.allclose(found[0, 0], torch.ones(3).double())


def test_volumes_are_compared_whole() -> None:
    volume = torch.randn(2, 12, 13, 14, generator=GENERATOR)
    other = volume + torch.randn(2, 12, 13, 14, generator=GENERATOR)
    expected = spearmanr(volume[1].flatten(), other[1].flatten())[0]
    assert spearman(volume, other, axes=3)[1].item() == pytest.approx(expected, abs=1e-12)
    assert ssim(volume, other, axes=3).shape == (2,)


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(OctoscopeError, match="same size"):
        spearman(A, B[:, :8])
    with pytest.raises(OctoscopeError, match="smaller than the window"):
        ssim(A[:, :8], B[:, :8])
    with pytest.raises(OctoscopeError, match=r"not \(M, B"):
        pairwise(A, spearman)
    with pytest.raises(OctoscopeError, match=r"between 0 and 1"):
        top_overlap(A, B, 10)
