"""What they are functions of.

Every matrix A of attention has queries as rows and keys as columns, over all N tokens: the prefix
(class, distillation and register tokens) and the patches in raster order. b counts images, L layers
and h heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from octoscope.attribution.attention.readout import (
    LatentPool,
    LayerScores,
    latent_pool,
    require_same,
    scores_of,
)
from octoscope.attribution.sizing import Sizing
from octoscope.attribution.source import Batch, Captured, Source
from octoscope.errors import OctoscopeError
from octoscope.models.attention import AttentionStack
from octoscope.models.layers import layout_of
from octoscope.models.layout import TargetLayer, say


def attention(batch: Batch) -> tuple[Tensor, ...]:
    """Return A of every layer, first to last: L tensors (b, h, N, N).

    Raises:
        OctoscopeError: If a layer gives something else than a matrix between all tokens.
    """
    found = tuple(batch.evidence.activations[layer.name] for layer in _stack(batch).layers)
    tokens = found[-1].shape[-1]
    for layer, matrix in zip(_stack(batch).layers, found, strict=True):
        expected = (len(batch.images), matrix.shape[1], tokens, tokens)
        if tuple(matrix.shape) != expected:
            raise OctoscopeError(
                f"{layer.name} gives {tuple(matrix.shape)}, which is no attention between all "
                "tokens; use gradcam or layercam"
            )
    return found


def attention_gradients(batch: Batch) -> tuple[Tensor, ...]:
    """Return dy_c/dA of every layer, first to last: L tensors (b, h, N, N)."""
    names = [layer.name for layer in _stack(batch).layers]
    found = batch.evidence.gradients(batch.classes, names)
    return tuple(found[name] for name in names)


def token_layout(batch: Batch) -> TargetLayer:
    """Return where the patches are among the N tokens.

    Raises:
        OctoscopeError: If N is not the network's prefix plus a grid of patches.
    """
    stack, tokens = _stack(batch), batch["attention"][-1].shape[-1]
    last, size = stack.layers[-1], tuple(batch.images.shape[2:])
    shape = (len(batch.images), tokens, 1)
    layout = layout_of(batch.module, last.block_name, last.block, shape, batch.images)
    if layout.prefix_tokens != stack.prefix_tokens:
        raise OctoscopeError(
            f"{last.block_name} has {tokens} tokens for images of {say(size)}, which is no grid of "
            f"patches after {stack.prefix_tokens} prefix tokens; use images of the size that the "
            "model was built for"
        )
    return layout


def readout(batch: Batch) -> Tensor:
    """Return the weights by which the head reads the tokens, (b, 1 or h, N); rows sum to 1.

    Fixed weights are the same for all images and count as one head. A latent's are its attention.
    """
    pool: LatentPool | None = batch["latent_pool"]
    return _fixed_weights(batch) if pool is None else pool.attention


def readout_relevance(batch: Batch) -> Tensor:
    """Return how the class c reads the tokens, (b, 1 or h, N).

    Fixed weights say nothing of the class and are returned as they are; a latent's attention a
    gives dy_c/da ⊙ a, as any other attention does.
    """
    pool: LatentPool | None = batch["latent_pool"]
    if pool is None:
        return _fixed_weights(batch)
    return pool.gradients(batch.classes) * pool.attention


def last_rows(batch: Batch) -> Tensor:
    """Return the row of the last attention that the head reads, (b, h, N).

    It is the class token's, the mean over the tokens read, or the latent's of an attention pool.
    """
    pool: LatentPool | None = batch["latent_pool"]
    if pool is not None:
        return pool.attention
    return batch["attention"][-1][:, :, _stack(batch).read].mean(2)


def last_row_gradients(batch: Batch) -> Tensor:
    """Return the gradient of y_c in that row, the mean over the tokens read, (b, h, N)."""
    pool: LatentPool | None = batch["latent_pool"]
    if pool is not None:
        return pool.gradients(batch.classes)
    name = _stack(batch).layers[-1].name
    return batch.evidence.gradients(batch.classes, [name])[name][:, :, _stack(batch).read].mean(2)


def layer_scores(batch: Batch) -> LayerScores:
    """Return the tokens after every block, cut from their graph, and the head's scores of them."""
    blocks = [batch.evidence.recorded[layer.block_name] for layer in _stack(batch).layers]
    tokens = torch.cat(blocks).detach().requires_grad_()
    found = LayerScores(tokens, scores_of(batch, tokens), len(blocks))
    require_same(found.by_layer[:, -1], batch.evidence.logits)
    return found


def layer_sensitivity(batch: Batch) -> Tensor:
    """Return E of LeGrad: per layer l, the mean over heads and queries of ReLU(ds^l/dA^l).

    s^l is what the head says of the tokens Z^l after block l. Its gradient goes through the end
    of the head once for all layers, and from Z^l to A^l inside block l alone.

    Returns:
        (b, L, N).
    """
    recorded, ends = batch.evidence.recorded, batch["layer_scores"].gradients(batch.classes)
    found = []
    for layer, end in zip(_stack(batch).layers, ends, strict=True):
        block, matrix = recorded[layer.block_name], recorded[layer.name]
        (gradient,) = torch.autograd.grad(block, matrix, grad_outputs=end, retain_graph=True)
        found.append(gradient.relu_().mean((1, 2)))
    return torch.stack(found, dim=1)


