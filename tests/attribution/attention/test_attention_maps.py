"""Attention methods through `explain`: planted evidence, batches, wrappers, nothing left behind."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from attribution.attention.plain import ATTENDING, WITHOUT
from octoscope.attribution.explain import explain
from octoscope.errors import OctoscopeError
from octoscope.models.classifier import Classifier
from octoscope.models.preprocess import Preprocess
from octoscope.scans.framing import Framing
from timm_families import Family

SIX = ["raw_attention", "rollout", "gradient_rollout", "attention_gradcam", "chefer", "legrad"]
ALL = [*SIX, "dino_heads"]
BY_NAME = {family.name: family for family in ATTENDING}
VIT = BY_NAME["vit_tiny_patch16_224"]
SIGLIP = BY_NAME["vit_base_patch16_siglip_224"]
BEIT = BY_NAME["beit_base_patch16_224"]


def equal_within(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    scale = expected.abs().amax((-2, -1), keepdim=True).clamp(min=1e-30)
    assert ((found - expected).abs() <= tolerance * scale).all()


@pytest.mark.parametrize("family", ATTENDING, ids=lambda f: f.name)
def test_finite_maps_on_a_grid_that_is_not_square(family: Family) -> None:
    maps = explain(family.build(), family.images(2), ALL, targets="all")
    for name in ALL:
        heads = 12 if "siglip" in family.name else 3
        parts = heads if name == "dino_heads" else 4
        assert maps.native[name].shape[:1] + maps.native[name].shape[2:] == (2, *family.grid)
        assert name == "dino_heads" or maps.native[name].shape[1] == parts
        assert maps.native[name].isfinite().all() and (maps.native[name] >= 0).all()
        assert not maps.flags[name]["clipped_fraction"].any() or name == "attention_gradcam"
        assert maps[name].shape[-2:] == family.size


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("family", WITHOUT, ids=lambda f: f.name)
def test_others_are_refused_with_a_sentence(family: Family, name: str) -> None:
    with pytest.raises(
        OctoscopeError, match=r"is not defined here: .*use gradcam or layercam"
    ) as no:
        explain(family.build(), family.images(1), name)
    assert "\n" not in str(no.value)


@pytest.mark.parametrize("family", [VIT, SIGLIP, BEIT], ids=lambda f: f.name)
def test_batch_of_eight_is_eight_singles(family: Family) -> None:
    model, images = family.build(), family.images(8)
    classes = [0, 1, 2, 3, 3, 2, 1, 0]
    together = explain(model, images, ALL, targets=classes, signed=True)
    chunked = explain(model, images, ALL, targets=classes, signed=True, batch_size=3)
    for b in range(8):
        alone = explain(model, images[b : b + 1], ALL, targets=classes[b], signed=True)
        for name in ALL:
            equal_within(together.native[name][b], alone.native[name][0])
            equal_within(chunked.native[name][b], alone.native[name][0])


@pytest.mark.parametrize("family", ATTENDING, ids=lambda f: f.name)
def test_attention_forced_on_one_patch_lights_that_patch(family: Family) -> None:
    model = deepcopy(family.build())
    row, column = 2, 4
    place = family.prefix + row * family.grid[1] + column

    def force(_module: nn.Module, _inputs: Any, out: Tensor) -> Tensor:
        return out * 0 + torch.eye(out.shape[-1])[place]

    for block in model.blocks:
        block.attn.attn_drop.register_forward_hook(force)
    names = ["raw_attention", "rollout", "gradient_rollout", "attention_gradcam", "chefer"]
    if "siglip" in family.name:  # whose last attention is the latent's, forced in the next test
        names = ["rollout"]
    keep_all = {"gradient_rollout": {"discard": 0}} if "gradient_rollout" in names else None
    maps = explain(model, family.images(2), names, targets="all", options=keep_all)
    for name in names:
        found = maps.native[name]
        lit = found.flatten(2).argmax(-1)[
            found.flatten(2).std(-1) > 1e-4 * found.flatten(2).amax(-1)
        ]
        assert len(lit) >= 2, name  # in some class attention raises the logit
        assert (lit == row * family.grid[1] + column).all(), name


def test_pool_forced_on_one_patch_lights_that_patch() -> None:
    model = deepcopy(SIGLIP.build())

    def force(_module: nn.Module, _inputs: Any, out: Tensor) -> Tensor:
        query = model.attn_pool.q_norm_seen
        keys = out.clone()
        keys[:, :, 9] = 1e3 * query[:, :, 0]  # the key that the latent asks for
        return keys

    def see(_module: nn.Module, _inputs: Any, out: Tensor) -> None:
        model.attn_pool.q_norm_seen = out.detach()

    model.attn_pool.q_norm.register_forward_hook(see)
    model.attn_pool.k_norm.register_forward_hook(force)
    with torch.no_grad():
        model.attn_pool.q.bias.normal_()
    maps = explain(model, SIGLIP.images(2), ["raw_attention", "dino_heads"])
    assert maps.native["raw_attention"].flatten(1).argmax(1).tolist() == [9, 9]
    assert maps.native["dino_heads"].flatten(2).argmax(2).eq(9).all()
    assert maps.native["raw_attention"].flatten(1).amax(1).allclose(torch.ones(2), atol=1e-3)


class Changed(nn.Module):
    """Logits in another order, shifted, and scaled by something of the image."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[:, [2, 0, 3, 1]] * (1 + x.mean((1, 2, 3)))[:, None] + 5


