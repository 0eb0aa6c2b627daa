"""Where a transformer keeps its attention, and how to get at it.

Attention blocks of timm hold the matrix A = softmax(QKᵀ/√d) as the output of their ``attn_drop``
(the identity when evaluating), unless ``fused_attn`` computes the product without ever making it.
With that switch off, a hook on ``attn_drop`` sees A, and a graph goes through it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

from torch import nn

from octoscope.errors import OctoscopeError
from octoscope.models.borrow import Switch, eager
from octoscope.models.finding import Finding

Pooling = Literal["token", "avg", "map"]

INSTEAD = "use gradcam or layercam"


@dataclass(frozen=True)
class AttentionLayer:
    """One attention of a transformer.

    Attributes:
        name: Qualified name of `matrix` in the eager model.
        block_name: Qualified name of `block`.
        block: The transformer block: tokens (B, N, D) to tokens (B, N, D).
        attention: The attention module of the block.
        matrix: The module whose output is A, (B, heads, N, N), rows queries, columns keys.
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
        norm_name: Qualified name of the norm after its last block.
        prefix_tokens: Class, distillation and register tokens before the first patch.
        pooling: What the head reads: the class token (``"token"``), the mean over tokens
            (``"avg"``), or an attention pool, whose latent query reads them (``"map"``).
        read_from: First token that the head reads.
        read_to: End of the tokens that it reads; None for the last token. With class pooling the
            distillation token of DeiT is read too, and the two logits are averaged.
    """

    layers: tuple[AttentionLayer, ...]
    network: nn.Module
    norm_name: str
    prefix_tokens: int
    pooling: Pooling
    read_from: int = 0
    read_to: int | None = None

    @property
    def read(self) -> slice:
        """The tokens that the head reads, all with the same weight if there is no latent."""
        return slice(self.read_from, self.read_to)

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

    Known are the transformers of timm with one sequence of tokens through all blocks: ViT, DeiT,
    DINO, SigLIP, BEiT, EVA and their like, with class, distillation and register tokens.

    Args:
        model: Any module; the transformer may be any part of it.

    Raises:
        OctoscopeError: If it has no attention that can be read as a matrix between all tokens,
            with the reason and what to use instead.
    """
    module = eager(model)
    names = {part: name for name, part in module.named_modules(remove_duplicate=True)}
    for network in names:
        blocks = getattr(network, "blocks", None)
        if not isinstance(blocks, nn.Sequential | nn.ModuleList) or not len(blocks):
            continue
        if not all(_is_self_attention(getattr(block, "attn", None)) for block in blocks):
            continue
        if not hasattr(network, "patch_embed"):
            continue  # a stage of a network
        if (reason := _not_one_sequence(network)) is not None:
            raise OctoscopeError(f"{type(network).__name__} {reason}; {INSTEAD}")
        layers = tuple(_layer(block, names) for block in blocks)
        pooling, read_from, read_to = _reading(network)
        norm = names[cast(nn.Module, network.norm)]
        prefix = _prefix(network)
        return AttentionStack(layers, network, norm, prefix, pooling, read_from, read_to)
    raise OctoscopeError(f"{type(_innermost(module)).__name__} {_why_not(module)}; {INSTEAD}")


def confirmed(stack: AttentionStack, finding: Finding) -> AttentionStack:
    """Make sure that a run shows what the attributes of a transformer say, or say what it shows.

    A model may use the blocks of a transformer and pool their tokens in its own way.

    Args:
        stack: What attributes say.
        finding: What the model showed when it ran.

    Returns:
        The stack, with what the head reads of the tokens as it was seen.

    Raises:
        OctoscopeError: If not everything goes once through every block, or the head reads the
            tokens by weights of its own.
    """
    for layer in stack.layers:
        seen = finding.layers.get(layer.block_name)
        if seen is None or not seen.is_cut:
            raise OctoscopeError(
                f"not all that the logits come from goes once through {layer.block_name}, so its "
                f"attention is not all that matters; {INSTEAD}"
            )
    last = finding.layers[stack.layers[-1].block_name]
    read = last.read.nonzero()[:, 0].tolist()
    if not read or stack.pooling == "map":
        return stack  # a head that looks at nothing yet; or at all, by weights that it makes
    normed = finding.layers.get(stack.norm_name)
    even = len(read) == 1 or (normed is not None and normed.alike)
    if read == list(range(len(last.read)))[stack.read] and (even or stack.pooling == "token"):
        return stack
    if not even or read != list(range(read[0], read[-1] + 1)):
        raise OctoscopeError(
            f"the head reads the tokens of {type(stack.network).__name__} by weights of its own, "
            f"which are not known; {INSTEAD}"
        )
    pooling: Pooling = "token" if len(read) == 1 else "avg"
    return replace(stack, pooling=pooling, read_from=read[0], read_to=read[-1] + 1)


