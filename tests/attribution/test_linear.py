"""Linear layers as convolutions: the same numbers, and nothing left behind."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from octoscope.attribution.forward import Forward
from octoscope.attribution.linear import LEAST_ROWS, quick_linear


@pytest.fixture
def convolved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the convolutions that run."""
    seen: list[int] = []
    convolve = F.conv2d

    def count(*args: object) -> torch.Tensor:
        seen.append(1)
        return convolve(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(F, "conv2d", count)
    return seen


@pytest.mark.parametrize("shape", [(LEAST_ROWS, 24), (2, 50, 24), (2, 5, 20, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_gives_the_product(shape: tuple[int, ...], bias: bool, convolved: list[int]) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(24, 7, bias=bias)
    rows = torch.randn(shape)
    expected = rows @ layer.weight.mT + (layer.bias if bias else 0)
    with torch.inference_mode(), quick_linear():
        found = layer(rows)
    assert convolved
    assert found.shape == expected.shape
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_takes_rows_that_are_not_contiguous() -> None:
    torch.manual_seed(0)
    layer, rows = nn.Linear(24, 7), torch.randn(24, 90).mT
    with quick_linear():
        found = layer(rows)
    torch.testing.assert_close(found, F.linear(rows, layer.weight, layer.bias))


@pytest.mark.parametrize("case", ["double", "few rows", "bfloat16"])
def test_leaves_other_products_alone(case: str, convolved: list[int]) -> None:
    dtype = {"double": torch.float64, "bfloat16": torch.bfloat16}.get(case, torch.float32)
    layer = nn.Linear(24, 7, dtype=dtype)
    rows = torch.randn(LEAST_ROWS - (case == "few rows"), 24, dtype=dtype)
    expected = layer(rows)
    with quick_linear():
        assert torch.equal(layer(rows), expected)
    assert not convolved


def test_is_over_when_the_pass_is(convolved: list[int]) -> None:
    layer, rows = nn.Linear(24, 7), torch.randn(LEAST_ROWS, 24)
    with pytest.raises(RuntimeError, match="stop"), quick_linear():
        raise RuntimeError("stop")
    layer(rows)
    assert not convolved


def test_a_transformer_says_the_same() -> None:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, depth=2, img_size=64).eval()
    images = torch.randn(5, 3, 64, 64)
    with torch.inference_mode():
        expected = model(images)
    torch.testing.assert_close(Forward(model, 5)(images), expected, rtol=1e-5, atol=1e-5)
