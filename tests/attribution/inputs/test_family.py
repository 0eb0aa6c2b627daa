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
    """Ten points do not fit, nor do five; from two on, no later sum tries more."""
    model, images = Cramped(), torch.rand(5, 3, 12, 16)
    names = ["smoothgrad", "integrated_gradients"]
    explain(model, images, names, "all", options={name: FEW[name] for name in names})
    assert model.failed == 2


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


def test_costs_are_what_is_run() -> None:
    """Images that pass the network with a graph, twice each, are the plan's F."""

    class Counting(Rectifying):
        seen = 0

        def forward(self, x: Tensor) -> Tensor:
            Counting.seen += len(x) * (2 if x.requires_grad else 1)
            return super().forward(x)

    model, images = Counting("modules"), torch.rand(3, 3, 12, 16)
    for name in NAMES:
        options = {key: values for key, values in FEW.items() if key == name}
        request: Any = {"targets": [[0, 1]] * 3, "options": options}
        plan = explain(model, images, name, dry_run=True, **request)
        Counting.seen = 0
        explain(model, images, name, layer="three", **request)
        # beside the plan: one pass each to measure the graph and the largest layer
        beside = 2 + (name == "integrated_gradients")
        assert Counting.seen == plan.forwards * 3 + beside
    shared = explain(model, images, ["saliency", "input_x_gradient"], targets=0, dry_run=True)
    assert shared.forwards == 3
