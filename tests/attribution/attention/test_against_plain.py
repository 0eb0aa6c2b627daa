"""Every attention method against whole matrices and whole graphs, on every transformer."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from attribution.attention.plain import (
    ATTENDING,
    PlainPass,
    plain_pass,
    sharp,
    whole_attention_gradcam,
    whole_chefer,
    whole_gradient_rollout,
    whole_legrad,
    whole_rollout,
)
from octoscope.attribution.explain import explain
from octoscope.attribution.maps import Maps
from timm_families import Family

METHODS = (
    *("raw_attention", "rollout", "gradient_rollout", "attention_gradcam", "chefer", "legrad"),
    "dino_heads",
)
IMAGES = 2


@cache
def ours(family: Family) -> Maps:
    images = family.images(IMAGES).double()
    options = {"gradient_rollout": {"discard": 0.8}}
    return explain(sharp(family), images, METHODS, targets="all", options=options, signed=True)


@cache
def plain(family: Family) -> list[PlainPass]:
    images = family.images(IMAGES).double()
    return [plain_pass(sharp(family), images[b : b + 1], family) for b in range(IMAGES)]


def close(found: Tensor, row: Tensor, family: Family, *, positive: bool = False) -> None:
    """Compare a map with the patches of a row (N,), or with a row of patches alone."""
    count = family.grid[0] * family.grid[1]
    expected = row[len(row) - count :].reshape(family.grid).float()
    scale = expected.abs().max()
    if positive and not scale:  # no attention raises this logit
        assert not found.any()
        return
    assert scale > 0 and expected.std() > 1e-4 * scale  # a constant would prove nothing
    assert (found - expected).abs().max() <= 1e-5 * scale


@pytest.mark.parametrize("family", ATTENDING, ids=lambda f: f.name)
def test_logits_do_not_change(family: Family) -> None:
    for b, one in enumerate(plain(family)):
        torch.testing.assert_close(ours(family).logits[b], one.logits, rtol=1e-6, atol=1e-9)
    with torch.no_grad():  # fused against unfused, in single precision
        fused = family.build()(family.images(2))
    unfused = explain(family.build(), family.images(2), "raw_attention").logits
    torch.testing.assert_close(unfused, fused, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ATTENDING, ids=lambda f: f.name)
def test_rollout(family: Family) -> None:
    for b, one in enumerate(plain(family)):
        row = whole_rollout(one)
        assert row.sum().item() == pytest.approx(1, abs=1e-9)
        for c in range(4):
            close(ours(family).native["rollout"][b, c], row, family)


@pytest.mark.parametrize("family", ATTENDING, ids=lambda f: f.name)
def test_raw_attention_and_heads(family: Family) -> None:
    for b, one in enumerate(plain(family)):
        rows = (
            torch.einsum("i,hij->hj", one.weights, one.attention[-1])
            if one.latent is None
            else one.latent[0]
        )
        assert rows.sum(1).allclose(torch.ones(len(rows), dtype=rows.dtype))
        close(ours(family).native["raw_attention"][b, 0], rows.mean(0), family)
        heads = ours(family).native["dino_heads"]
        assert heads.shape == (IMAGES, len(rows), *family.grid)
        for h, row in enumerate(rows):
            close(heads[b, h], row, family)


@pytest.mark.parametrize("family", ATTENDING, ids=lambda f: f.name)
def test_methods_of_a_class(family: Family) -> None:
    for b, one in enumerate(plain(family)):
        for c in range(4):
            native = {name: ours(family).native[name][b, c] for name in METHODS[2:6]}
            gradient_rollout = whole_gradient_rollout(one, c, 0.8)
            close(native["chefer"], whole_chefer(one, c), family)
            close(native["gradient_rollout"], gradient_rollout, family, positive=True)
            close(native["legrad"], whole_legrad(one, c), family)
            close(
                native["attention_gradcam"],
                whole_attention_gradcam(one, c, family.prefix),
                family,
            )
    assert ours(family).native["gradient_rollout"].flatten(2).any(-1).sum() >= 4
