"""FullGrad: the decomposition is complete, and the maps are the authors' and pytorch-grad-cam's."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import pytorch_grad_cam as pgc
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional as F

from octoscope.attribution.display import normalise
from octoscope.attribution.explain import explain
from octoscope.errors import OctoscopeError
from octoscope.models.classifier import Classifier
from octoscope.models.preprocess import Preprocess
from octoscope.scans.framing import Framing
from timm_families import FAMILIES, Family

DEFINED = (
    *("resnet10t", "resnext50_32x4d", "regnetx_002", "densenet121", "vgg11", "xception41"),
    *("hrnet_w18_small", "repvgg_a0"),
)
"""Families of ReLU and batch norm, with norms that hold their activation (densenet, xception)."""
PIECEWISE = [family for family in FAMILIES if family.name in DEFINED]
REFUSED = ("convnext_atto", "efficientnet_b0", "mobilenetv3_small_050", "vit_tiny_patch16_224")
CURVED = [f for f in FAMILIES if f.name in (*REFUSED, "convmixer_768_32", "levit_128s")]
RESNET = FAMILIES[0]
PEERS = [family for family in FAMILIES if family.name in ("resnet10t", "vgg11")]
CLASSES = [3, 1, 0]


@pytest.mark.parametrize("family", PIECEWISE, ids=lambda f: f.name)
def test_the_decomposition_is_complete(family: Family) -> None:
    """Image and biases add up to the logit, equation 3."""
    model, images = deepcopy(family.build()).double(), family.images(2).double()[..., :32, :64]
    maps = explain(model, images, "fullgrad", classes=[1, 3])
    unexplained = maps.details["fullgrad"]["unexplained"]
    assert unexplained.shape == (2, 2)
    assert (unexplained.abs() <= 1e-9 * maps.logits.abs().max()).all()
    assert maps.native["fullgrad"].shape == (2, 2, 32, 64)
    assert (maps.native["fullgrad"] >= 0).all() and not maps.flags["fullgrad"]["all_zero"].any()


@pytest.mark.parametrize("family", PEERS, ids=lambda f: f.name)
def test_complete_in_single_precision(family: Family) -> None:
    maps = explain(family.build(), family.images(2), "fullgrad", targets="all")
    unexplained = maps.details["fullgrad"]["unexplained"]
    assert (unexplained.abs() <= 1e-4 * maps.logits.abs()).all()


@pytest.mark.parametrize("family", CURVED, ids=lambda f: f.name)
def test_other_networks_are_refused(family: Family) -> None:
    with pytest.raises(OctoscopeError, match=r"only in a piecewise linear network.*use hirescam"):
        explain(family.build(), family.images(1), "fullgrad")


class Functional(nn.Module):
    """Two convolutions with a function between them, saturated by the factor."""

    def __init__(self, bend: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.two, self.bend = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), bend
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bend(self.two(self.bend(20 * self.conv(x)))).mean((2, 3)))


BENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu6": F.relu6,
    "ReLU6 in place": nn.ReLU6(inplace=True),
    "hardtanh": lambda x: F.hardtanh(x, -2, 3),
    "clamp": lambda x: x.clamp(0, 4),
    "clamp_": lambda x: x.clamp_(max=4),
    "hardsigmoid": F.hardsigmoid,
    "maximum": lambda x: torch.maximum(torch.ones(()), x),
    "minimum": lambda x: torch.min(x, torch.full_like(x, 2)),
    "threshold": lambda x: F.threshold(x, 1, 0.5),
    "where": lambda x: torch.where(x > 2, x, 2.0),
    "where by place": lambda x: x.masked_fill(x < 1, 1.0),
    "leaky": lambda x: F.leaky_relu(x, 0.2),
    "gate of one": lambda x: x * (x > 0),
}


@pytest.mark.parametrize("name", BENDS)
def test_what_a_bend_adds_is_a_bias(name: str) -> None:
    maps = explain(Functional(BENDS[name]).double(), RESNET.images(2).double(), "fullgrad")
    unexplained = maps.details["fullgrad"]["unexplained"]
    assert (unexplained.abs() <= 1e-9 * maps.logits.abs().amax(1)).all()
    assert not maps.flags["fullgrad"]["incomplete"].any()


CURVES: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "hardswish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "silu by hand": lambda x: x * torch.sigmoid(x),
    "square": lambda x: x * x,
    "normalised": lambda x: x / (1 + x.abs().mean((2, 3), keepdim=True)),
    "gate": lambda x: x * F.hardsigmoid(x.mean((2, 3), keepdim=True)),
    "softmax": lambda x: x.softmax(1),
    "script": torch.jit.script(F.mish),
}


@pytest.mark.parametrize("name", CURVES)
def test_a_curve_is_refused_however_it_is_written(name: str) -> None:
    with pytest.raises(OctoscopeError, match="only in a piecewise linear network"):
        explain(Functional(CURVES[name]), RESNET.images(1), "fullgrad")


def test_what_is_left_over_is_a_flag() -> None:
    """Rolling a constant in beside the features is linear, and no bias that is known."""

    def beside(x: Tensor) -> Tensor:
        return torch.cat([x[:, :3], torch.ones_like(x[:, :1])], 1)

    maps = explain(Functional(beside), RESNET.images(2), "fullgrad", 1)
    error = maps.details["fullgrad"]["unexplained"].abs()
    expected = error > 0.01 * maps.logits[:, 1].abs()
    assert maps.flags["fullgrad"]["incomplete"].equal(expected) and expected.any()
    few = {"integrated_gradients": {"steps": 1}}
    maps = explain(RESNET.build(), RESNET.images(2), "integrated_gradients", 1, options=few)
    error = maps.details["integrated_gradients"]["completeness"].abs()
    expected = error > 0.01 * maps.logits[:, 1].abs()
    assert maps.flags["integrated_gradients"]["incomplete"].equal(expected) and expected.any()
    assert "incomplete" not in explain(RESNET.build(), RESNET.images(1)).flags["gradcam"]


def decomposed(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Spatial terms x ⊙ ∇x and b ⊙ ∇z by hooks on modules, for plain convolutions and norms."""
    outputs: list[tuple[Tensor, Tensor]] = []

    def keep(module: nn.Module, _inputs: object, output: Tensor) -> Tensor | None:
        bias = module.bias
        if isinstance(module, nn.BatchNorm2d):
            sigma = (module.running_var + module.eps).sqrt()
            bias = module.bias - module.weight * module.running_mean / sigma
        if bias is None:
            return None
        outputs.append((bias[:, None, None], output))
        return output.clone()  # what follows may work in place

    parts = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    hooks = [part.register_forward_hook(keep) for part in parts]
    images = images.clone().requires_grad_()
    score = model(images)[torch.arange(len(images)), CLASSES].sum()
    for hook in hooks:
        hook.remove()
    gradients = torch.autograd.grad(score, [images, *(out for _, out in outputs)])
    terms = [images * gradients[0]]
    terms += [b * g for (b, _), g in zip(outputs, gradients[1:], strict=True)]
    return [term.detach() for term in terms]


