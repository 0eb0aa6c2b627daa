"""The maps against their papers' equations, written here with loops, and against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from captum.testing.helpers.basic_models import BasicModel_ConvNet_One_Conv
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attribution.quick import SEVEN
from octoscope.attribution.cam import gradients as cams
from octoscope.attribution.cam.eigen import first_eigenvector
from octoscope.attribution.explain import explain
from octoscope.attribution.registry import METHODS

SHAPES = [(4, 5), (2, 3, 4)]
"""Grids of an image and of a volume."""


def evidence(
    *grid: int, batch: int = 2, channels: int = 3, signed: bool = True
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    shape = (batch, channels, *grid)
    activations = torch.randn(shape, generator=generator, dtype=torch.float64)
    gradients = torch.randn(shape, generator=generator, dtype=torch.float64)
    return activations if signed else activations.relu(), gradients


def by_channel_weights(activations: Tensor, gradients: Tensor, weight: object) -> np.ndarray:
    """Σ_k a_k A_k for one image, with a_k = weight(A_k, g_k)."""
    a, g = activations.numpy(), gradients.numpy()
    return sum(weight(a[k], g[k]) * a[k] for k in range(len(a)))  # type: ignore[operator]


def gradcam_weight(a: np.ndarray, g: np.ndarray) -> float:
    return g.sum() / g.size


def xgradcam_weight(a: np.ndarray, g: np.ndarray) -> float:
    return (g * a).sum() / a.sum()


def gradcam_plus_plus_weight(a: np.ndarray, g: np.ndarray, score: float = 0.7) -> float:
    """With Y = exp(y): every derivative of Y carries the factor exp(y), as in the paper."""
    first, second, third = (math.exp(score) * g**power for power in (1, 2, 3))
    total = 0.0
    for i in np.ndindex(g.shape):
        denominator = 2 * second[i] + a.sum() * third[i]
        alpha = second[i] / denominator if denominator else 0.0
        total += alpha * max(first[i], 0.0)
    return total / math.exp(score)


@pytest.mark.parametrize("grid", SHAPES)
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
    ("function", "weight"),
    [
        (cams.gradcam, gradcam_weight),
        (cams.xgradcam, xgradcam_weight),
        (cams.gradcam_plus_plus, gradcam_plus_plus_weight),
    ],
)
def test_weighted_channels(
    function: object, weight: object, grid: tuple[int, ...], signed: bool
) -> None:
    activations, gradients = evidence(*grid, signed=signed)
    found = function(activations, gradients)  # type: ignore[operator]
    for b in range(2):
        expected = by_channel_weights(activations[b], gradients[b], weight)
        np.testing.assert_allclose(found[b].numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("grid", SHAPES)
def test_positional_products(grid: tuple[int, ...]) -> None:
    activations, gradients = evidence(*grid)
    a, g = activations.numpy(), gradients.numpy()
    np.testing.assert_allclose(cams.hirescam(activations, gradients), (g * a).sum(1))
    np.testing.assert_allclose(cams.layercam(activations, gradients), (np.maximum(g, 0) * a).sum(1))


@pytest.mark.parametrize("grid", [*SHAPES, (7, 9)])
@pytest.mark.parametrize("channels", [3, 40])  # fewer and more channels than positions
@pytest.mark.parametrize("weighted", [False, True])
def test_first_singular_direction(grid: tuple[int, ...], channels: int, weighted: bool) -> None:
    activations, gradients = evidence(*grid, channels=channels)
    if weighted:
        found = cams.eigengradcam(activations, gradients)
        features = (activations * gradients).numpy()
    else:
        found, features = cams.eigencam(activations), activations.numpy()
    for b in range(2):
        x = features[b].reshape(channels, -1).T  # n x K, not centred
        _, _, v = np.linalg.svd(x, full_matrices=False)
        expected = (x @ v[0]).reshape(grid)
        if abs(expected.min()) > abs(expected.max()):
            expected = -expected
        np.testing.assert_allclose(found[b].numpy(), expected, atol=1e-6 * np.abs(expected).max())


def test_first_direction_in_single_precision() -> None:
    """Features as large and as alike as those of a ResNet-50 and a ViT: float32 is enough."""
    generator = torch.Generator().manual_seed(0)
    for n, channels in ((49, 2048), (196, 192)):
        features = torch.randn(2, channels, n, generator=generator) + 0.1
        found = cams.eigencam(features)
        u, s, _ = torch.linalg.svd(features.double().mT, full_matrices=False)
        expected = u[..., 0] * s[:, :1]
        error = (found.abs() - expected.abs()).abs().amax() / expected.abs().amax()
        assert error < 1e-5


def test_eigenvector_of_close_and_of_equal_eigenvalues() -> None:
    close = torch.diag(torch.tensor([1.0, 0.999, 0.5], dtype=torch.float64))
    assert first_eigenvector(close).abs().allclose(torch.tensor([1.0, 0, 0]).double(), atol=1e-6)
    equal = first_eigenvector(torch.eye(3)[None])  # any unit vector will do
    assert equal.isfinite().all() and equal.norm(dim=-1).allclose(torch.ones(1))
    assert not first_eigenvector(torch.zeros(2, 3, 3)).any()
    assert first_eigenvector(torch.full((1, 2, 2), torch.nan)).isnan().all()


def test_eigencam_is_flipped_to_its_larger_side() -> None:
    assert cams.eigencam(torch.tensor([[[[-3.0, 1.0]]]])).flatten().tolist() == [3.0, -1.0]
    assert cams.eigencam(torch.tensor([[[[3.0, -1.0]]]])).flatten().tolist() == [3.0, -1.0]
    assert not cams.eigencam(torch.zeros(1, 2, 2, 2)).any()


def test_safe_divisions() -> None:
    """Cancelling activations give large, finite weights with the sign of their sum."""
    activations = torch.tensor([[[[1.0, -1.0]]]])
    gradients = torch.ones(1, 1, 1, 2)
    assert cams.xgradcam(activations, gradients).isfinite().all()
    almost = torch.tensor([[[[1.0, -1.0 - 1e-3]]]])
    weight = cams.xgradcam(almost, almost)[0, 0, 0] / almost[0, 0, 0, 0]
    assert weight < 0  # Σ g A > 0 over Σ A < 0
    assert not cams.xgradcam(torch.zeros(1, 1, 1, 2), gradients).any()
    pole = torch.tensor([[[[-1.0, -1.0]]]])  # 2 + g ΣA = 0
    assert cams.gradcam_plus_plus(pole, gradients).isfinite().all()


def test_tiny_gradients_do_not_vanish() -> None:
    """Grad-CAM++ with g = 1e-30, whose square float32 cannot hold: the weights scale with g."""
    activations, gradients = (t.float() for t in evidence(4, 5, signed=False))
    small = cams.gradcam_plus_plus(activations, gradients * 1e-30) * 1e30
    limit = torch.einsum("bkhw,bk->bhw", activations, gradients.relu().sum((2, 3)) / 2)
    assert small.allclose(limit, rtol=1e-5)


@pytest.mark.parametrize("name", SEVEN)
@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_several_classes_at_once(name: str, scale: float, seed: int) -> None:
    """Leading axes of g are classes: the same maps as class by class, for any scale of g."""
    method = METHODS[name]
    generator = torch.Generator().manual_seed(seed)
    activations = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    gradients = scale * torch.randn(3, 2, 3, 4, 5, generator=generator, dtype=torch.float64)
    if not method.class_specific:
        return
    together = method.function(activations=activations, gradients=gradients)
    assert together.shape == (3, 2, 4, 5)
    for c in range(3):
        alone = method.function(activations=activations, gradients=gradients[c])
        torch.testing.assert_close(together[c], alone, rtol=1e-6, atol=1e-9 * scale)


class PooledLinear(nn.Module):
    """Convolution, ReLU, global average pooling and one linear layer, for any number of axes."""

    def __init__(self, axes: int, classes: int = 3) -> None:
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[axes]
        self.layer = nn.Sequential(convolution(1, 6, 3, padding=1), nn.ReLU(inplace=True))
        self.head = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x).flatten(2).mean(2))


@pytest.mark.parametrize("size", SHAPES)
def test_pooled_linear_head(size: tuple[int, ...]) -> None:
    """CAM = Grad-CAM · n = HiResCAM · n = XGrad-CAM · n, and HiResCAM sums to y - b."""
    torch.manual_seed(0)
    model = PooledLinear(len(size)).double()
    images = torch.rand(2, 1, *size, dtype=torch.float64)
    n = math.prod(size)
    maps = explain(model, images, "all", targets="all", layer="layer", signed=True)
    with torch.no_grad():
        features = model.layer(images)
        cam = torch.einsum("ck,bk...->bc...", model.head.weight, features).float()
        scores = model(images) - model.head.bias
    for name in ("gradcam", "hirescam", "xgradcam"):
        torch.testing.assert_close(maps.native[name] * n, cam, rtol=1e-5, atol=1e-6)
    total = maps.native["hirescam"].flatten(2).sum(2)
    torch.testing.assert_close(total, scores.float(), rtol=1e-5, atol=1e-6)
    # Grad-CAM++ too has a closed form: all g of a channel are w/n, so a_k = n α ReLU(w/n).
    weights = model.head.weight.detach()
    alpha = 1 / (2 + weights / n * features.flatten(2).sum(2)[:, None])  # (B, K, C)
    expected = torch.einsum("bck,bk...->bc...", alpha * weights.relu(), features)
    torch.testing.assert_close(maps.native["gradcam++"], expected.float(), rtol=1e-4, atol=1e-6)


def test_hirescam_with_a_flattened_head() -> None:
    """With an affine head that does not pool, HiResCAM still sums to y - b, Grad-CAM does not."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    images = torch.rand(2, 1, 8, 8)
    maps = explain(model, images, ["hirescam", "gradcam"], targets="all", layer="1", signed=True)
    scores = (model(images) - model[3].bias).detach()
    torch.testing.assert_close(maps.native["hirescam"].sum((2, 3)), scores, rtol=1e-4, atol=1e-5)
    assert not maps.native["gradcam"].sum((2, 3)).allclose(scores, rtol=1e-2)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [("conv1", [[11.25, 13.5], [20.25, 22.5]]), ("relu1", [[0.0, 4.0], [28.0, 32.5]])],
)
def test_hand_computed_toy_network(layer: str, expected: list[list[float]]) -> None:
    """Values worked out by hand for Captum's one-convolution network on 0, 1, …, 15."""
    model = BasicModel_ConvNet_One_Conv()
    images = torch.arange(16.0).view(1, 1, 4, 4)
    maps = explain(model, images, targets=0, layer=layer, signed=True)
    torch.testing.assert_close(maps.native["gradcam"][0], torch.tensor(expected))
    captum = LayerGradCam(model, getattr(model, layer)).attribute(images, 0)
    torch.testing.assert_close(maps.native["gradcam"], captum[:, 0].detach())
