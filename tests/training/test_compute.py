"""Precision and layout are detected and never assumed."""

from __future__ import annotations

import pytest
import torch

from octoscope.errors import OctoscopeError
from octoscope.training import compute
from octoscope.training.compute import Compute, has_fast_bf16
from octoscope.training.recipe import Recipe


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(compute, "best_device", lambda: "cpu")
    return monkeypatch


def test_auto_takes_what_is_there(cpu: pytest.MonkeyPatch) -> None:
    for there, expected in ((True, "bf16"), (False, "fp32")):
        cpu.setattr(compute, "has_fast_bf16", lambda _, there=there: there)
        assert Compute.choose(Recipe()) == Compute("cpu", expected, True)
        assert Compute.choose(Recipe(precision="fp32")).precision == "fp32"


def test_bf16_where_there_is_none_is_refused(cpu: pytest.MonkeyPatch) -> None:
    cpu.setattr(compute, "has_fast_bf16", lambda _: False)
    with pytest.raises(OctoscopeError, match='cpu has no bf16 instructions; use "auto" or "fp32"'):
        Compute.choose(Recipe(precision="bf16"))


def test_bf16_is_read_off_the_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, expected in (({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        assert has_fast_bf16("cpu") is expected
    assert has_fast_bf16("mps") is False


def test_layout_can_be_chosen(cpu: pytest.MonkeyPatch) -> None:
    assert Compute.choose(Recipe(channels_last=False)).memory_format == torch.contiguous_format
    assert Compute.choose(Recipe(channels_last=True)).memory_format == torch.channels_last
