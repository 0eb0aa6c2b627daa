"""Attention weighed by its relevance: the first of the two methods of Chefer, Gur and Wolf."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from octoscope.attribution.attention.last_layer import on_grid
from octoscope.attribution.lrp import zplus
from octoscope.attribution.lrp.recording import Recording, heads
from octoscope.models.layout import TargetLayer


def chefer_lrp(
    attention: Sequence[Tensor],
    attention_gradients: Sequence[Tensor],
    lrp_recording: Recording,
    logit_relevance: Tensor,
    readout: Tensor,
    token_layout: TargetLayer,
) -> Tensor:
    """Return the row of C = Ā_L … Ā_1 that the head reads, with Ā_l = I + E_h[(∇A_l ⊙ R_l)⁺].

    Chefer, Gur & Wolf, CVPR 2021, equations 13-14 (which count layers from the output). The row is
    that of the class token (of class and distillation token, their mean), or the mean over the
    tokens pooled. Rows are not normalised, as in the paper. Only the row r is ever computed:
    r ← r + r E_h[(∇A_l ⊙ R_l)⁺], from the last layer to the first, as relevance comes by.

    What the identity alone gives is left out. It is nothing at the patches of a class token's row;
    in a mean it is 1/n at every one of n patches, which says nothing and in which the rest would
    drown.

    Args:
        attention: A, L tensors (b, h, N, N).
        attention_gradients: ∇A = dy_c/dA, the same shapes.
        lrp_recording: What the layers saw, by which relevance is propagated.
        logit_relevance: R of the logits, (b, K).
        readout: Weights by which the head reads the tokens, (b, 1, N).
        token_layout: Where the patches are.

    Returns:
        (b, *grid), not negative.
    """
    start = readout[:, 0]
    gained = torch.zeros_like(start)  # r less what it starts with
    relevances = propagated(lrp_recording, attention, logit_relevance)
    for gradient, relevance in zip(reversed(attention_gradients), relevances, strict=True):
        weighed = (gradient * relevance).relu().mean(1)  # (b, N, N)
        gained = gained + ((start + gained)[:, None] @ weighed)[:, 0]
    return on_grid(gained, token_layout)


def propagated(
    recording: Recording, attention: Sequence[Tensor], relevance: Tensor
) -> Iterator[Tensor]:
    """Propagate relevance of the logits to every attention matrix.

    Norms, GELU, softmax and layer scale, which mix nothing or only rescale, hand relevance on as
    it is.

    Args:
        recording: What the layers saw.
        attention: A of every layer, first to last, L tensors (b, h, N, N).
        relevance: R of the logits, (b, K).

    Yields:
        R of A, the same shapes, from the last layer to the first.
    """
    relevance = _before_head(recording, relevance)  # (b, N, D)
    for layer, matrix in zip(reversed(recording.stack.layers), reversed(attention), strict=True):
        block, part = cast(Any, layer.block), cast(Any, layer.attention)
        tokens, attended = recording.inputs[block], recording.outputs[block.drop_path1]
        mlp = recording.outputs[block.drop_path2]
        query, key, value = recording.projections(layer)

        passed, changed = zplus.add(relevance, tokens + attended, mlp)
        changed = recording.through(block.mlp.fc2, changed)
        relevance = passed + recording.through(block.mlp.fc1, changed)

        passed, changed = zplus.add(relevance, tokens, attended)
        changed = recording.through(part.proj, changed)
        changed = changed.unflatten(-1, (query.shape[1], -1)).transpose(1, 2)  # (b, heads, N, d)
        of_matrix, of_value = zplus.matmul(changed, matrix.to(value.dtype), value)
        yield of_matrix
        if layer is recording.stack.layers[0]:
            return  # nothing is asked of what comes before

        of_query, of_key = zplus.matmul(of_matrix, query, key.mT)
        of_all = torch.stack([of_query, of_key.mT, of_value], 2)  # (b, heads, 3, N, d)
        of_all = of_all.permute(0, 3, 2, 1, 4).flatten(2)  # (b, N, 3 heads d), as the layer has it
        relevance = passed + recording.through(part.qkv, of_all)


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
