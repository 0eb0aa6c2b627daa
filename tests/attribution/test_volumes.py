"""Every method that says it is defined for volumes, on volumes."""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from octoscope.attribution.explain import explain
from octoscope.attribution.maps import Maps
from octoscope.attribution.registry import METHODS

SIZE = (8, 16, 24)
QUICK: dict[str, dict[str, Any]] = {
    "occlusion": {"window": (4, 8, 8), "stride": (4, 4, 8)},
    "feature_ablation": {"segments": 6},
    "rise": {"most": 8, "least": 8, "cells": 3},
    "integrated_gradients": {"steps": 3},
    "gradient_shap": {"samples": 3},
    "smoothgrad": {"samples": 3},
}
VOLUMES = [name for name, method in METHODS.items() if 3 in method.dims]


@cache
def network() -> nn.Module:
    """Narrow, with batch norm, an in-place ReLU and a bias in every layer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv3d(1, 4, 3, padding=1),
            nn.BatchNorm3d(4, momentum=None),
            nn.ReLU(inplace=True),
            nn.Conv3d(4, 6, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv3d(6, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(8, 3),
        ).double()
        model(torch.rand(4, 1, *SIZE, dtype=torch.float64))
    return model.eval()


def volumes() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(3, 1, *SIZE, dtype=torch.float64, generator=generator)


@cache
def together() -> Maps:
    return explain(network(), volumes(), "all", "all", signed=True, options=QUICK)


@cache
def alone() -> list[Maps]:
    return [
        explain(network(), one[None], "all", "all", signed=True, options=QUICK) for one in volumes()
    ]


@pytest.mark.parametrize("name", VOLUMES)
def test_three_volumes_are_three_singles(name: str) -> None:
    """Or a sentence that says why the method is not defined for this network."""
    if name not in together():
        assert together().refused[name] and METHODS[name].families == ("transformer",)
        return
    found = together()[name]
    assert found.shape == (3, 3, *SIZE) and found.isfinite().all() and found.any()
    for b, one in enumerate(alone()):
        native = together().native[name][b]
        bound = 1e-4 * native.abs().amax((1, 2, 3), keepdim=True)
        assert ((native - one.native[name][0]).abs() <= bound).all()
        for key, values in together().details.get(name, {}).items():
            torch.testing.assert_close(
                values[b], one.details[name][key][0], rtol=1e-3, atol=1e-4, equal_nan=True
            )


def test_as_many_volumes_share_a_pass_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where 2.5 times the peak of one volume may be used, two share a pass."""
    shared: list[int] = []
    explain(network(), volumes(), "gradcam", dry_run=True)  # the layer is found once
    hook = network()[0].register_forward_hook(
        lambda _m, inputs, _out: shared.append(len(inputs[0]))
    )
    peak = 4 * 8 * 4 * prod(SIZE)  # four times the largest output: 4 channels of 8 bytes
    monkeypatch.setattr("octoscope.attribution.memory.free_bytes", lambda _device: 5 * peak)
    try:
        found = explain(network(), volumes(), "gradcam", "all", signed=True)
    finally:
        hook.remove()
    assert shared == [1, 2, 1]  # one to measure
    torch.testing.assert_close(found.native["gradcam"], together().native["gradcam"])


def test_methods_of_flat_images_are_left_out_with_a_reason() -> None:
    assert set(METHODS) - set(VOLUMES) == {
        name for name, why in together().refused.items() if "3 spatial axes" in why
    }
