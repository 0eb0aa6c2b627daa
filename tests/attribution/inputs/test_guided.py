"""Guided backpropagation, deconvolution and guided Grad-CAM against captum; what they refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torch
import torchvision
from captum import attr
from captum.testing.helpers.basic_models import BasicModel_ConvNet_One_Conv
from torch import Tensor, nn
from torch.nn import functional as F

from attribution.inputs.nets import Rectifying, close, doubled, separate
from octoscope.attribution.explain import explain
from octoscope.attribution.inputs.rectifiers import Rectifiers, require_rectifiers
from octoscope.errors import OctoscopeError
from timm_families import FAMILIES, Family

NAMES = ("resnet10t", "vgg11", "regnetx_002", "densenet121", "repvgg_a0")
SOME = [replace(family, size=(32, 64)) for family in FAMILIES if family.name in NAMES]
METHODS = ["guided_backprop", "deconvolution", "guided_gradcam"]
CLASSES = [3, 1, 0]


@pytest.mark.parametrize("family", SOME, ids=lambda f: f.name)
def test_captum(family: Family) -> None:
    """On a copy without ReLUs in place, on which captum fails."""
    model, images = doubled(family, 3)
    found = explain(model, images, METHODS, targets=CLASSES)
    assert not found.refused
    separate(model)
    theirs = attr.GuidedBackprop(model).attribute(images, CLASSES).detach()
    close(found["guided_backprop"], theirs.sum(1))
    theirs = attr.Deconvolution(model).attribute(images, CLASSES).detach()
    close(found["deconvolution"], theirs.sum(1))
    layer = dict(model.named_modules())[family.layer]
    theirs = attr.GuidedGradCam(model, layer).attribute(
        images, CLASSES, interpolate_mode="bilinear"
    )
    close(found["guided_gradcam"], theirs.detach().sum(1))


@pytest.mark.parametrize("inplace", [False, True])
def test_captums_toy_values(inplace: bool) -> None:
    """Their table is upsampled by the nearest cell; ours is linear."""
    model = BasicModel_ConvNet_One_Conv(inplace=inplace)
    image = torch.arange(16.0).view(1, 1, 4, 4)
    names = ["gradcam", *METHODS]
    found = explain(model, image, names, targets=0, layer="relu1")
    cells = found.native["gradcam"]
    assert cells.equal(torch.tensor([[[0.0, 4.0], [28.0, 32.5]]]))
    nearest = cells.repeat_interleave(2, 1).repeat_interleave(2, 2)
    table = [[0.0, 0, 4, 4], [0, 0, 12, 8], [28, 84, 97.5, 65], [28, 56, 65, 32.5]]
    assert (nearest * found["guided_backprop"]).equal(torch.tensor([table]))
    linear = F.interpolate(cells[:, None], (4, 4), mode="bilinear", align_corners=False)[:, 0]
    assert found["guided_gradcam"].equal(linear * found["guided_backprop"])


@pytest.mark.parametrize("how", ["in place", "reused", "mixed"])
@pytest.mark.parametrize("name", ["guided_backprop", "deconvolution"])
def test_relus_however_written(name: str, how: str) -> None:
    """One network written in four ways gives one map, which is captum's for the plainest."""
    images = torch.randn(3, 3, 12, 18)
    plain, other = Rectifying("modules"), Rectifying(how)
    assert plain(images).equal(other(images))
    peer = {"guided_backprop": attr.GuidedBackprop, "deconvolution": attr.Deconvolution}[name]
    expected = peer(plain).attribute(images.clone(), CLASSES).detach().sum(1)
    close(explain(plain, images, name, targets=CLASSES)[name], expected)
    close(explain(other, images, name, targets=CLASSES)[name], expected)
    gradient = attr.Saliency(plain).attribute(images.clone(), CLASSES, abs=False).sum(1)
    assert not gradient.allclose(expected, atol=1e-3 * float(expected.abs().max()))


def test_rules_by_hand() -> None:
    """R = (-2, 3, -5, 7) at outputs of x = (1, 1, -1, -1)."""
    x = torch.tensor([1.0, 1.0, -1.0, -1.0])
    relevance = torch.tensor([-2.0, 3.0, -5.0, 7.0])
    for rule, expected in (("guided", [0.0, 3, 0, 0]), ("deconvolution", [0.0, 3, 0, 7])):
        leaf = x.clone().requires_grad_()
        with Rectifiers(rule):  # type: ignore[arg-type]
            for output in (
                F.relu(leaf),
                leaf.relu(),
                torch.relu(leaf),
                nn.ReLU()(leaf),
                F.relu(input=leaf.clone(), inplace=True),
                leaf.clone().relu_(),
            ):
                assert output.equal(x.relu())
                (found,) = torch.autograd.grad(output, leaf, relevance)
                assert found.tolist() == expected
        (found,) = torch.autograd.grad(F.relu(leaf), leaf, relevance)
        assert found.tolist() == [-2, 3, 0, 0]


