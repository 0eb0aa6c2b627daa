"""Whole maps of real architectures against pytorch-grad-cam, and against a plain backward pass."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import pytorch_grad_cam as pgc
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from attribution.quick import SEVEN
from octoscope.attribution.display import normalise, upsample
from octoscope.attribution.explain import explain
from octoscope.attribution.registry import METHODS
from timm_families import FAMILIES, Family

NAMES = (
    "resnet10t",
    "convnext_atto",
    "efficientnet_b0",
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "swin_tiny_patch4_window7_224",
)
PEERS = [family for family in FAMILIES if family.name in NAMES]
CLASSES = [3, 1, 0]


def reshape_of(family: Family) -> Callable[[Tensor], Tensor] | None:
    """What a user of pytorch-grad-cam has to write by hand for each family."""
    height, width = family.grid
    if family.kind == "nhwc":
        return lambda t: t.permute(0, 3, 1, 2)
    if family.kind == "tokens":
        return lambda t: (
            t[:, family.prefix :].reshape(len(t), height, width, -1).permute(0, 3, 1, 2)
        )
    return None


def as_they_normalise(native: Tensor, size: tuple[int, int]) -> Tensor:
    return normalise(upsample(normalise(native.relu()), size))


@pytest.mark.parametrize("family", PEERS, ids=lambda f: f.name)
@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("gradcam", pgc.GradCAM),
        ("hirescam", pgc.HiResCAM),
        ("xgradcam", pgc.XGradCAM),
        ("layercam", pgc.LayerCAM),
    ],
)
def test_pytorch_grad_cam(family: Family, name: str, peer: type) -> None:
    model, images = deepcopy(family.build()), family.images(3)
    with torch.no_grad():  # their 1e-7 in denominators must not matter, so no tiny gradients
        for head in list(model.modules())[::-1]:
            if isinstance(head, nn.Linear) and head.out_features == 4:
                head.weight.mul_(100)
    ours = explain(model, images, name, targets=CLASSES)
    layer = dict(model.named_modules())[family.layer]
    theirs = peer(model, [layer], reshape_transform=reshape_of(family))(
        images, [ClassifierOutputTarget(c) for c in CLASSES]
    )
    found = as_they_normalise(ours.native[name], family.size)
    assert np.abs(found.numpy() - theirs).max() <= 1e-4
    assert theirs.max() > 0.9  # they did find something


def plain_pass(model: nn.Module, layer: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Activations and gradients as a textbook does it: the whole graph, on unfrozen parameters."""
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _m, _i, out: seen.append(out))
    logits = model(images)
    hook.remove()
    score = logits[torch.arange(len(images)), torch.tensor(CLASSES)].sum()
    (gradients,) = torch.autograd.grad(score, seen)
    return seen[0].detach(), gradients


@pytest.mark.parametrize("family", PEERS, ids=lambda f: f.name)
def test_paper_equations(family: Family) -> None:
    """Grad-CAM++ and the Eigen maps, for which the peer departs from the papers."""
    model, images = family.build().double(), family.images(3).double()
    try:
        layer = dict(model.named_modules())[family.layer]
        raw = plain_pass(model, layer, images)
        to_maps = reshape_of(family) or (lambda t: t)
        a, g = (to_maps(t).numpy() for t in raw)
        names = ["gradcam++", "eigencam", "eigengradcam"]
        ours = explain(model, images, names, targets=CLASSES, signed=True)
    finally:
        model.float()
    for b in range(3):
        second, third = g[b] ** 2, g[b] ** 3
        total = a[b].sum((1, 2), keepdims=True)
        alpha = np.where(g[b] == 0, 0, second / (2 * second + total * third))
        weights = (alpha * np.maximum(g[b], 0)).sum((1, 2))
        close(ours.native["gradcam++"][b], np.einsum("k,khw->hw", weights, a[b]))
        close(ours.native["eigencam"][b], first_direction(a[b]))
        close(ours.native["eigengradcam"][b], first_direction(g[b] * a[b]))


def first_direction(features: np.ndarray) -> np.ndarray:
    """Project (K, h, w) on the first right singular vector, not centred, larger side positive."""
    x = features.reshape(len(features), -1).T
    _, _, v = np.linalg.svd(x, full_matrices=False)
    found = (x @ v[0]).reshape(features.shape[1:])
    return -found if abs(found.min()) > abs(found.max()) else found


def close(found: Tensor, expected: np.ndarray) -> None:
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_every_family_against_a_plain_pass(family: Family) -> None:
    """The cut graph gives the gradients of the whole graph, whatever the architecture."""
    model, images = family.build(), family.images(3)
    layer = dict(model.named_modules())[family.layer]
    activations, gradients = map(
        reshape_of(family) or (lambda t: t), plain_pass(model, layer, images)
    )
    maps = explain(model, images, SEVEN, targets=CLASSES)
    for name, method in ((name, METHODS[name]) for name in SEVEN):
        given = {"activations": activations, "gradients": gradients}
        expected = method.function(**{need: given[need] for need in method.needs})
        expected = expected.relu() if method.rectified else expected
        assert maps[name].shape == (3, *family.size)
        assert maps.native[name].shape == (3, *family.grid)
        assert not maps.flags[name]["nonfinite"].any()
        scale = expected.abs().amax((1, 2), keepdim=True).clamp(min=1e-30)
        assert ((maps.native[name] - expected) / scale).abs().max() < 2e-3
