"""Attention weighed by its relevance: the first of the two methods of Chefer, Gur and Wolf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from octoscope.attribution.lrp import zplus
from octoscope.attribution.lrp.recording import Recording, heads


def chefer_lrp(
    lrp_recording: Recording, lrp_gradients: Mapping[str, Tensor], classes: Tensor
) -> Tensor:
    """Return the row of C = Ā_B … Ā_1 that the head reads, with Ā_b = I + E_h[(∇A_b ⊙ R_b)⁺].

    Chefer, Gur & Wolf, CVPR 2021, equations 13-14 (which count blocks from the output). The row is
    that of the class token (of class and distillation token, their mean), or the mean over the
    tokens pooled. Rows are not normalised, as in the paper. Only the row r is ever computed:
    r ← r + r E_h[(∇A_b ⊙ R_b)⁺], from the last block to the first, as relevance comes by.

    What the identity alone gives is left out. It is nothing at the patches of a class token's row;
    in a mean it is 1/n at every one of n patches, which says nothing and in which the rest would
    drown.

    Args:
        lrp_recording: What relevance is propagated with.
        lrp_gradients: Name of layer to ∇A = dy_c/dA, (b, heads, N, N).
        classes: (b,) c.

    Returns:
        The patches of the row, (b, *grid), not negative.
    """
    layers = lrp_recording.stack.layers[::-1]
    start = _row_read(lrp_recording)
    gained = torch.zeros_like(start)  # r less what it starts with
    relevances = propagated(lrp_recording, lrp_recording.seed(classes))
    for layer, relevance in zip(layers, relevances, strict=True):
        weighed = (lrp_gradients[layer.name] * relevance).relu().mean(1)  # (b, N, N)
        gained = gained + ((start + gained)[:, None] @ weighed)[:, 0]
    return lrp_recording.map_of(gained)


def propagated(recording: Recording, relevance: Tensor) -> Iterator[Tensor]:
    """Propagate relevance of the logits to every attention matrix.

    Norms, GELU, softmax and layer scale, which mix nothing or only rescale, hand relevance on as
    it is.

    Args:
        recording: What the layers saw.
        relevance: R of the logits, (b, K).

    Yields:
        R_b, (b, heads, N, N), from the last block to the first.
    """
    relevance = _before_head(recording, relevance)  # (b, N, D)
    for layer in recording.stack.layers[::-1]:
        block, attention = cast(Any, layer.block), cast(Any, layer.attention)
        tokens, attended = recording.inputs[block], recording.outputs[block.drop_path1]
        mlp = recording.outputs[block.drop_path2]
        query, key, value = recording.projections(layer)
        matrix = recording.matrices[layer.name].to(value.dtype)

        passed, changed = zplus.add(relevance, tokens + attended, mlp)
        changed = recording.through(block.mlp.fc2, changed)
        relevance = passed + recording.through(block.mlp.fc1, changed)

        passed, changed = zplus.add(relevance, tokens, attended)
        changed = recording.through(attention.proj, changed)
        changed = changed.unflatten(-1, (query.shape[1], -1)).transpose(1, 2)  # (b, heads, N, d)
        of_matrix, of_value = zplus.matmul(changed, matrix, value)
        yield of_matrix
        if layer is recording.stack.layers[0]:
            return

        of_query, of_key = zplus.matmul(of_matrix, query, key.mT)
        of_all = torch.stack([of_query, of_key.mT, of_value], 2)  # (b, heads, 3, N, d)
        of_all = of_all.permute(0, 3, 2, 1, 4).flatten(2)  # (b, N, 3 heads d), as the layer has it
        relevance = passed + recording.through(attention.qkv, of_all)


def _before_head(recording: Recording, relevance: Tensor) -> Tensor:
    """Propagate relevance of the logits (b, K) to what the last block gives, (b, N, D)."""
    network = cast(Any, recording.stack.network)
    tokens = recording.outputs[network.norm]
    found = torch.zeros_like(tokens)
    parts = heads(network)
    shares = [relevance]
    if len(parts) == 2:
        first, second = (recording.outputs[head] for head in parts)
        shares = list(zplus.add(relevance, first, second))
    pooled = [recording.through(h, s) for h, s in zip(parts, shares, strict=True)]  # (b, D)
    read = recording.stack.read
    found[:, read] = (
        torch.stack(pooled, 1)
        if recording.stack.pooling == "token"
        else zplus.mean(pooled[0], tokens[:, read])
    )
    return found


def _row_read(recording: Recording) -> Tensor:
    """Return which tokens the head reads, as weights (b, N) of sum 1."""
    row = torch.zeros_like(recording.outputs[recording.stack.layers[-1].block][:, :, 0])
    row[:, recording.stack.read] = 1
    return row / row.sum(1, keepdim=True)
