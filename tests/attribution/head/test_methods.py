"""Ablation-CAM, Recipro-CAM and ViT-ReciproCAM against brute force with hooks, and a peer."""

from __future__ import annotations

import warnings
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import pytorch_grad_cam as pgc
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from octoscope.attribution.display import normalise, upsample
from octoscope.attribution.explain import explain
from octoscope.attribution.head.affine import affine_head
from octoscope.attribution.head.masks import position_masks
from octoscope.attribution.registry import SOURCES
from octoscope.attribution.source import Batch
from octoscope.errors import OctoscopeError
from octoscope.models.classifier import Classifier
from octoscope.models.preprocess import Preprocess
from octoscope.scans.framing import Framing
from timm_families import FAMILIES, Family

BY_NAME = {family.name: family for family in FAMILIES}
KERNEL = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16


def named(*names: str) -> list[Family]:
    return [BY_NAME[name] for name in names]


def token_pooled(name: str) -> Family:
    family = BY_NAME[name]
    return replace(family, options={**family.options, "global_pool": "token"})


def nothing_left(model: nn.Module) -> bool:
    return not any(
        "forward" in vars(part) or part._forward_hooks or part._forward_pre_hooks
        for part in model.modules()
    )


def close(found: Tensor, expected: Tensor, within: float = 1e-5) -> None:
    """Compare each map, relative to its largest magnitude."""
    scale = expected.abs().amax((-2, -1), keepdim=True)
    assert scale.min() > 0
    assert ((found - expected).abs() / scale).max() <= within


def maps_of(family: Family, tensor: Tensor) -> Tensor:
    if family.kind == "nhwc":
        return tensor.permute(0, 3, 1, 2)
    if family.kind == "tokens":
        return tensor[:, family.prefix :].mT.unflatten(-1, family.grid)
    return tensor


def own_pass(model: nn.Module, layer: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _m, _i, out: seen.append(out.clone()))
    with torch.no_grad():
        logits = model(images)
    hook.remove()
    return seen[0], logits


def changed_pass(model: nn.Module, layer: nn.Module, images: Tensor, change: Any) -> Tensor:
    hook = layer.register_forward_hook(lambda _m, _i, out: change(out))
    with torch.no_grad():
        logits = model(images)
    hook.remove()
    return logits


ABLATED = named(
    "convmixer_768_32",  # affine
    "convnext_atto",
    "swin_tiny_patch4_window7_224",
    "vit_tiny_patch16_224",
    "vit_base_patch16_siglip_224",
    "beit_base_patch16_224",
)


@pytest.mark.parametrize("family", ABLATED, ids=lambda f: f.name)
def test_ablation_by_hooks(family: Family) -> None:
    """Each channel zeroed in the whole model, in double precision so that drops do not cancel."""
    model, images = deepcopy(family.build()).double(), family.images(2).double()
    layer = dict(model.named_modules())[family.layer]
    raw, logits = own_pass(model, layer, images)
    axis = 1 if family.kind == "nchw" else -1
    maps = maps_of(family, raw)
    expected = torch.zeros(2, 4, *family.grid, dtype=torch.float64)
    for k in range(raw.shape[axis]):

        def zeroed(out: Tensor, k: int = k) -> Tensor:
            out = out.clone()
            out.select(axis, k).zero_()
            return out

        ablated = changed_pass(model, layer, images, zeroed)
        expected += ((logits - ablated) / logits)[..., None, None] * maps[:, None, k]
    found = explain(model, images, "ablationcam", targets="all", signed=True)
    close(found.native["ablationcam"], expected.float())
    assert nothing_left(model)


def test_pytorch_grad_cam() -> None:
    """Their map, where its "zero" is 0: after a ReLU."""
    family = BY_NAME["resnet10t"]
    model, images = deepcopy(family.build()), family.images(1)
    ours = explain(model, images, "ablationcam", targets=1).native["ablationcam"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pgc.AblationCAM(model, [model.layer4])(images, [ClassifierOutputTarget(1)])
    found = normalise(upsample(normalise(ours), family.size))
    assert theirs.max() > 0.9 and np.abs(found.numpy() - theirs).max() <= 1e-3


def test_sign_of_the_logit_and_zero_logits() -> None:
    """Dividing by a negative logit turns the map; a logit of zero does not blow it up."""

    class Fixed(nn.Module):
        def __init__(self, bias: list[float]) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 1, bias=False)
            self.head = nn.Linear(2, 2)
            with torch.no_grad():
                self.conv.weight.copy_(torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1))
                self.head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
                self.head.bias.copy_(torch.tensor(bias))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).mean((2, 3)))

    image = torch.tensor([[[[0.0, 1.0], [2.0, 1.0]]]])  # means 1 and 2
    for bias in ([0.0, 0.0], [-3.0, -3.0]):
        maps = explain(
            Fixed(bias), image, "ablationcam", targets="all", signed=True, layer="conv"
        ).native["ablationcam"]
        for c, mean in enumerate((1.0, 2.0)):
            expected = mean / (mean + bias[c]) * mean * image[0, 0]
            torch.testing.assert_close(maps[0, c], expected)
    zero = explain(Fixed([-1.0, 0.0]), image, "ablationcam", targets=0, layer="conv", signed=True)
    assert zero.native["ablationcam"].isfinite().all()


