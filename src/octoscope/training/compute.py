"""What the machine offers for training, detected and never assumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from octoscope.errors import OctoscopeError
from octoscope.training.recipe import Recipe


@dataclass(frozen=True)
class Compute:
    """How the numbers are computed.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``.
        precision: ``bf16`` (autocast, weights stay float32) or ``fp32``.
        channels_last: Whether images and kernels lie channels-last in memory.
    """

    device: str
    precision: Literal["bf16", "fp32"]
    channels_last: bool

    @classmethod
    def choose(cls, recipe: Recipe) -> Compute:
        """Settle what a recipe leaves to the machine.

        Raises:
            OctoscopeError: If bf16 is demanded of a machine that has none.
        """
        device = best_device()
        fast = has_fast_bf16(device)
        if recipe.precision == "bf16" and not fast:
            raise OctoscopeError(
                f'precision "bf16": this machine\'s {device} has no bf16 instructions; use '
                '"auto" or "fp32"'
            )
        precision: Literal["bf16", "fp32"] = (
            "bf16" if fast and recipe.precision != "fp32" else "fp32"
        )
        layout = recipe.channels_last
        return cls(device, precision, device != "mps" if layout == "auto" else layout)

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory layout as PyTorch names it."""
        return torch.channels_last if self.channels_last else torch.contiguous_format


def best_device() -> str:
    """Return the first of CUDA, Apple's MPS and the CPU that is there."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def has_fast_bf16(device: str) -> bool:
    """Say whether a device multiplies bfloat16 in hardware; emulation is slower than float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"))
    return False
