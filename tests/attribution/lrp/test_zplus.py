"""Rules of z⁺ relevance: by hand, conserved, and each image by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from octoscope.attribution.lrp import zplus


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_linear_by_hand() -> None:
    """Two outputs of x = (1, -2, 3): positive products (2, 0, 3) of the first, (0, 4, 0)."""
    inputs = torch.tensor([[1.0, -2.0, 3.0]])
    weight = torch.tensor([[2.0, 5.0, 1.0], [-7.0, -2.0, -1.0]])
    found = zplus.linear(torch.tensor([[10.0, 3.0]]), inputs, weight)
    assert found.tolist() == [[4.0, 3.0, 6.0]]


def test_sums_by_hand() -> None:
    """u = (2, -1), v = (2, 3), R = (4, 6): R_u = (2, -3), R_v = (2, 9), sums -1 and 11 of 10."""
    first, second = torch.tensor([[2.0, -1.0]]), torch.tensor([[2.0, 3.0]])
    of_first, of_second = zplus.add(torch.tensor([[4.0, 6.0]]), first, second)
    torch.testing.assert_close(of_first, torch.tensor([[-2.0, 3.0]]) * 10 / 12)
    torch.testing.assert_close(of_second, torch.tensor([[2.0, 9.0]]) * 10 / 12)


def test_mean_by_hand() -> None:
    tokens = torch.tensor([[[1.0, -1.0], [3.0, 0.0], [-2.0, -4.0]]])
    found = zplus.mean(torch.tensor([[8.0, 16.0]]), tokens)
    assert found.tolist() == [[[2.0, 0.0], [6.0, 0.0], [0.0, 0.0]]]


def test_products_by_hand() -> None:
    first, second = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0], [1.0]]])
    of_first, of_second = zplus.matmul(torch.tensor([[[10.0]]]), first, second)
    assert of_first.tolist() == [[[3.0, 2.0]]] and of_second.tolist() == [[[3.0], [2.0]]]


@pytest.mark.parametrize("rule", ["linear", "add", "matmul", "mean"])
def test_conserved_and_each_image_by_itself(rule: str) -> None:
    def propagate(relevance: Tensor, one: Tensor, two: Tensor) -> list[Tensor]:
        if rule == "linear":
            return [zplus.linear(relevance, one, weight)]
        if rule == "mean":
            return [zplus.mean(relevance[:, 0], one)]
        found = getattr(zplus, rule)(relevance, one, two)
        return list(found)

    # Of 40 products some are positive; an output that has none gives its relevance to nobody.
    weight = drawn(5, 40, seed=9)
    one, two = drawn(4, 7, 40), drawn(4, 7, 40, seed=1)
    one[:, 0] = one[:, 0].abs()  # and so has every mean over tokens
    relevance = {
        "linear": drawn(4, 7, 5, seed=2),
        "add": drawn(4, 7, 40, seed=2),
        "matmul": drawn(4, 7, 7, seed=2),
        "mean": drawn(4, 1, 40, seed=2),
    }[rule]
    two = two.mT if rule == "matmul" else two
    together = propagate(relevance, one, two)
    into = sum(part.sum((1, 2)) for part in together)
    torch.testing.assert_close(into, relevance.sum((1, 2)), atol=1e-4, rtol=0)
    for b in range(4):
        alone = propagate(*(t[b : b + 1] for t in (relevance, one, two)))
        for found, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(found[b], expected[0], atol=1e-10, rtol=1e-10)


def test_nothing_is_divided_by_zero() -> None:
    zeros = torch.zeros(2, 3, 4)
    assert not zplus.linear(torch.ones(2, 3, 5), zeros, torch.ones(5, 4)).any()
    assert not any(part.any() for part in zplus.add(torch.ones(2, 3, 4), zeros, zeros))
    assert not any(part.any() for part in zplus.matmul(torch.ones(2, 3, 3), zeros, zeros.mT))
    assert not zplus.mean(torch.ones(2, 4), zeros).any()
    assert zplus.ratio(torch.ones(3), torch.tensor([1e-12, -1e-12, 2.0])).tolist() == [
        pytest.approx(1e9),
        pytest.approx(-1e9),
        0.5,
    ]
