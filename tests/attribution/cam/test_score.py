"""Score-CAM against the paper's algorithm written as loops, and against pytorch-grad-cam."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import pytorch_grad_cam as pgc
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional as F

from octoscope.attribution import memory
from octoscope.attribution.display import normalise
from octoscope.attribution.explain import explain
from octoscope.models.classifier import Classifier
from octoscope.models.preprocess import Preprocess
from octoscope.scans.framing import Framing
from timm_families import FAMILIES

VIT = next(family for family in FAMILIES if family.name == "vit_tiny_patch16_224")


def small_network(stride: int = 1, channels: int = 3, axes: int = 2) -> nn.Sequential:
    """Layer "1" has five channels, of which the last is flat."""
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[axes]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            convolution(channels, 5, 3, stride=stride, padding=1),
            nn.ReLU(inplace=True),
            {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[axes](1),
            nn.Flatten(),
            nn.Linear(5, 4),
        )
    with torch.no_grad():
        network[0].weight[4], network[0].bias[4] = 0, 0.5
        network[4].weight *= 400  # scores that differ, so that the weights do
    return network.eval()


def images(*size: int, count: int = 3, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def by_the_paper(
    model: nn.Module, image: Tensor, activations: Tensor, category: int
) -> tuple[Tensor, Tensor]:
    """Algorithm 1 for one image (C, *S), the black baseline included: the sum, the weights."""
    mode = {2: "bilinear", 3: "trilinear"}[image.ndim - 1]
    baseline = model(torch.zeros_like(image)[None])[0, category]
    scores = []
    for channel in activations:
        wide = F.interpolate(channel[None, None], image.shape[1:], mode=mode)[0, 0]
        low, high = wide.min(), wide.max()
        mask = (wide - low) / (high - low) if high > low else torch.zeros_like(wide)
        scores.append(model((image * mask)[None])[0, category] - baseline)
    weights = torch.stack(scores).softmax(0)
    return sum(w * a for w, a in zip(weights, activations, strict=True)), weights


def close(found: Tensor, expected: Tensor) -> None:
    scale = float(expected.abs().max())
    assert scale > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize(("size", "stride"), [((8, 12), 1), ((8, 12), 2), ((4, 6, 8), 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_algorithm_1(size: tuple[int, ...], stride: int, channels: int) -> None:
    model, x = small_network(stride, channels, len(size)), images(*size, channels=channels)
    found = explain(model, x, "scorecam", targets="all", layer="1", signed=True)
    for b in range(len(x)):
        activations = model[:2](x[b : b + 1])[0].detach()
        assert (activations[4] == activations[4].flatten()[0]).all()  # a flat channel takes part
        for k in range(4):
            expected, weights = by_the_paper(model, x[b], activations, k)
            assert weights.max() - weights.min() > 0.02  # not all alike
            close(found.native["scorecam"][b, k], expected)
    paper = explain(model, x, "scorecam", targets="all", layer="1")
    assert paper.native["scorecam"].equal(found.native["scorecam"].relu())


def test_tokens() -> None:
    """A transformer: patches on a grid that is not square, after a class token."""
    model, x = deepcopy(VIT.build()), VIT.images(1)
    with torch.no_grad():
        model.head.weight *= 100  # with equal weights, channels after a norm cancel
    seen: list[Tensor] = []
    hook = model.blocks[1].norm1.register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.no_grad():
        model(x)
    hook.remove()
    activations = seen[0][0, 1:].T.unflatten(1, VIT.grid)
    expected, _ = by_the_paper(model, x[0], activations, 2)
    found = explain(model, x, "scorecam", targets=2, signed=True)
    close(found.native["scorecam"][0], expected)


def test_pytorch_grad_cam() -> None:
    """Where the layer has the size of the image, so that their aligned corners do not matter."""
    model, x = small_network(), images(8, 12)
    classes = [3, 1, 0]
    ours = explain(model, x, "scorecam", targets=classes, layer="1").native["scorecam"]
    theirs = pgc.ScoreCAM(model, [model[1]])(x, [ClassifierOutputTarget(c) for c in classes])
    assert np.abs(normalise(ours).numpy() - theirs).max() <= 1e-4
    assert theirs.max() > 0.9


def test_the_image_is_masked_as_it_is_given() -> None:
    """Before `Classifier` normalises: what is masked out is black, not the mean."""
    network = small_network(2)
    preprocess = Preprocess(Framing(height=8, width=12), 3, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
    model = Classifier(network, ["a", "b", "c", "d"], preprocess).eval()
    grey = images(8, 12, channels=1, count=1)
    activations = network[:2](model.normalise(grey))[0].detach()
    found = explain(model, grey, "scorecam", targets=1, layer="network.1", signed=True)
    close(found.native["scorecam"][0], by_the_paper(model, grey[0], activations, 1)[0])


def test_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One masked image per channel for all classes, few at a time, as planned."""
    monkeypatch.setitem(memory.MOST, "cpu", 4)
    model, x = small_network(2), images(8, 12)
    free = explain(model, x, "scorecam", targets="all", layer="1")
    passed: list[int] = []
    hook = model.register_forward_pre_hook(lambda _m, inputs: passed.append(len(inputs[0])))
    explain(model, x, "scorecam", targets=0, layer="1")
    one_class, passed[:] = sum(passed), []
    chunked = explain(model, x, "scorecam", targets="all", layer="1", batch_size=2)
    hook.remove()
    assert max(passed) <= 4 and sum(passed) <= one_class + 2  # two chunks: two measurements
    close(chunked.native["scorecam"], free.native["scorecam"])
    plan = explain(model, x, "scorecam", targets="all", layer="1", dry_run=True)
    assert plan.forwards == 1 + 5 and one_class <= 3 * 6 + 2


def test_batch_of_eight_is_eight_singles() -> None:
    model, x = small_network(2), images(8, 12, count=8)
    together = explain(model, x, "scorecam", targets=2, layer="1", signed=True).native["scorecam"]
    for b in range(8):
        alone = explain(model, x[b : b + 1], "scorecam", targets=2, layer="1", signed=True)
        close(together[b], alone.native["scorecam"][0])
