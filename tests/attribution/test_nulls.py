"""Null maps: what they are, and that they know nothing of model, class or the rest of the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import sobel
from torch import Tensor

from octoscope.attribution import nulls
from octoscope.attribution.explain import explain
from octoscope.attribution.registry import METHODS, methods_named
from timm_families import FAMILIES

RESNET, CONVNEXT = (f for f in FAMILIES if f.name in ("resnet10t", "convnext_atto"))
SIZES = [(32, 48), (5, 7), (4, 6, 9)]
NAMES = ["null_random", "null_centre", "null_edges", "null_intensity"]


def images(*size: int, count: int = 3, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(0))


def test_rows() -> None:
    assert [row.name for row in methods_named("null")] == NAMES
    assert not any(METHODS[name].signed or METHODS[name].class_specific for name in NAMES)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_every_null_map(name: str, size: tuple[int, ...]) -> None:
    for channels in (1, 3):
        found = METHODS[name].function(images(*size, count=8, channels=channels))
        assert found.dtype == torch.float32 and len(found) == 8
        assert found.ndim == 1 + len(size) and found.isfinite().all()
        assert (found >= 0).all() and (found > 0).any()
        alone = METHODS[name].function(images(*size, count=8, channels=channels)[5:6])
        assert alone[0].equal(found[5])


def test_neither_model_nor_class_matters() -> None:
    x = RESNET.images(2)
    one = explain(RESNET.build(), x, "null", targets="all")
    other = explain(CONVNEXT.build(), x, "null", targets="all")
    for name in NAMES:
        assert one[name].shape == (2, 4, 64, 96) and one[name].equal(other[name])
        assert one[name][:, :1].expand(-1, 4, -1, -1).equal(one[name])
    assert explain(RESNET.build(), x, "null", dry_run=True).forwards == 1


@pytest.mark.parametrize(
    ("size", "grid"),
    [((224, 224), (14, 14)), ((496, 1000), (31, 63)), ((40, 2), (4, 2)), ((8, 64, 96), (4, 4, 6))],
)
def test_grid_of_the_noise(size: tuple[int, ...], grid: tuple[int, ...]) -> None:
    assert nulls.null_random(torch.zeros(1, 1, *size)).shape == (1, *grid)


def test_noise_is_uniform_and_independent() -> None:
    """Over cells and over images, by the moments of a uniform distribution."""
    found = nulls.null_random(images(256, 256, count=64, channels=1)).flatten(1)  # (64, 256)
    n = found.numel()
    assert abs(float(found.mean()) - 1 / 2) < 4 * (1 / 12 / n) ** 0.5
    assert abs(float(found.var()) - 1 / 12) < 4 * (1 / 180 / n) ** 0.5
    counts = torch.histc(found, 16, 0, 1)
    assert float(((counts - n / 16) ** 2 / (n / 16)).sum()) < 37.7  # χ² of 15, p = 0.001
    between_images = np.corrcoef(found.numpy())[np.triu_indices(64, 1)]
    between_cells = np.corrcoef(found.numpy().T)[np.triu_indices(256, 1)]
    assert abs(between_images).max() < 0.35 and abs(between_images.mean()) < 0.01
    assert abs(between_cells).max() < 0.65 and abs(between_cells.mean()) < 0.01


def test_noise_belongs_to_the_image() -> None:
    x = images(32, 48, count=1)
    nudged, swapped = x.clone(), x.clone()
    nudged[0, 0, 3, 4] += 1e-6
    swapped[0, 0, 0, :2] = x[0, 0, 0, [1, 0]]
    first = nulls.null_random(x)
    assert first.equal(nulls.null_random(x.clone()))
    for other in (nudged, swapped, x.flip(-1)):
        assert not first.equal(nulls.null_random(other))


def test_noise_by_hand() -> None:
    """The same hash in plain integers."""

    def mixed(number: int) -> int:
        number = (number + 0x9E3779B97F4A7C15) % 2**64
        number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        number = (number ^ (number >> 27)) * 0x94D049BB133111EB % 2**64
        return number ^ (number >> 31)

    x = torch.tensor([[[[0.25, -1.5], [3.0, 1e-8]]]])
    pixels = [int(p) for p in x.numpy().ravel().view(np.int32)]
    seed = sum(mixed(mixed(i) ^ (p % 2**64)) for i, p in enumerate(pixels)) % 2**64
    expected = [(mixed(mixed(seed) ^ mixed(cell)) % 2**24) / 2**24 for cell in range(4)]
    assert nulls.null_random(x).flatten().tolist() == expected


@pytest.mark.parametrize("size", SIZES)
def test_centre(size: tuple[int, ...]) -> None:
    found = nulls.null_centre(images(*size))[0].numpy()
    for index in np.ndindex(*size):
        apart = [
            (i + 0.5 - length / 2) / (length / 4) for i, length in zip(index, size, strict=True)
        ]
        assert found[index] == pytest.approx(np.exp(-sum(a**2 for a in apart) / 2), rel=1e-5)


@pytest.mark.parametrize("size", [*SIZES, (1, 5)])
def test_edges(size: tuple[int, ...]) -> None:
    """scipy's Sobel, which repeats the border by default."""
    x = images(*size)
    for b in range(3):
        mean = x[b].double().mean(0).numpy()
        expected = np.sqrt(sum(sobel(mean, axis) ** 2 for axis in range(len(size))))
        np.testing.assert_allclose(nulls.null_edges(x)[b].numpy(), expected, rtol=0, atol=1e-5)
    assert not nulls.null_edges(torch.full((1, 3, *size), 0.7)).any()


def test_intensity() -> None:
    x = torch.tensor([[[[0.5, 1.0], [0.25, 0.5]], [[0.5, 0.0], [0.75, 1.5]]]])
    assert nulls.null_intensity(x).tolist() == [[[0.0, 0.0], [0.0, 0.5]]]
