"""What stands in for removed pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

Baseline = float | Literal["mean", "blur", "retina"] | Callable[[Tensor], Tensor]
Retina = Tensor | tuple[Tensor, Tensor]
"""Where the retina is: (B, H, W) bool, or the rows of ILM and RPE, each (B, W)."""
