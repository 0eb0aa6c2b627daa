"""What the machine offers for training, detected and never assumed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import Callback, Trainer

from octoscope.errors import OctoscopeError
from octoscope.training.recipe import Recipe

ACCELERATORS = {"cpu": "cpu", "cuda": "gpu", "mps": "mps"}


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


def build_trainer(
    recipe: Recipe, compute: Compute, run: Path, callbacks: list[Callback]
) -> Trainer:
    """Return Lightning's Trainer with all off that it does at every step beside the step itself.

    Its logger, bar, summary and checkpoints are replaced by what `EpochKeeper` does per epoch.
    """
    return Trainer(
        accelerator=ACCELERATORS[compute.device],
        devices=1,
        precision="bf16-mixed" if compute.precision == "bf16" else "32-true",
        max_epochs=recipe.epochs,
        gradient_clip_val=recipe.clip_gradient or None,
        callbacks=callbacks,
        deterministic="warn" if compute.device == "cuda" else None,
        default_root_dir=run,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
