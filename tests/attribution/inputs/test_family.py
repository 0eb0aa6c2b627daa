"""What every method of the family keeps: batches, memory, sizes, classes, and the lent model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attribution.inputs.nets import Rectifying, agree, close, doubled
from octoscope.attribution import memory
from octoscope.attribution.explain import explain
from octoscope.attribution.inputs.rows import ROWS
from octoscope.models.classifier import Classifier
from octoscope.models.preprocess import Preprocess
from octoscope.scans.framing import Framing
from timm_families import FAMILIES, Family

NAMES = [row.name for row in ROWS]
FEW: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 3},
    "gradient_shap": {"samples": 2},
    "smoothgrad": {"samples": 2},
}
RESNET = replace(FAMILIES[0], size=(32, 64))
SOME = [RESNET, next(f for f in FAMILIES if f.name == "vit_tiny_patch16_224")]


def explained(model: nn.Module, images: Tensor, **request: Any) -> Any:
    return explain(model, images, "input", options=FEW, **request)


@pytest.mark.parametrize("family", SOME, ids=lambda f: f.name)
def test_batch_of_eight_is_eight_singles(family: Family) -> None:
    model, images = doubled(family, 8)
    classes = [0, 1, 2, 3, 3, 2, 1, 0]
    together = explained(model, images, targets=classes)
    for b in range(8):
        alone = explained(model, images[b : b + 1], targets=classes[b])
        for name in together:
            agree(together.native[name][b : b + 1], alone.native[name])
    assert together["smoothgrad"].min() >= 0 and together["saliency"].min() >= 0
    assert together["input_x_gradient"].min() < 0


@pytest.mark.parametrize("batch_size", [1, 2])
def test_batch_size_does_not_matter(batch_size: int) -> None:
    model, images = Rectifying("in place").double(), torch.rand(3, 3, 20, 28).double()
    whole = explained(model, images, targets=[0, 1, 2])
    chunked = explained(model, images, targets=[0, 1, 2], batch_size=batch_size)
    for name in NAMES:
        agree(chunked.native[name], whole.native[name])
    error = whole.details["integrated_gradients"]["completeness"]
    found = chunked.details["integrated_gradients"]["completeness"]
    assert error.shape == (3,) and found.allclose(error, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("most", [1, 3, 7])
def test_points_per_pass_do_not_matter(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = Rectifying("in place").double(), torch.rand(3, 3, 20, 28).double()
    whole = explained(model, images, targets=[0, 1, 2])
    monkeypatch.setitem(memory.MOST, "cpu", most)
    pieces = explained(model, images, targets=[0, 1, 2])
    for name in NAMES:
        agree(pieces.native[name], whole.native[name])


class Cramped(Rectifying):
    """Has memory for three images with a graph; counts what did fit, and what did not."""

    def __init__(self) -> None:
        super().__init__("in place")
        Cramped.largest = Cramped.failed = 0

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            if len(x) > 3:
                Cramped.failed += 1
                raise torch.OutOfMemoryError("no more")
            Cramped.largest = max(Cramped.largest, len(x))
        return super().forward(x)


def test_when_memory_runs_out() -> None:
    model, images = Cramped(), torch.rand(5, 3, 12, 16)
    expected = explained(Rectifying("in place"), images, targets=1)
    found = explained(model, images, targets=1)
    assert 1 <= model.largest <= 3
    for name in NAMES:
        agree(found[name], expected[name])


def test_memory_runs_out_once_per_batch() -> None:
    """Four points beside the first do not fit; from two on, no later sum tries more."""
    model, images = Cramped(), torch.rand(5, 3, 12, 16)
    names = ["smoothgrad", "integrated_gradients"]
    explain(model, images, names, "all", options={name: FEW[name] for name in names})
    assert model.failed == 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(12, 20), (5, 12, 9)])
def test_channels_and_axes(channels: int, size: tuple[int, ...]) -> None:
    model = Rectifying("reused", channels, len(size))
    images = torch.rand(2, channels, *size)
    maps = explained(model, images, targets="all")
    for name in NAMES:
        assert maps.native[name].shape == (2, 4, *size)
        assert maps[name].equal(maps.native[name]) and maps[name].dtype == torch.float32
        assert maps[name].isfinite().all() and maps[name].any()
        assert not maps[name][:, 0].equal(maps[name][:, 1])
        alone = explained(model, images, targets=3)
        agree(maps[name][:, 3], alone[name])
    blurred = {"integrated_gradients": {"baseline": "blur", "steps": 2}}
    assert explain(model, images, "integrated_gradients", options=blurred)


def test_grey_images_through_our_classifier() -> None:
    """What the grey values get is the sum over the channels that they are repeated to."""
    network = RESNET.build()
    deviations = torch.tensor([0.2, 0.2, 0.3])
    preprocess = Preprocess(Framing(height=32, width=64), 3, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
    classifier = Classifier(network, ["CNV", "DME", "DRUSEN", "NORMAL"], preprocess)
    grey = RESNET.images(2)[:, :1]
    maps = explained(classifier, grey, targets=2)
    leaf = classifier.normalise(grey).requires_grad_()
    (inside,) = torch.autograd.grad(network(leaf)[:, 2].sum(), leaf)
    chained = (inside / deviations.view(1, 3, 1, 1)).sum(1)
    close(maps["saliency"], chained.abs())
    close(maps["input_x_gradient"], grey[:, 0] * chained)
    for name in NAMES:
        assert maps[name].shape == (2, 32, 64)


class Fragile(Rectifying):
    """Fails in its n-th pass with a graph."""

    def __init__(self, passes: int) -> None:
        super().__init__("in place")
        self.left = passes

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            self.left -= 1
            if self.left < 0:
                raise ValueError("broken")
        return super().forward(x)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_behind(name: str, fails: bool) -> None:
    """Also when the model fails after its memory was measured."""
    options = {key: values for key, values in FEW.items() if key == name}
    model = Fragile(1 if fails else 1000).train()
    model.two.eval()
    model.one.weight.requires_grad_(False)
    images = torch.rand(2, 3, 12, 16)
    kept = images.clone()
    before = [(part.training, dict(vars(part))) for part in model.modules()]
    frozen = [parameter.requires_grad for parameter in model.parameters()]
    if fails:
        with pytest.raises(ValueError, match="broken"):
            explain(
                model, images, name, targets=1, options={k: v for k, v in FEW.items() if k == name}
            )
    else:
        explain(model, images, name, targets=1, options=options)
    for part, (training, attributes) in zip(model.modules(), before, strict=True):
        assert part.training == training and vars(part).keys() == attributes.keys()
        for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"):
            assert not getattr(part, hooks)
    assert [parameter.requires_grad for parameter in model.parameters()] == frozen
    assert all(parameter.grad is None for parameter in model.parameters())
    assert images.equal(kept) and images.grad is None and not images.requires_grad
    assert torch._C._len_torch_function_stack() == 0


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_under_no_grad(context: Any) -> None:
    model, images = Rectifying("mixed"), torch.rand(2, 3, 12, 16)
    expected = explained(model, images, targets=1)
    with context():
        found = explained(model, images, targets=1)
    for name in NAMES:
        agree(found[name], expected[name], 1e-6)


class Counting(Rectifying):
    """Counts the images that pass, there and back, in the class: a view shares that alone."""

    there = back = 0

    def __init__(self) -> None:
        super().__init__("modules")

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        Counting.there += len(x)
        if logits.requires_grad:
            logits.register_hook(self._returned)
        return logits

    def _returned(self, gradient: Tensor) -> None:
        Counting.back += int(gradient.any(1).sum())


@pytest.mark.parametrize("name", [name for name in NAMES if name != "guided_gradcam"])
@pytest.mark.parametrize("targets", [2, [0, 3, 1], None, "all", [[0, 1]] * 3])
def test_costs_are_what_is_run(name: str, targets: Any) -> None:
    """Images that pass the network, there and back, are the plan's F; classes share the way there.

    No pass is made for the logits where one of the method's own gives them.
    """
    model, images = Counting(), torch.rand(3, 3, 12, 16)
    options = {key: values for key, values in FEW.items() if key == name}
    plan = explain(model, images, name, targets, options=options, dry_run=True)
    Counting.there = Counting.back = 0
    maps = explain(model, images, name, targets, options=options)
    # What a graph keeps, once per model; the largest layer of a pass without one.
    measuring = 1 + int(name == "integrated_gradients")
    assert model.there + model.back == plan.forwards * 3 + measuring
    gradients = {"integrated_gradients": 3, "gradient_shap": 2, "smoothgrad": 2}.get(name, 1)
    assert model.back == 3 * gradients * plan.classes
    beside = {"integrated_gradients": 2, "gradient_shap": 1, "smoothgrad": 1}.get(name, 0)
    assert model.there == 3 * (gradients + beside) + measuring
    with torch.no_grad():
        assert maps.logits.allclose(model(images), atol=1e-6)


def test_methods_share_the_gradient_at_the_images() -> None:
    names = ["saliency", "input_x_gradient"]
    shared = explain(Rectifying("modules"), torch.rand(3, 3, 12, 16), names, 0, dry_run=True)
    assert shared.forwards == 2


def test_more_classes_than_share_a_pass() -> None:
    """Each of 40 classes is what it is alone, and three forward passes serve all."""
    torch.manual_seed(0)
    model, images = Rectifying("in place"), torch.rand(2, 3, 12, 16)
    model.head = nn.Linear(6, 40)
    names = ["saliency", "smoothgrad"]
    options = {"smoothgrad": FEW["smoothgrad"]}
    plan = explain(model, images, names, "all", options=options, dry_run=True)
    assert plan.forwards == (3 + 40) * (1 + 2)
    every = explain(model, images, names, "all", options=options)
    for c in (0, 15, 16, 39):
        alone = explain(model, images, names, c, options=options)
        for name in names:
            agree(every.native[name][:, c], alone.native[name], 1e-5)