@pytest.mark.parametrize("rescale", ["layer", "channel"])
@pytest.mark.parametrize("family", PEERS, ids=lambda f: f.name)
def test_equation_4(family: Family, rescale: str) -> None:
    """ψ written out with loops, on terms from a plain pass."""
    model, images = deepcopy(family.build()).double(), family.images(3).double()
    found = explain(
        model, images, "fullgrad", targets=CLASSES, options={"fullgrad": {"rescale": rescale}}
    ).native["fullgrad"]
    expected = torch.zeros(3, *family.size, dtype=torch.float64)
    for term in decomposed(model, images):
        for b in range(3):
            layer = term[b].abs()
            for channel in layer:
                within = layer if rescale == "layer" else channel
                low, high = within.min(), within.max()
                if high > low:
                    scaled = (channel - low) / (high - low)
                    expected[b] += F.interpolate(scaled[None, None], family.size, mode="bilinear")[
                        0, 0
                    ]
    scale = float(expected.max())
    assert scale > 1
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("family", PEERS, ids=lambda f: f.name)
def test_pytorch_grad_cam(family: Family) -> None:
    """They rescale each channel by itself, and the sum at the end."""
    model, images = deepcopy(family.build()), family.images(3)
    with torch.no_grad():  # their 1e-7 in denominators must not matter, so no tiny gradients
        [m for m in model.modules() if isinstance(m, nn.Linear)][-1].weight.mul_(1e6)
    options = {"fullgrad": {"rescale": "channel"}}
    ours = explain(model, images, "fullgrad", targets=CLASSES, options=options)
    theirs = pgc.FullGrad(model, [])(images, [ClassifierOutputTarget(c) for c in CLASSES])
    found = normalise(ours.native["fullgrad"])
    assert np.abs(found.numpy() - theirs).max() <= 1e-4
    assert theirs.max() > 0.9


