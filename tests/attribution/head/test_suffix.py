"""Replays of what lies above a layer, against the whole model with a hook at the layer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octoscope.attribution.capture import Capture
from octoscope.attribution.forward import Forward
from octoscope.attribution.head.suffix import Suffix
from octoscope.models.borrow import borrowed
from timm_families import FAMILIES, Family


def brute_force(model: nn.Module, layer: nn.Module, image: Tensor, given: Tensor) -> Tensor:
    hook = layer.register_forward_hook(lambda _m, _i, _o: given.clone())
    try:
        with torch.no_grad():
            return model(image.expand(len(given), *image.shape[1:]))
    finally:
        hook.remove()


def nothing_left(model: nn.Module) -> bool:
    return not any(
        "forward" in vars(part) or part._forward_hooks or part._forward_pre_hooks
        for part in model.modules()
    )


def close(found: Tensor, expected: Tensor, within: float = 1e-5) -> None:
    assert expected.abs().max() > 0
    assert (found - expected).abs().max() <= within * expected.abs().max()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_every_family(family: Family) -> None:
    model, images = family.build(), family.images(2)
    layer = dict(model.named_modules())[family.layer]
    with Capture(model, {"layer": layer}, differentiate=()) as capture:
        evidence = capture(images)
        suffix = Suffix(model, layer, images, Forward(model))
        suffix._given = own = evidence.activations["layer"]
        generator = torch.Generator().manual_seed(3)
        random = torch.randn(3, *own.shape[1:], generator=generator)
        for row in range(2):
            close(suffix(row, own[row : row + 1])[0], evidence.logits[row])
            expected = brute_force(model, layer, images[row : row + 1], random)
            close(suffix(row, random), expected)
        assert suffix.partial
    assert nothing_left(model)


class Plain(nn.Module):
    """Someone's network: functional code, one ReLU for all, in place, a skip past the layer."""

    def __init__(self, skip: bool = True) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(6 * 16, 3)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        x = (x - 0.5) / 0.2
        x = F.max_pool2d(self.relu(self.one(x)), 2)
        y = self.relu(self.two(x))
        x = y.add_(x) if self.skip else y
        return self.head(F.adaptive_avg_pool2d(x, 4).view(len(x), -1))


@pytest.mark.parametrize("skip", [True, False])
def test_functional_code(skip: bool) -> None:
    torch.manual_seed(0)
    model, images = Plain(skip).eval(), torch.rand(3, 1, 16, 24)
    with borrowed(model):
        suffix = Suffix(model, model.two, images, Forward(model))
        random = torch.randn(5, 6, 8, 12)
        unchanged = random.clone()
        for row in range(3):
            close(suffix(row, random), brute_force(model, model.two, images[row : row + 1], random))
            close(
                suffix(row, suffix.activations[row : row + 1])[0], model(images[row : row + 1])[0]
            )
        assert random.equal(unchanged)  # the ReLU in place wrote into a copy
        assert suffix.partial and suffix.records == int(skip)
    assert nothing_left(model)


class Stubborn(Plain):
    """One that cannot be run in part: what lies below the layer hides in a list, not an output."""

    def forward(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        hook = self.one.register_forward_hook(lambda _m, _i, out: seen.append(out + x))
        try:
            self.one(x)
        finally:
            hook.remove()
        if x.shape[0] != 0 and type(self.one.forward).__name__ != "method":
            raise RuntimeError("someone is here")
        return self.head(F.adaptive_avg_pool2d(self.two(seen[0]), 4).flatten(1))


def test_models_that_cannot_be_run_in_part_run_whole() -> None:
    torch.manual_seed(0)
    model, images = Stubborn().eval(), torch.rand(2, 1, 16, 24)
    with borrowed(model):
        suffix = Suffix(model, model.two, images, Forward(model))
        random = torch.randn(3, 6, 16, 24)
        close(suffix(1, random), brute_force(model, model.two, images[1:], random))
        assert not suffix.partial
    assert nothing_left(model)


def test_nothing_is_left_after_an_exception() -> None:
    model, images = FAMILIES[0].build(), FAMILIES[0].images(1)

    def fails(_module: nn.Module, _inputs: object) -> None:
        raise KeyError("in the middle")

    with borrowed(model):
        suffix = Suffix(model, model.layer4, images, Forward(model))
        activations = suffix.activations
        suffix(0, activations)
        hook = model.fc.register_forward_pre_hook(fails)
        with pytest.raises(KeyError):
            suffix(0, activations)
        hook.remove()
    assert nothing_left(model)


def test_running_out_of_memory_halves_the_pieces() -> None:
    model, images = FAMILIES[0].build(), FAMILIES[0].images(1)
    with borrowed(model):
        suffix = Suffix(model, model.layer4, images, Forward(model))
        random = torch.randn(20, *suffix.activations.shape[1:])
        expected = suffix(0, random)

        def small(_module: nn.Module, inputs: tuple[Tensor]) -> None:
            if len(inputs[0]) > 6:
                raise torch.OutOfMemoryError("not enough memory")

        hook = model.fc.register_forward_pre_hook(small)
        try:
            close(suffix(0, random), expected, 1e-6)
        finally:
            hook.remove()
    assert nothing_left(model)
