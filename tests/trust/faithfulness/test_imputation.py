"""The batched solver of ROAD against dense and sparse solves, and against two peers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from quantus.functions.perturb_func import noisy_linear_imputation
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor

from octoscope.errors import OctoscopeError
from octoscope.trust.faithfulness.imputation import imputed, noise_like


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def holes(images: Tensor, share: float, seed: int = 1) -> Tensor:
    """Half of what is gone lies in a block, the rest is scattered."""
    size = images.shape[2:]
    gone = torch.rand(len(images), *size, generator=torch.Generator().manual_seed(seed)) < share / 2
    block = tuple(slice(0, max(1, int(side * (share / 2) ** (1 / len(size))))) for side in size)
    gone[(slice(None), *block)] = True
    return gone


def by_hand(image: np.ndarray, gone: np.ndarray, weights: dict[int, float]) -> np.ndarray:
    """Solve one image (C, *S) pixel by pixel as one dense system; weights by axes moved along."""
    places = {place: number for number, place in enumerate(map(tuple, np.argwhere(gone)))}
    matrix = np.zeros((len(places), len(places)))
    right = np.zeros((len(places), len(image)))
    for place, number in places.items():
        for offset in product((-1, 0, 1), repeat=gone.ndim):
            near = tuple(np.add(place, offset))
            inside = all(0 <= at < side for at, side in zip(near, gone.shape, strict=True))
            if not any(offset) or not inside:
                continue
            weight = weights[np.count_nonzero(offset)]
            matrix[number, number] += weight
            if near in places:
                matrix[number, places[near]] -= weight
            else:
                right[number] += weight * image[(slice(None), *near)]
    out = image.copy()
    out[:, gone] = np.linalg.solve(matrix, right).T
    sparse = spsolve(csc_matrix(matrix), right).reshape(right.shape)
    np.testing.assert_allclose(sparse.T, out[:, gone], atol=1e-9)
    return out


PLANE = {1: 1 / 6, 2: 1 / 12}
SPACE = {1: 1 / 14, 2: 1 / 28, 3: 1 / 56}


@pytest.mark.parametrize(
    ("shape", "weights"),
    [((3, 2, 17, 23), PLANE), ((2, 1, 16, 16), PLANE), ((2, 1, 1, 9), PLANE),
     ((2, 2, 5, 8, 7), SPACE)],
)  # fmt: skip
@pytest.mark.parametrize("share", [0.1, 0.9])
def test_it_is_what_a_dense_solve_gives(
    shape: tuple[int, ...], weights: dict[int, float], share: float
) -> None:
    images = drawn(*shape).double() * 2 + 5
    gone = holes(images, share)
    found = imputed(images, gone, tolerance=1e-12)
    for image, hole, mine in zip(images, gone, found, strict=True):
        expected = by_hand(image.numpy(), hole.numpy(), weights)
        np.testing.assert_allclose(mine.numpy(), expected, atol=1e-9)


def test_the_default_tolerance_is_a_small_part_of_the_noise() -> None:
    smooth = torch.nn.functional.interpolate(drawn(2, 1, 9, 9), (160, 160), mode="bicubic")
    images = smooth + 0.2 * drawn(2, 1, 160, 160)
    order = torch.nn.functional.interpolate(drawn(2, 1, 6, 6, seed=5), (160, 160), mode="bilinear")
    gone = order[:, 0] > order[:, 0].flatten(1).quantile(0.2, dim=1)[:, None, None]  # 80 %
    exact = imputed(images.double(), gone, tolerance=1e-13)
    assert (imputed(images, gone) - exact).abs().max() < 0.001


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_it_is_what_pytorch_grad_cam_and_quantus_give_without_noise(share: float) -> None:
    images = drawn(2, 3, 14, 11)
    gone = holes(images, share)
    found = imputed(images.double(), gone, tolerance=1e-12)
    for image, hole, mine in zip(images, gone, found, strict=True):
        peer = NoisyLinearImputer(noise=0.0)(image, (~hole).float())
        torch.testing.assert_close(mine.float(), peer, atol=1e-5, rtol=0)
        indices = np.flatnonzero(hole.numpy())
        other = noisy_linear_imputation(image.double().numpy(), indices, noise=0.0)
        np.testing.assert_allclose(mine.numpy(), other, atol=1e-9)


def test_a_slope_is_continued_through_a_hole() -> None:
    row, column = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    slope = (3 * row - 2 * column + 1)[None, None].double()
    gone = torch.zeros(1, 20, 30, dtype=torch.bool)
    gone[0, 3:15, 5:28] = True
    torch.testing.assert_close(imputed(slope, gone, tolerance=1e-13), slope, atol=1e-9, rtol=0)


def test_what_is_known_stays_exactly_and_nothing_given_is_changed() -> None:
    images = drawn(2, 2, 10, 10)
    gone = holes(images, 0.5)
    before, holes_before = images.clone(), gone.clone()
    found = imputed(images, gone)
    kept = ~gone[:, None].expand_as(images)
    assert torch.equal(found[kept], images[kept])
    assert torch.equal(images, before) and torch.equal(gone, holes_before)
    assert torch.equal(imputed(images, torch.zeros_like(gone)), images)


def test_a_constant_image_comes_back_however_much_is_gone() -> None:
    images = torch.full((1, 1, 12, 12), 3.0)
    gone = torch.ones(1, 12, 12, dtype=torch.bool)
    gone[0, 4, 7] = False
    assert torch.equal(imputed(images, gone), images)


def test_each_image_is_solved_on_its_own() -> None:
    images = drawn(3, 2, 24, 20)
    gone = torch.stack([holes(images[:1], share)[0] for share in (0.05, 0.5, 0.95)])
    together = imputed(images, gone)
    for b in range(3):
        alone = imputed(images[b : b + 1], gone[b : b + 1])
        torch.testing.assert_close(alone[0], together[b], atol=1e-5, rtol=0)


def test_noise_is_the_same_for_every_image_and_differs_by_seed() -> None:
    noise = noise_like(drawn(5, 1, 60, 60))
    assert noise.shape == (1, 1, 60, 60)
    assert torch.equal(noise, noise_like(drawn(2, 1, 60, 60, seed=9)))
    assert not torch.equal(noise, noise_like(drawn(2, 1, 60, 60), seed=1))
    assert noise.std().item() == pytest.approx(0.01, rel=0.05)


def test_nothing_can_be_imputed_from_nothing() -> None:
    gone = torch.zeros(2, 4, 4, dtype=torch.bool)
    gone[1] = True
    with pytest.raises(OctoscopeError, match="all pixels of an image are gone"):
        imputed(drawn(2, 1, 4, 4), gone)
