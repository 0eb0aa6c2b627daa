"""Deletion, insertion and perturbation curves against closed forms, and against peers."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import quantus
import torch
from torch import Tensor, nn
from torchcam.metrics import DeletionInsertionMetric

from octoscope.errors import OctoscopeError
from octoscope.trust.faithfulness.curves import area, curves, mean_kept
from trust.faithfulness.known import Linear, Small


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def distinct(*shape: int, seed: int = 0) -> Tensor:
    """Maps without ties."""
    generator = torch.Generator().manual_seed(seed)
    pixels = int(np.prod(shape[1:]))
    rows = [torch.randperm(pixels, generator=generator) for _ in range(shape[0])]
    return torch.stack(rows).view(shape).float() - pixels / 3


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 2, 3, 4, 5)])
def test_curves_of_a_linear_model_are_sums_over_the_pixels_in_order(shape: tuple[int, ...]) -> None:
    images, weight = drawn(*shape), drawn(*shape[1:], seed=1)
    maps = distinct(shape[0], *shape[2:])
    targets = torch.tensor([0, 0])
    found = curves(
        Linear(weight), images, {"m": maps}, targets, steps=4, baseline=0.25,
        kinds=("deletion", "insertion", "positive", "negative"),
    )  # fmt: skip
    share = (weight * (images - 0.25)).sum(1).flatten(1).double()  # what a pixel contributes
    empty = 0.25 * weight.double().sum()
    order = maps.flatten(1).argsort(1, descending=True)
    down = share.gather(1, order).cumsum(1)
    counts = [round(share.shape[1] * step / 4) for step in range(5)]
    for point, count in enumerate(counts):
        top = down[:, count - 1] if count else torch.zeros(2, dtype=torch.float64)
        rest = share.shape[1] - count
        bottom = down[:, -1] - (down[:, rest - 1] if rest else 0)
        full = empty + down[:, -1]
        for kind, logit in {
            "deletion": full - top,
            "positive": full - top,
            "insertion": empty + top,
            "negative": full - bottom,
        }.items():
            got = found.logits[kind]["m"][:, point]
            torch.testing.assert_close(got, logit, atol=1e-5, rtol=0)
            torch.testing.assert_close(
                found.values[kind]["m"][:, point], logit.sigmoid(), atol=1e-5, rtol=0
            )
            assert torch.equal(found.kept[kind]["m"][:, point], (got > 0).double())
    assert found.fractions.tolist() == [count / share.shape[1] for count in counts]


def test_a_model_that_reads_one_pixel_makes_a_step_where_the_map_names_it() -> None:
    weight = torch.zeros(1, 4, 4)
    weight[0, 1, 2] = 8.0
    images = torch.ones(1, 1, 4, 4)
    right = weight.clone()
    found = curves(
        Linear(weight), images, {"right": right, "wrong": -right}, torch.tensor([0]),
        steps=16, baseline=0.0,
    )  # fmt: skip
    sure, unsure = torch.tensor(8.0).double().sigmoid(), 0.5
    first = torch.full((17,), unsure, dtype=torch.float64)
    first[0] = sure
    last = torch.full((17,), sure.item(), dtype=torch.float64)
    last[16] = unsure
    torch.testing.assert_close(found.values["deletion"]["right"][0], first)
    torch.testing.assert_close(found.values["deletion"]["wrong"][0], last)
    torch.testing.assert_close(found.values["insertion"]["right"][0], last.flip(0))
    torch.testing.assert_close(found.values["insertion"]["wrong"][0], first.flip(0))
    low = area(found.values["deletion"]["right"], found.fractions)
    torch.testing.assert_close(low, ((sure + unsure) / 2 / 16 + unsure * 15 / 16)[None])


def test_maps_that_say_nothing_are_undefined_and_cost_no_pass() -> None:
    images = drawn(3, 1, 4, 4)
    maps = distinct(3, 4, 4)
    maps[0] = 2.0
    maps[2, 0, 0] = torch.nan
    model = Linear(drawn(1, 4, 4, seed=1))
    found = curves(model, images, {"m": maps}, torch.zeros(3, dtype=torch.int64), steps=4)
    values = found.values["deletion"]["m"]
    assert values.isnan().all(1).tolist() == [True, False, True]
    assert area(values, found.fractions).isnan().tolist() == [True, False, True]
    # the ends of three scans, one that measures the memory, 2 × 3 steps of the one map
    assert sum(model.seen) == 6 + 1 + 6


def test_ends_and_shared_images_are_asked_for_once() -> None:
    images, model = drawn(2, 1, 4, 4), Linear(drawn(1, 4, 4, seed=1))
    maps = {"a": distinct(2, 4, 4), "b": distinct(2, 4, 4, seed=1)}
    kinds = ("deletion", "insertion", "positive", "negative")
    found = curves(model, images, maps, torch.tensor([0, 1]), steps=8, kinds=kinds)
    assert sum(model.seen) == 2 * 2 + 1 + 2 * 2 * 2 * 7
    negative = found.values["negative"]["a"]
    assert torch.equal(negative.flip(1), found.values["insertion"]["a"])
    assert torch.equal(found.values["insertion"]["a"][:, 0], found.values["deletion"]["b"][:, -1])


def test_no_scan_depends_on_its_batch() -> None:
    images, maps = drawn(5, 1, 12, 14), {"m": drawn(5, 12, 14, seed=1).relu()}
    targets = torch.tensor([0, 1, 2, 1, 0])
    model = Small()
    together = curves(model, images, maps, targets, steps=5).values
    for b in range(5):
        row = slice(b, b + 1)
        alone = curves(model, images[row], {"m": maps["m"][row]}, targets[row], steps=5).values
        for kind in ("deletion", "insertion"):
            torch.testing.assert_close(
                alone[kind]["m"], together[kind]["m"][row], atol=2e-6, rtol=0
            )


class Told:
    """A torchcam extractor that gives a map made elsewhere."""

    def __init__(self, model: nn.Module, maps: Tensor) -> None:
        self.model, self.maps = model, maps

    def __call__(self, *_: object, **__: object) -> list[Tensor]:
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    def _hooks_off(self) -> nullcontext[None]:
        return nullcontext()


@pytest.mark.parametrize("channels", [1, 3])
def test_areas_are_those_of_torchcam(channels: int) -> None:
    images, maps = drawn(4, channels, 10, 12), distinct(4, 10, 12)
    targets = torch.tensor([0, 1, 2, 0])
    model = Small(channels)
    metric = DeletionInsertionMetric(Told(model, maps), lambda y: y.softmax(1), steps=12)
    metric.update(images, targets.tolist())
    found = curves(model, images, {"m": maps}, targets, steps=12, baseline=0.0)
    peer = metric.summary()
    for kind in ("deletion", "insertion"):
        mean = area(found.values[kind]["m"], found.fractions).mean()
        assert mean.item() == pytest.approx(peer[f"{kind}_auc"], abs=1e-6)


def test_a_single_channel_is_flipped_as_by_quantus() -> None:
    """With several channels its PixelFlipping ranks channels of pixels, so only one is compared."""
    images, maps = drawn(3, 1, 8, 8), distinct(3, 8, 8)
    targets, model = torch.tensor([0, 1, 2]), Small().eval()
    metric = quantus.PixelFlipping(
        features_in_step=8,
        perturb_baseline=0.0,
        abs=False,
        normalise=False,
        disable_warnings=True,
    )
    peer = metric(
        model, images.numpy(), targets.numpy(), a_batch=maps[:, None].numpy(), softmax=True
    )
    found = curves(model, images, {"m": maps}, targets, steps=8, baseline=0.0)
    mine = found.values["deletion"]["m"][:, 1:]
    torch.testing.assert_close(mine, torch.as_tensor(np.array(peer)).double(), atol=1e-6, rtol=0)


def test_the_share_of_steps_by_hand() -> None:
    fractions = torch.linspace(0, 1, 11, dtype=torch.float64)
    kept = torch.tensor([[1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1], [0] * 11, [torch.nan] * 11])
    share = mean_kept(kept.double(), fractions)
    assert share[0].item() == pytest.approx(3 / 9)
    assert share[1:].isnan().all()


def test_a_single_logit_is_a_sigmoid() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    images, maps = drawn(2, 1, 4, 4), {"m": distinct(2, 4, 4)}
    found = curves(model, images, maps, torch.tensor([0, 0]), steps=2)
    with torch.no_grad():
        expected = model(images)[:, 0].double().sigmoid()
    torch.testing.assert_close(found.values["deletion"]["m"][:, 0], expected)


class Breaks(Small):
    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("broken")


@pytest.mark.parametrize("kind", [Small, Breaks])
def test_the_model_and_the_inputs_are_left_as_they_were(kind: type[Small]) -> None:
    model = kind().train()
    model.head.bias.requires_grad_(False)
    model.body[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [part.training for part in model.modules()]
    images, maps = drawn(2, 1, 12, 12), drawn(2, 12, 12)
    copies = images.clone(), maps.clone()
    with pytest.raises(RuntimeError, match="broken") if kind is Breaks else nullcontext():
        curves(model, images, {"m": maps}, torch.tensor([0, 1]), steps=3)
    assert flags == [part.training for part in model.modules()]
    assert [p.requires_grad for p in model.head.parameters()] == [True, False]
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert torch.equal(images, copies[0]) and torch.equal(maps, copies[1])


def test_what_a_user_can_get_wrong_is_said() -> None:
    model, images, zero = Small(), drawn(2, 1, 12, 12), torch.tensor([0, 0])
    maps = {"m": drawn(2, 12, 12)}
    for wrong, match in [
        (lambda: curves(model, images, {"cam": maps["m"][:, :3]}, zero), "maps of cam of shape"),
        (lambda: curves(model, images, {}, zero), "no maps"),
        (lambda: curves(model, images, maps, zero[:1]), "one class index for each of the 2"),
        (lambda: curves(model, images, maps, zero.float()), "one class index for each"),
        (lambda: curves(model, images, maps, zero + 3), "class 3 does not exist"),
        (lambda: curves(model, images, maps, zero, kinds=("delete",)), 'did you mean "deletion"'),
        (lambda: curves(model, images, maps, zero, steps=0), "steps=0"),
        (lambda: curves(model, images.int(), maps, zero), "floating point"),
    ]:
        with pytest.raises(OctoscopeError, match=match):
            wrong()
