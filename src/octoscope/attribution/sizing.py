"""How large a request is, for planning its passes before any is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from octoscope.models.attention import AttentionStack
from octoscope.models.layout import TargetLayer


@dataclass(frozen=True)
class Sizing:
    """What the cost of a source depends on.

    Attributes:
        module: The eager model.
        size: *S of the images.
        image_channels: Channels C of the images.
        classes: Number K of logits.
        channels: Channels of the target layer; 0 if there is no target layer.
        target: The target layer; None if no method needs one.
        attention: The attention layers; None if no method needs them.
        settings: Name of a method to its settings.
        exact: Whether passes without gradients run in full precision.
    """

    module: nn.Module
    size: tuple[int, ...]
    image_channels: int
    classes: int
    channels: int = 0
    target: TargetLayer | None = None
    attention: AttentionStack | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = True