def batch_of(family: Family) -> tuple[nn.Module, Batch]:
    found: list[Batch] = []
    original = SOURCES["activations"].provide

    def watched(batch: Batch) -> Tensor:
        found.append(batch)
        return original(batch)

    source = SOURCES["activations"]
    SOURCES["activations"] = replace(source, provide=watched)
    try:
        model = family.build()
        explain(model, family.images(2), "eigencam")
    finally:
        SOURCES["activations"] = source
    return model, found[0]


@pytest.mark.parametrize(
    ("name", "affine"),
    [
        ("resnet10t", True),
        ("swin_tiny_patch4_window7_224", True),
        ("efficientnet_b0", True),
        ("convnext_atto", False),  # a norm after pooling
        ("vgg11", False),
        ("mobilenetv3_small_050", False),
        ("vit_tiny_patch16_224", False),
    ],
)
def test_which_heads_are_affine(name: str, affine: bool) -> None:
    family = BY_NAME[name]
    model, batch = batch_of(family)
    assert batch.target is not None
    head = affine_head(model, batch.target, batch["suffix"])
    assert (head is not None) == affine
    if head is not None:
        torch.testing.assert_close(
            head(batch["activations"]), batch.evidence.logits, rtol=1e-4, atol=1e-5
        )


def test_masks() -> None:
    masks = position_masks((4, 5), torch.arange(20), gaussian=True)
    padded = torch.zeros(4 + 2, 5 + 2)
    padded[1:4, 2:5] = KERNEL  # about row 1, column 2
    assert masks[1 * 5 + 2].equal(padded[1:-1, 1:-1])
    assert masks[0, :2, :2].equal(KERNEL[1:, 1:]) and masks[0].sum() == KERNEL[1:, 1:].sum()
    single = position_masks((4, 5), torch.arange(20), gaussian=False)
    assert single.flatten(1).equal(torch.eye(20))
    assert position_masks((3, 3, 3), torch.tensor([13]), gaussian=True)[0, 1, 1, 1] == 1 / 8


@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize(
    "family",
    named("resnet10t", "convnext_atto", "swin_tiny_patch4_window7_224", "levit_128s"),
    ids=lambda f: f.name,
)
def test_recipro_by_hooks(family: Family, gaussian: bool) -> None:
    model, images = family.build(), family.images(2)
    layer = dict(model.named_modules())[family.layer]
    count = family.grid[0] * family.grid[1]
    expected = []
    for mask in position_masks(family.grid, torch.arange(count), gaussian=gaussian):
        shape = {"nchw": mask[None], "nhwc": mask[..., None], "tokens": mask.reshape(-1, 1)}

        def masked(out: Tensor, mask: Tensor = shape[family.kind]) -> Tensor:
            return out * mask

        expected.append(changed_pass(model, layer, images, masked))
    options = {"reciprocam": {"gaussian": gaussian}}
    found = explain(model, images, "reciprocam", targets="all", options=options)
    close(found.native["reciprocam"], torch.stack(expected, -1).unflatten(-1, family.grid))
    assert nothing_left(model)


VITS = [
    BY_NAME["vit_tiny_patch16_224"],
    BY_NAME["deit3_small_patch16_224"],
    BY_NAME["deit_tiny_distilled_patch16_224"],
    BY_NAME["vit_small_patch14_reg4_dinov2"],
    BY_NAME["vit_base_patch16_siglip_224"],
    BY_NAME["beit_base_patch16_224"],
    BY_NAME["eva02_tiny_patch14_224"],
    token_pooled("beit_base_patch16_224"),
    token_pooled("eva02_tiny_patch14_224"),
    token_pooled("vit_small_patch16_dinov3"),
    replace(
        BY_NAME["vit_tiny_patch16_224"],
        options={**BY_NAME["vit_tiny_patch16_224"].options, "qk_norm": True, "init_values": 0.5},
    ),
]


