"""Finer-CAM: the score it explains, and its maps against two other libraries."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import pytorch_grad_cam as pgc
import torch
from torch import Tensor, nn
from torchcam.methods import FinerCAM

from octoscope.attribution.cam.finer import FinerSettings, comparison
from octoscope.attribution.display import normalise, upsample
from octoscope.attribution.explain import explain
from octoscope.errors import OctoscopeError
from timm_families import FAMILIES

RESNET = FAMILIES[0]


def steep(factor: float) -> nn.Module:
    """A network whose gradients are far above what the peers add to denominators."""
    model = deepcopy(RESNET.build())
    with torch.no_grad():
        model.fc.weight.mul_(factor)
    return model


def test_weights_by_hand() -> None:
    logits = torch.tensor([[1.0, 2.0, 5.0, 2.5], [0.0, 0.0, 9.0, 4.0]])
    found = comparison(logits, torch.tensor([1, 2]), FinerSettings(gamma=0.6, classes=2))
    # Nearest to 2 are 2.5 and 1; nearest to 9 are 4 and the first of two zeros.
    torch.testing.assert_close(
        found, torch.tensor([[-0.3, 1.0, 0.0, -0.3], [-0.3, 0.0, 1.0, -0.3]])
    )
    every = comparison(logits, torch.tensor([0, 0]), FinerSettings(gamma=0.9, classes=50))
    torch.testing.assert_close(every, torch.tensor([[1.0, -0.3, -0.3, -0.3]]).expand(2, -1))
    alone = comparison(logits[:, :1], torch.tensor([0, 0]), FinerSettings())
    assert alone.tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("gamma", [0.0, 0.6, 1.0])
def test_grad_cam_is_linear_in_the_score(gamma: float) -> None:
    """Grad-CAM of a sum of logits is the sum of their signed maps."""
    model, images = RESNET.build(), RESNET.images(3)
    each = explain(model, images, "gradcam", targets="all", signed=True)
    options = {"finercam": {"gamma": gamma, "classes": 2}}
    found = explain(model, images, "finercam", targets="all", signed=True, options=options)
    for b in range(3):
        for k in range(4):
            weights = comparison(
                each.logits[b : b + 1], torch.tensor([k]), FinerSettings(gamma, 2)
            )[0]
            expected = torch.einsum("k,khw->hw", weights, each.native["gradcam"][b])
            scale = each.native["gradcam"][b].abs().max()
            difference = found.native["finercam"][b, k] - expected
            assert difference.abs().max() <= 1e-5 * scale


def test_pytorch_grad_cam() -> None:
    """Their own choice of the most similar class.

    They weight classes by softmax, which does not matter for one, if its probability is far above
    what they add to it: so the logits must not lie too far apart.
    """
    model, images = steep(10), RESNET.images(3)
    options = {"finercam": {"gamma": 0.8, "classes": 1}}
    ours = explain(model, images, "finercam", options=options).native["finercam"]
    theirs = pgc.FinerCAM(model, [model.layer4])(
        images, targets=None, alpha=0.8, comparison_categories=[1]
    )
    found = normalise(upsample(normalise(ours), RESNET.size))
    assert np.abs(found.numpy() - theirs).max() <= 1e-4
    assert theirs.max() > 0.9


@pytest.mark.parametrize("settings", [{}, {"gamma": 1.0, "classes": 2}])
def test_torchcam(settings: dict[str, float]) -> None:
    """The mean over several classes, whichever class is explained."""
    model, images, classes = steep(100), RESNET.images(3), [3, 1, 0]
    ours = explain(model, images, "finercam", targets=classes, options={"finercam": settings})
    theirs = FinerCAM(
        model,
        "layer4",
        input_shape=(3, *RESNET.size),
        gamma=settings.get("gamma", 0.6),
        num_references=int(settings.get("classes", 3)),
    )
    scores = model(images)
    (expected,) = theirs(class_idx=classes, scores=scores, normalized=False)
    found: Tensor = ours.native["finercam"]
    scale = float(expected.abs().max())
    assert scale > 0
    torch.testing.assert_close(found, expected.relu().detach(), rtol=0, atol=1e-4 * scale)


def test_batch_of_eight_is_eight_singles() -> None:
    model, images = RESNET.build(), RESNET.images(8)
    together = explain(model, images, "finercam", targets=1, signed=True).native["finercam"]
    for b in range(8):
        alone = explain(model, images[b : b + 1], "finercam", targets=1, signed=True)
        expected = alone.native["finercam"][0]
        assert (together[b] - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"gamma": -1}, "gamma=-1 is no strength; use 0 or more"),
        ({"gamma": float("nan")}, "gamma=nan is no strength"),
        ({"classes": 0}, "classes=0 is no number of classes"),
        ({"gama": 1}, 'no setting "gama" \\(did you mean "gamma"'),
    ],
)
def test_faults_have_a_sentence(settings: dict[str, float], sentence: str) -> None:
    with pytest.raises(OctoscopeError, match=sentence):
        explain(RESNET.build(), RESNET.images(1), "finercam", options={"finercam": settings})
