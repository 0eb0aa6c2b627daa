"""Passes without a graph: pieces, memory, precision, layout."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from octoscope.attribution.forward import Forward
from timm_families import FAMILIES, Family

SOME = [f for f in FAMILIES if f.name in ("resnet10t", "convnext_atto", "beit_base_patch16_224")]
RESNET = SOME[0]


def plain(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images)


@pytest.mark.parametrize("family", SOME, ids=lambda f: f.name)
@pytest.mark.parametrize("most", [None, 1, 3, 100])
def test_pieces_do_not_matter(family: Family, most: int | None) -> None:
    model, images = family.build(), family.images(7)
    found = Forward(model, images_per_pass=most)(images)
    assert found.dtype == torch.float32 and not found.requires_grad
    torch.testing.assert_close(found, plain(model, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_every_family(family: Family) -> None:
    """Whatever order the images' memory is given, the logits are the same."""
    model, images = family.build(), family.images(2)
    found, expected = Forward(model, images_per_pass=2)(images), plain(model, images)
    scale = expected.abs().max()
    assert (found - expected).abs().max() <= 2e-4 * scale


class Greedy(nn.Module):
    """Refuses more than some images, as an allocator would."""

    def __init__(self, most: int, error: Exception) -> None:
        super().__init__()
        self.most, self.error = most, error
        self.pieces: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.pieces.append(len(x))
        if len(x) > self.most:
            raise self.error
        return x.flatten(1)[:, :3]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
    ],
)
def test_memory_that_runs_out(error: Exception) -> None:
    """Half as many, for good, and the same logits; a module without parameters will do."""
    images = torch.rand(40, 1, 4, 4)
    model = Greedy(6, error)
    forward = Forward(model, images_per_pass=40)
    assert forward(images).equal(images.flatten(1)[:, :3])
    assert forward.images_per_pass == 5
    model.pieces.clear()
    forward(images)
    assert set(model.pieces) == {5}
    with pytest.raises(RuntimeError):
        Forward(Greedy(0, error))(images)


def test_images_made_as_needed() -> None:
    made: list[list[int]] = []

    def make(rows: Tensor) -> Tensor:
        made.append(rows.tolist())
        return rows.view(-1, 1, 1, 1).expand(-1, 1, 2, 2).float()

    found = Forward(nn.Flatten(), images_per_pass=3).made(make, 8)
    assert made == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert found[:, 0].tolist() == list(range(8))


def test_precision() -> None:
    model, images = RESNET.build(), RESNET.images(3)
    exact, coarse = Forward(model)(images), Forward(model, autocast=torch.bfloat16)(images)
    assert coarse.dtype == torch.float32
    difference = (coarse - exact).abs().max() / exact.abs().max()
    assert 0 < difference < 0.05
    assert not torch.is_autocast_enabled("cpu")


def test_inside_inference_mode() -> None:
    """What comes out can be used in a graph."""
    model, images = RESNET.build(), RESNET.images(2)
    with torch.inference_mode():
        found = Forward(model)(images)
        assert torch.is_inference_mode_enabled()
    weight = torch.ones(4, requires_grad=True)
    (found * weight).sum().backward()
    assert weight.grad is not None and not found.is_inference()


class Viewer(nn.Module):
    """Takes its features' memory as given, as old networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3)
        self.two = nn.Conv2d(8, 8, 3)
        self.layouts: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.layouts.append(x.is_contiguous())
        return self.two(self.one(x)).view(len(x), 2, -1).mean(2)


def test_a_model_that_views_its_features() -> None:
    torch.manual_seed(0)
    model, images = Viewer(), torch.rand(4, 3, 9, 12)
    forward = Forward(model, images_per_pass=2)
    torch.testing.assert_close(forward(images), plain(model, images))
    assert model.layouts[:3] == [False, True, True]  # tried once
    assert images.is_contiguous()


def test_errors_of_the_model_pass_through() -> None:
    with pytest.raises(RuntimeError, match="channels"):
        Forward(RESNET.build(), images_per_pass=2)(torch.rand(2, 5, 64, 96))