def _stack(batch: Batch) -> AttentionStack:
    assert batch.attention is not None
    return batch.attention


def _fixed_weights(batch: Batch) -> Tensor:
    """Return the same weight for every token that the head reads, (b, 1, N)."""
    last: Tensor = batch["attention"][-1]
    weights = last.new_zeros(len(last), 1, last.shape[-1])
    weights[..., _stack(batch).read] = 1
    return weights / weights.sum(-1, keepdim=True)


# Costs: with frozen parameters a backward multiplies by every weight once, as a forward does. Every
# weight meets every token, so shares of weights are shares of a pass, up to the products with A.


def backward_to_the_first(sizing: Sizing) -> float:
    """From the logits through all blocks but what comes before the first attention."""
    assert sizing.attention is not None
    network, first = sizing.attention.network, sizing.attention.layers[0]
    before = _weights(network.patch_embed) + _weights(first.attention) - _after(first.attention)
    return 1 - before / _weights(network)


def backward_to_the_last(sizing: Sizing) -> float:
    """From the logits to the last attention."""
    assert sizing.attention is not None
    return _tail(sizing.attention, -1) / _weights(sizing.attention.network)


def patches_once_more(sizing: Sizing) -> float:
    """Call the model with other tokens than its patches, if its head has a pool to look into."""
    assert sizing.attention is not None
    return _patches(sizing) if sizing.attention.pooling == "map" else 0.0


def patches_once_per_layer(sizing: Sizing) -> float:
    """Call the model with the tokens of every layer."""
    assert sizing.attention is not None
    return _patches(sizing) * len(sizing.attention.layers)


def backward_inside_every_block(sizing: Sizing) -> float:
    """From the tokens after every block to its attention."""
    assert sizing.attention is not None
    stack = sizing.attention
    tails = sum(_tail(stack, index) for index in range(len(stack.layers)))
    return tails / _weights(stack.network)


def _patches(sizing: Sizing) -> float:
    """Share of the patch embedding, which runs whenever the model is called."""
    assert sizing.attention is not None
    network = sizing.attention.network
    return _weights(network.patch_embed) / _weights(network)


def _tail(stack: AttentionStack, index: int) -> int:
    """Count the weights of a block after its attention matrix."""
    layer = stack.layers[index]
    return _weights(layer.block) - _weights(layer.attention) + _after(layer.attention)


def _after(attention_module: nn.Module) -> int:
    """Count the weights of an attention after its matrix."""
    projection = getattr(attention_module, "proj", None)
    return _weights(projection) if isinstance(projection, nn.Module) else 0


def _weights(module: object) -> int:
    """Count the weights by which tokens are multiplied."""
    assert isinstance(module, nn.Module)
    kinds = (nn.Linear, nn.Conv2d)
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, kinds))


def _needs(*parts: Captured) -> frozenset[Captured]:
    return frozenset(parts)


SOURCES: tuple[Source, ...] = (
    Source("attention", attention, "attention of every block", captures=_needs("attention")),
    Source(
        "attention_gradients",
        attention_gradients,
        "one backward from the logit to the first attention",
        per_class=True,
        captures=_needs("attention", "attention gradient"),
        cost=backward_to_the_first,
    ),
    Source("token_layout", token_layout, "the grid of patches", captures=_needs("attention")),
    Source(
        "latent_pool",
        latent_pool,
        "the attention pool of the head",
        captures=_needs("attention", "blocks"),
        cost=patches_once_more,
    ),
    Source(
        "readout",
        readout,
        "what the head reads of the tokens",
        captures=_needs("attention", "blocks"),
    ),
    Source(
        "readout_relevance",
        readout_relevance,
        "what the class reads of the tokens",
        per_class=True,
        captures=_needs("attention", "blocks"),
    ),
    Source(
        "last_rows",
        last_rows,
        "the row of the last attention that the head reads",
        captures=_needs("attention", "blocks"),
    ),
    Source(
        "last_row_gradients",
        last_row_gradients,
        "one backward from the logit to the last attention",
        per_class=True,
        captures=_needs("attention", "attention gradient", "blocks"),
        cost=backward_to_the_last,
    ),
    Source(
        "layer_scores",
        layer_scores,
        "the head on the tokens of every block",
        captures=_needs("attention", "attention gradient", "blocks"),
        cost=patches_once_per_layer,
    ),
    Source(
        "layer_sensitivity",
        layer_sensitivity,
        "one backward inside every block, from its tokens to its attention",
        per_class=True,
        captures=_needs("attention", "attention gradient", "blocks"),
        cost=backward_inside_every_block,
    ),
)