@pytest.mark.parametrize("family", [VIT, SIGLIP, BEIT], ids=lambda f: f.name)
def test_what_wraps_the_network_is_heeded(family: Family) -> None:
    model, images = family.build(), family.images(2)
    names = [name for name in ALL if name != "gradient_rollout"]
    plain = explain(model, images, names, targets="all")
    changed = explain(Changed(model), images, names, targets="all")
    factor = (1 + images.mean((1, 2, 3)))[:, None, None, None]
    order = [2, 0, 3, 1]
    for name in ("raw_attention", "rollout", "dino_heads"):
        equal_within(changed.native[name], plain.native[name])
    for name in ("attention_gradcam", "legrad"):
        equal_within(changed.native[name], plain.native[name][:, order] * factor)
    assert not changed.native["chefer"][:, 0].equal(plain.native["chefer"][:, 0])


def test_classifier() -> None:
    network = deepcopy(VIT.build())
    preprocess = Preprocess(Framing(64, 96), 3, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    classifier = Classifier(network, ["a", "b", "c", "d"], preprocess)
    images = VIT.images(2)
    wrapped = explain(classifier, images, ALL, targets="all")
    plain = explain(network, classifier.normalise(images), ALL, targets="all")
    for name in ALL:
        equal_within(wrapped.native[name], plain.native[name])


def test_a_head_that_is_more_than_norm_and_head_is_refused() -> None:
    class Mixed(VisionTransformer):
        def forward_features(self, x: Tensor, **options: Any) -> Tensor:
            out = super().forward_features(x, **options)
            return out if len(self.blocks) else out * 3

    model = Mixed(img_size=32, patch_size=16, embed_dim=24, depth=2, num_heads=2, num_classes=3)
    with pytest.raises(OctoscopeError, match="cannot be asked about them; use rollout or gradcam"):
        explain(model.eval(), torch.rand(1, 3, 32, 32), "legrad")


def state(model: nn.Module) -> list[Any]:
    """All that an explanation may touch."""
    return [
        *((part, part.training, getattr(part, "fused_attn", None)) for part in model.modules()),
        *((p.requires_grad, p.grad) for p in model.parameters()),
        *(len(p._forward_hooks) + len(p._forward_pre_hooks) for p in model.modules()),
        *(list(p._modules.items()) for p in model.modules()),
    ]


@pytest.mark.parametrize("family", [VIT, SIGLIP], ids=lambda f: f.name)
def test_nothing_is_left_behind(family: Family) -> None:
    model = deepcopy(family.build())
    before = state(model)
    assert any(part[2] for part in before if isinstance(part, tuple) and len(part) == 3)
    explain(model, family.images(1), ALL)
    assert state(model) == before


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("family", [VIT, SIGLIP], ids=lambda f: f.name)
def test_nothing_is_left_behind_by_an_error(family: Family, call: int) -> None:
    """Also when the head raises in the shared pass, or when it is asked again."""
    model = deepcopy(family.build())
    calls = []

    def fail(_module: nn.Module, _inputs: Any) -> None:
        calls.append(1)
        if len(calls) == call:
            raise ValueError("broken head")

    model.head.register_forward_pre_hook(fail)
    before = state(model)
    with pytest.raises(ValueError, match="broken head"):
        explain(model, family.images(1), ALL, batch_size=1)
    assert len(calls) == call and state(model) == before


def test_a_size_without_a_grid_is_refused() -> None:
    class Odd(nn.Module):
        """Says that it has one prefix token and has none."""

        def __init__(self) -> None:
            super().__init__()
            self.network = deepcopy(BEIT.build())
            self.network.num_prefix_tokens = 2

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x)

    with pytest.raises(OctoscopeError, match="25 tokens for images of 64×96"):
        explain(Odd(), BEIT.images(1), "rollout")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", [VIT, SIGLIP], ids=lambda f: f.name)
def test_precision(family: Family, precision: Any) -> None:
    model, images = family.build(), family.images(2)
    low = explain(model, images, ALL, targets="all", precision=precision)
    high = explain(model, images, ALL, targets="all")
    for name in ("raw_attention", "rollout", "dino_heads"):
        equal_within(low.native[name], high.native[name], 0.03)
    assert all(low.native[name].isfinite().all() for name in ALL)


def flops(work: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", ["rollout", "attention_gradcam", "chefer", "legrad"])
@pytest.mark.parametrize("family", [VIT, BEIT], ids=lambda f: f.name)
def test_the_plan_says_what_it_costs(family: Family, name: str) -> None:
    model, images = family.build(), family.images(2)

    def unfused() -> None:
        with torch.no_grad():
            model(images)

    one = flops(unfused)
    spent = flops(lambda: explain(model, images, name, classes=[0, 1], batch_size=2)) / one
    plan = explain(model, images, name, classes=[0, 1], dry_run=True)
    assert spent == pytest.approx(plan.forwards, rel=0.15)