def dense(family: Family, model: nn.Module, images: Tensor, gaussian: bool) -> Tensor:
    """Masked sequences through the whole model: the block's input and its norm's output."""
    block, expected = model.blocks[-1], []
    count = family.grid[0] * family.grid[1]
    for mask in position_masks(family.grid, torch.arange(count), gaussian=gaussian):
        keep = torch.cat([torch.ones(family.prefix), mask.flatten()])[:, None].to(images.dtype)
        # The norm sees the block's input before it is masked.
        tokens: list[Tensor] = []

        def enter(_m: nn.Module, inputs: Any, keep: Tensor = keep, seen: Any = tokens) -> Any:
            seen.append(inputs[0])
            return (inputs[0] * keep, *inputs[1:])

        def norm(m: nn.Module, _i: Any, _o: Any, keep: Tensor = keep, seen: Any = tokens) -> Tensor:
            return m.forward(seen[0]) * keep

        hooks = [block.register_forward_pre_hook(enter), block.norm1.register_forward_hook(norm)]
        with torch.no_grad():
            expected.append(model(images))
        for hook in hooks:
            hook.remove()
    return torch.stack(expected, -1).unflatten(-1, family.grid)


@pytest.mark.parametrize("gaussian", [True, False])
@pytest.mark.parametrize("family", VITS, ids=lambda f: f.name)
def test_vit_recipro_by_hooks(family: Family, gaussian: bool) -> None:
    model, images = deepcopy(family.build()).double(), family.images(2).double()
    with torch.no_grad():  # biases at zero would hide a mistake in how they are masked
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter, std=0.3)
            elif name.startswith(("blocks.1.", "attn_pool.", "head")) and parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.2)  # so that patches matter to the logits
    options = {"vit_reciprocam": {"gaussian": gaussian}}
    found = explain(model, images, "vit_reciprocam", targets="all", options=options)
    expected = dense(family, model, images, gaussian).float()
    close(found.native["vit_reciprocam"], expected)
    assert expected.std((2, 3)).max() > 1e-3 * expected.abs().max() and nothing_left(model)


def test_vit_recipro_whatever_the_layer() -> None:
    family = BY_NAME["vit_tiny_patch16_224"]
    model, images = family.build(), family.images(2)
    usual = explain(model, images, "vit_reciprocam", targets=1).native["vit_reciprocam"]
    other = explain(model, images, "vit_reciprocam", targets=1, layer="blocks.0")
    close(other.native["vit_reciprocam"], usual)


@pytest.mark.parametrize(
    "family", [VITS[0], VITS[5], BY_NAME["convnext_atto"]], ids=lambda f: f.name
)
def test_a_batch_is_its_images(family: Family) -> None:
    model, images = family.build(), family.images(4)
    for name in ("ablationcam", "vit_reciprocam" if family.kind == "tokens" else "reciprocam"):
        together = explain(model, images, name, targets="all", signed=True).native[name]
        for b in range(4):
            alone = explain(model, images[b : b + 1], name, targets="all", signed=True)
            close(alone.native[name][0], together[b], 1e-3 if name == "ablationcam" else 1e-4)


def test_our_own_classifier() -> None:
    network = BY_NAME["vit_tiny_patch16_224"].build()
    preprocess = Preprocess(Framing(height=64, width=96), 3, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
    classifier = Classifier(network, ["CNV", "DME", "DRUSEN", "NORMAL"], preprocess)
    grey = BY_NAME["vit_tiny_patch16_224"].images(2)[:, :1]
    names = ["ablationcam", "vit_reciprocam"]
    found = explain(classifier, grey, names, targets="all")
    inside = explain(network, classifier.normalise(grey), names, targets="all")
    for name in names:
        close(found.native[name], inside.native[name], 1e-4)
    plan = explain(classifier, grey, names, dry_run=True)
    assert 2 < plan.forwards < 100 and nothing_left(classifier)


@pytest.mark.parametrize(
    ("method", "name", "sentence"),
    [
        ("reciprocam", "vit_tiny_patch16_224", "use vit_reciprocam"),
        ("reciprocam", "mixer_s16_224", "use gradcam"),
        ("vit_reciprocam", "mixer_s16_224", "has no attention; use gradcam"),
        ("vit_reciprocam", "resnet10t", "use reciprocam"),
    ],
)
def test_refusals(method: str, name: str, sentence: str) -> None:
    family = BY_NAME[name]
    with pytest.raises(OctoscopeError, match=sentence):
        explain(family.build(), family.images(1), method)


class Stokes(nn.Module):
    """Takes images of two channels; the first convolution it owns takes what a later one gives."""

    def __init__(self) -> None:
        super().__init__()
        self.layer4, self.stem = nn.Conv2d(5, 6, 3), nn.Conv2d(2, 5, 3)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer4(self.stem(x).relu()).amax((2, 3)))


def test_the_cost_is_measured_on_images_of_as_many_channels() -> None:
    model, images = Stokes().eval(), torch.rand(1, 2, 12, 16)
    plan = explain(model, images, "ablationcam", layer="layer4", dry_run=True)
    assert 1 < plan.forwards < 1 + 6