def _layer(block: nn.Module, names: dict[nn.Module, str]) -> AttentionLayer:
    attention = cast(nn.Module, block.attn)
    matrix = cast(nn.Module, attention.attn_drop)
    return AttentionLayer(names[matrix], names[block], block, attention, matrix)


def _is_self_attention(attention: object) -> bool:
    """Say whether a block's attention is one whose matrix comes out of ``attn_drop``."""
    return (
        isinstance(attention, nn.Module)
        and isinstance(getattr(attention, "attn_drop", None), nn.Module)
        and hasattr(attention, "fused_attn")
    )


def _not_one_sequence(network: nn.Module) -> str | None:
    """Say why a network's blocks are not one sequence of patches and tokens, None if they are."""
    blocks = cast(nn.Sequential, network.blocks)
    if hasattr(network, "cls_attn_blocks"):
        return "attends between channels, so its attention is no map"
    if any(hasattr(block.attn, "lambda_init") for block in blocks):
        return "subtracts one attention from another, so its rows are no weights of patches"
    if any(getattr(block, "window_size", 0) for block in blocks):
        return "attends within windows, so no row of its attention spans the image"
    parts = ("patch_embed", "norm", "forward_head", "global_pool")
    if not all(hasattr(network, part) for part in parts):
        return "does not say what its head reads of the tokens"
    return None


def _reading(network: nn.Module) -> tuple[Pooling, int, int | None]:
    """Tell what the head reads: kind of pooling, first token, end of the tokens.

    Raises:
        OctoscopeError: If it reads no fixed weights of the tokens.
    """
    pool, prefix = network.global_pool, _prefix(network)
    latent = getattr(network, "attn_pool", None)
    whole = bool(getattr(network, "pool_include_prefix", False))
    if isinstance(latent, nn.Module):
        if getattr(latent, "latent_len", 0) == 1 and getattr(latent, "pos_embed", 0) is None:
            # EVA gives its pool every token, ViT strips the prefix.
            strips = hasattr(network, "pool_include_prefix") and not whole
            return "map", prefix if strips else 0, None
    elif pool == "token":
        return "token", 0, 2 if isinstance(getattr(network, "head_dist", None), nn.Module) else 1
    elif pool == "avg":
        return "avg", 0 if whole else prefix, None
    raise OctoscopeError(
        f'{type(network).__name__} pools tokens by "{pool}", which gives them no fixed weights; '
        f"{INSTEAD}"
    )


def _prefix(network: nn.Module) -> int:
    return int(getattr(network, "num_prefix_tokens", 0))


def _innermost(module: nn.Module) -> nn.Module:
    """Return the network in wrappers that hold all their parameters in a single child."""
    while not any(True for _ in module.parameters(recurse=False)):
        children = [child for child in module.children() if any(True for _ in child.parameters())]
        if len(children) != 1:
            break
        module = eager(children[0])
    return module


def _why_not(module: nn.Module) -> str:
    """Say why a model's attention cannot be read."""
    kinds = {type(part).__name__.lower(): part for part in module.modules()}
    foreign = any(type(part).__module__.startswith("transformers.") for part in module.modules())
    if foreign and any("attention" in kind for kind in kinds):
        return "is built by transformers, whose attention is not read here; build it with timm"
    if any(isinstance(part, nn.MultiheadAttention) for part in kinds.values()):
        return "attends by nn.MultiheadAttention, which hides its matrix; build it with timm"
    if any("windowattention" in kind for kind in kinds):
        return (
            "attends within shifted windows and has no class token, so no row of its attention "
            "spans the image"
        )
    if any("attention" in kind or hasattr(part, "attn_drop") for kind, part in kinds.items()):
        return "has no attention that is one matrix between all tokens in every block"
    return "has no attention"