def test_preprocessing_is_a_bias() -> None:
    """The mean that `Classifier` subtracts is part of the decomposition, and has a map."""
    network = deepcopy(RESNET.build()).double()
    preprocess = Preprocess(Framing(height=64, width=96), 3, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
    model = Classifier(network, ["a", "b", "c", "d"], preprocess).double().eval()
    for channels in (1, 3):
        maps = explain(model, RESNET.images(2)[:, :channels].double(), "fullgrad")
        unexplained = maps.details["fullgrad"]["unexplained"]
        assert (unexplained.abs() <= 1e-9 * maps.logits.abs().max()).all()


@pytest.mark.parametrize("kind", ["x + b", "b - x", "x -= b", "affine-free norm", "transposed"])
def test_every_way_to_add_a_constant(kind: str) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv3d(1, 4, 3, padding=1)
            self.norm = nn.BatchNorm3d(4, affine=False)
            self.up = nn.ConvTranspose3d(4, 4, 2, stride=2)
            self.head = nn.Linear(4, 3)
            self.constant = nn.Parameter(torch.rand(4, 1, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            if kind == "x + b":
                x = 2.5 + x + self.constant
            elif kind == "b - x":
                x = self.constant - x
            elif kind == "x -= b":
                x -= self.constant
            elif kind == "affine-free norm":
                x = self.norm(x)
            else:
                x = self.up(x)
            return self.head(F.relu(x, inplace=True).mean((2, 3, 4)))

    torch.manual_seed(0)
    model, volumes = Odd(), torch.rand(8, 1, 4, 6, 8)
    model(volumes * 3)  # statistics
    model = model.double().eval()
    maps = explain(model, volumes.double(), "fullgrad", targets="all")
    assert maps.native["fullgrad"].shape == (8, 3, 4, 6, 8)
    assert maps.details["fullgrad"]["unexplained"].abs().max() < 1e-12


def test_batch_of_eight_is_eight_singles() -> None:
    """In double precision: gradients jump where rounding moves a value across a ReLU's zero."""
    model, images = deepcopy(RESNET.build()).double(), RESNET.images(8).double()[..., :32, :64]
    together = explain(model, images, "fullgrad", targets=1).native["fullgrad"]
    chunked = explain(model, images, "fullgrad", targets=1, batch_size=3).native["fullgrad"]
    torch.testing.assert_close(chunked, together, rtol=0, atol=1e-6 * float(together.max()))
    for b in range(8):
        alone = explain(model, images[b : b + 1], "fullgrad", targets=1).native["fullgrad"][0]
        assert (together[b] - alone).abs().max() <= 1e-6 * alone.max()


def test_nothing_is_left_behind() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            if self.conv(x).requires_grad:
                raise ValueError("half way")
            return x.mean((2, 3))

    model, images = Fails(), RESNET.images(1)
    with pytest.raises(ValueError, match="half way"):
        explain(model, images, "fullgrad")
    assert model.training and model.conv.weight.requires_grad and model.conv.weight.grad is None
    assert not model.conv._forward_hooks and torch.overrides._get_current_function_mode() is None


@pytest.mark.parametrize(
    ("value", "sentence"), [("layers", 'rescale="layers" is not known.*did you mean "layer"')]
)
def test_faults_have_a_sentence(value: str, sentence: str) -> None:
    with pytest.raises(OctoscopeError, match=sentence):
        explain(
            RESNET.build(), RESNET.images(1), "fullgrad", options={"fullgrad": {"rescale": value}}
        )


def test_a_backbone_without_a_graph() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                pooled = self.conv(x).mean((2, 3))
            return self.head(pooled)

    with pytest.raises(OctoscopeError, match=r"its own no_grad.*leave fullgrad out"):
        explain(Frozen(), RESNET.images(1), "fullgrad")
