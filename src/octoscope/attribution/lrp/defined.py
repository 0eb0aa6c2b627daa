"""For which networks there are rules: what an unknown layer would do to relevance, nobody knows."""

from __future__ import annotations

from timm.layers import (
    AttentionPoolLatent,
    DropPath,
    GELUTanh,
    LayerScale,
    Mlp,
    PatchDropout,
    QuickGELU,
    RmsNorm,
    RmsNormFp32,
    RotaryEmbedding,
    RotaryEmbeddingCat,
    RotaryEmbeddingDinoV3,
    RotaryEmbeddingMixed,
)
from timm.layers.attention import Attention
from timm.models.beit import RelativePositionBias
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from octoscope.errors import OctoscopeError
from octoscope.models.attention import AttentionStack, find_attention
from octoscope.models.finding import Finding

INSTEAD = "use chefer instead"

_LINEAR = (nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.Identity, nn.Flatten, LayerScale)
_OFF = (nn.Dropout, DropPath, PatchDropout)
_NORMS = (nn.LayerNorm, nn.RMSNorm, RmsNorm, RmsNormFp32)
_GATED = (nn.GELU, GELUTanh, nn.SiLU, QuickGELU, nn.ReLU)
_CONSTANT = (
    RotaryEmbedding,
    RotaryEmbeddingCat,
    RotaryEmbeddingDinoV3,
    RotaryEmbeddingMixed,
    RelativePositionBias,
)
_ATTNLRP = (*_LINEAR, *_OFF, *_NORMS, *_GATED, *_CONSTANT)
"""Layers without parts that AttnLRP has rules for; batch norm is linear while evaluating."""


def require_attnlrp(module: nn.Module) -> None:
    """Refuse networks with parts that AttnLRP has no rule for.

    Raises:
        OctoscopeError: If there is one, naming it.
    """
    network = find_attention(module).network
    for name, part in network.named_modules():
        _require_rule(network, name, part)


def require_rules_around(module: nn.Module, finding: Finding) -> None:
    """Refuse models that do something to the transformer's output that AttnLRP has no rule for.

    Args:
        module: The model.
        finding: What it showed when it ran: what does not run, such as a loss, does not matter.

    Raises:
        OctoscopeError: If a layer that runs has no rule, naming it.
    """
    for name in finding.runs:
        _require_rule(module, name, module.get_submodule(name))


def _require_rule(network: nn.Module, name: str, part: nn.Module) -> None:
    leaf = not any(True for _ in part.children())
    gated = isinstance(getattr(part, "gate", None), nn.Module)
    fused = isinstance(part, nn.MultiheadAttention)
    if fused or gated or (leaf and not isinstance(part, _ATTNLRP)):
        what = "its gate" if gated else f"layer {name}"
        raise OctoscopeError(
            f"AttnLRP has no rule for {what} ({type(part).__name__}) of "
            f"{type(network).__name__}; {INSTEAD}"
        )


def require_chefer_lrp(module: nn.Module) -> None:
    """Refuse all but plain vision transformers, whose every step has a z⁺ rule.

    Raises:
        OctoscopeError: If the network is another one, naming the step.
    """
    stack = find_attention(module)
    reason = _unlike_vit(stack)
    if reason is not None:
        raise OctoscopeError(
            f"its rules are those of plain vision transformers, and {type(stack.network).__name__} "
            f"{reason}; {INSTEAD}"
        )


def _unlike_vit(stack: AttentionStack) -> str | None:
    """Say what sets a network apart from a plain vision transformer, None if nothing does."""
    network = stack.network
    if not isinstance(network, VisionTransformer):
        return "attends in its own way (to turned or biased positions)"
    if isinstance(network.attn_pool, AttentionPoolLatent) or network.global_pool == "map":
        return "pools by an attention of its own"
    if network.attn_pool is not None or network.global_pool not in ("token", "avg"):
        return f'pools by "{network.global_pool}"'
    for layer in stack.layers:
        block, attention = layer.block, layer.attention
        if type(block) is not Block:
            return f"has blocks of another kind ({type(block).__name__})"
        if getattr(attention, "gate", None) is not None:
            return "gates its attention"
        if type(attention) is not Attention:
            return f"has an attention of another kind ({type(attention).__name__})"
        if type(block.mlp) is not Mlp:
            return f"has an MLP of another kind ({type(block.mlp).__name__})"
        linear = (attention.qkv, attention.proj, block.mlp.fc1, block.mlp.fc2)
        if other := next((part for part in linear if type(part) is not nn.Linear), None):
            return f"has layers of another kind ({type(other).__name__})"
    if not isinstance(network.head, nn.Linear):
        return "has a head that is not one linear layer"
    return None