@pytest.mark.parametrize("rule", ["guided", "deconvolution"])
def test_in_place_is_in_place(rule: str) -> None:
    x = torch.randn(5)
    expected = x.relu()
    with Rectifiers(rule):  # type: ignore[arg-type]
        F.relu(x, inplace=True)
    assert x.equal(expected)


def test_batch_norm_with_its_activation() -> None:
    """timm joins both in one module; its ReLU must not be missed."""
    network = timm.layers.BatchNormAct2d(1, act_layer=nn.ReLU)
    model = nn.Sequential(network, nn.Flatten(), nn.Linear(4, 2, bias=False)).eval()
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor([[1.0, -1, 1, -1], [0, 0, 0, 0]]))
    image = torch.tensor([[[[1.0, 1.0], [-1.0, -1.0]]]])
    found = explain(model, image, ["guided_backprop", "deconvolution"], targets=0)
    kept = {name: (found[name] > 0.5).flatten().tolist() for name in found}
    assert kept["guided_backprop"] == [True, False, False, False]
    assert kept["deconvolution"] == [True, False, True, False]


REFUSED = {
    "convnext_atto": "GELU",
    "vit_tiny_patch16_224": "GELU",
    "efficientnet_b0": "SiLU",
    "swin_tiny_patch4_window7_224": "GELU",
    "mobilenetv3_small_050": "Hardswish",
}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_which_families_they_are_defined_for(family: Family) -> None:
    rectifying = (*NAMES, "resnext50_32x4d", "inception_v3", "xception41", "hrnet_w18_small")
    if family.name in rectifying:
        require_rectifiers(family.build())
        return
    with pytest.raises(OctoscopeError, match='use "saliency"') as refusal:
        require_rectifiers(family.build())
    assert REFUSED.get(family.name, "") in str(refusal.value)


def functional(call: object) -> nn.Module:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return call(self.act(self.conv(x))).mean((2, 3))  # type: ignore[operator]

    return Functional()


class OnlyFunctional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x)).mean((2, 3))


FEW = {
    "integrated_gradients": {"steps": 2},
    "gradient_shap": {"samples": 2},
    "smoothgrad": {"samples": 2},
}


def test_what_is_refused() -> None:
    images = torch.rand(1, 3, 16, 16)
    for name in METHODS:
        with pytest.raises(OctoscopeError, match=r"not defined here.*GELU"):
            explain(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU()), images, name)
        assert explain(OnlyFunctional(), images, name)[name].isfinite().all()
        with pytest.raises(OctoscopeError, match="calls gelu"):
            explain(functional(F.gelu), images, name)
    with pytest.raises(OctoscopeError, match="LeakyReLU"):
        require_rectifiers(nn.Sequential(nn.ReLU(), nn.LeakyReLU()))
    with pytest.raises(OctoscopeError, match="ReLU6"):
        require_rectifiers(torchvision.models.mobilenet_v2(weights=None))
    with pytest.raises(OctoscopeError, match="GELUTanh"):
        require_rectifiers(timm.layers.activations.GELUTanh())
    with pytest.raises(OctoscopeError, match="TorchScript"):
        require_rectifiers(torch.jit.script(nn.Sequential(nn.ReLU())))
    family = explain(FAMILIES[3].build(), FAMILIES[3].images(1), "input", targets=0, options=FEW)
    assert set(family.refused) == set(METHODS)


def test_functional_relu_at_the_end_is_seen() -> None:
    """As in the DenseNet of torchvision, whose last ReLU is a function, in place."""
    torch.manual_seed(0)
    model = torchvision.models.DenseNet(8, (1, 1), 8, num_classes=3).eval()
    images = torch.rand(2, 3, 48, 64)
    found = explain(model, images, "guided_backprop", targets=1)["guided_backprop"]

    class Written(nn.Module):
        """The same with the last ReLU as a module."""

        def __init__(self) -> None:
            super().__init__()
            self.features, self.relu = model.features, nn.ReLU()
            self.classifier = model.classifier

        def forward(self, x: Tensor) -> Tensor:
            return self.classifier(self.relu(self.features(x)).mean((2, 3)))

    separate(model)
    expected = attr.GuidedBackprop(Written()).attribute(images, 1).detach().sum(1)
    close(found, expected)


def test_gates_pass() -> None:
    """Squeeze and excitation multiplies by sigmoids, which are no rectifiers."""
    model = timm.create_model("regnety_002", num_classes=3).eval()
    images = torch.rand(1, 3, 64, 64)
    found = explain(model, images, "guided_backprop", targets=1)["guided_backprop"]
    close(found, attr.GuidedBackprop(separate(model)).attribute(images, 1).detach().sum(1))


def test_the_mode_ends_with_an_exception() -> None:
    images = torch.rand(1, 3, 16, 16)
    with pytest.raises(OctoscopeError, match="calls gelu"):
        explain(functional(F.gelu), images, "guided_backprop")
    assert torch._C._len_torch_function_stack() == 0
    leaf = torch.tensor([1.0], requires_grad=True)
    F.gelu(leaf)
    (found,) = torch.autograd.grad(F.relu(leaf), leaf, torch.tensor([-1.0]))
    assert found.item() == -1
