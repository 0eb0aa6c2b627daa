"""Where a transformer keeps its attention, and how to get at it.

Attention blocks of timm hold the matrix A = softmax(QKᵀ/√d) as the output of their ``attn_drop``
(the identity when evaluating), unless ``fused_attn`` computes the product without ever making it.
With that switch off, a hook on ``attn_drop`` sees A, and a graph goes through it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from octoscope.errors import OctoscopeError
from octoscope.models.borrow import Switch

Pooling = Literal["token", "avg", "map"]


@dataclass(frozen=True)
class AttentionLayer:
    """One attention of a transformer.

    Attributes:
        name: Qualified name of `matrix` in the eager model.
        block: The transformer block: tokens (B, N, D) to tokens (B, N, D).
        attention: The attention module of the block.
        matrix: The module whose output is A, (B, heads, N, N), rows queries, columns keys.
        block_name: Qualified name of `block`.
    """

    name: str
    block_name: str
    block: nn.Module
    attention: nn.Module
    matrix: nn.Module


@dataclass(frozen=True)
class AttentionStack:
    """All attention layers of a transformer, first to last.

    Attributes:
        layers: The layers.
        network: The transformer itself (inside any wrapper).
        prefix_tokens: Class, distillation and register tokens before the first patch.
        pooling: What the head reads: the class token (``"token"``), the mean over patch tokens
            (``"avg"``), or an attention pool (``"map"``).
    """

    layers: tuple[AttentionLayer, ...]
    network: nn.Module
    prefix_tokens: int
    pooling: Pooling

    @property
    def switches(self) -> tuple[Switch, ...]:
        """What must be switched while A is captured."""
        return tuple(
            (layer.attention, "fused_attn", False)
            for layer in self.layers
            if hasattr(layer.attention, "fused_attn")
        )


def find_attention(model: nn.Module) -> AttentionStack:
    """Find the attention layers of a model, without running it.

    Raises:
        OctoscopeError: If it has none that can be read as patch-to-patch attention.
    """
    raise OctoscopeError(f"{type(model).__name__} has no attention")
