"""Attention followed from the head back through all layers to the patches.

Chaining matrices Â_L ⋯ Â_1 costs N³ per layer. Only the row that the head reads is wanted, and a
row is carried from the last layer to the first at N²: r ← r Â_l, starting with the weights by which
the head reads the tokens: the class token, with average pooling the mean over patches. With an
attention pool it starts as the latent's own attention, the latent being no token itself.

Where gradients weigh the attention, what goes through no attention at all (the identity of every
layer) is left out of the map. With class pooling it never reaches a patch, so nothing changes. With
average pooling it is the same for every patch, or nearly, and much larger than all the rest.

Shapes: A and its gradients are L tensors (b, h, N, N), first layer to last; rows are (b, N); maps
are (b, *s).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from octoscope.attribution.attention.last_layer import on_grid
from octoscope.attribution.attention.readout import LatentPool
from octoscope.errors import OctoscopeError
from octoscope.models.layout import TargetLayer


@dataclass(frozen=True)
class GradientRolloutSettings:
    """What can be set of gradient rollout.

    Attributes:
        discard: Share of the entries of each layer's N×N matrix, the smallest, that are set to 0;
            in [0, 1).
    """

    discard: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.discard < 1:
            raise OctoscopeError(
                f"gradient_rollout: discard={self.discard} is no share in [0, 1); use 0.9, or 0 to "
                "keep everything"
            )


def rollout(attention: Sequence[Tensor], readout: Tensor, token_layout: TargetLayer) -> Tensor:
    """Attention rollout: Â = rownorm(mean_h A + I), and the row that the head reads of Â_L ⋯ Â_1.

    Abnar & Zuidema, ACL 2020, section 3. Rows of A sum to 1, so Â = (mean_h A + I) / 2. The row
    sums to 1 over all tokens; the map shows the patches.

    Args:
        attention: A.
        readout: (b, 1 or h, N) weights by which the head reads the tokens.
        token_layout: Where the patches are.
    """
    row = readout.mean(1)
    for matrix in reversed(attention):
        row = (row + _row_times(row, matrix).mean(1)) / 2
    return on_grid(row, token_layout)


def chefer(
    attention: Sequence[Tensor],
    attention_gradients: Sequence[Tensor],
    readout_relevance: Tensor,
    latent_pool: LatentPool | None,
    token_layout: TargetLayer,
) -> Tensor:
    """Relevance of Chefer: Ā = mean_h (∇A ⊙ A)⁺, R ← R + Ā R from R = I, first layer to last.

    Chefer et al., ICCV 2021, equations 5-6. The row that the head reads of R is carried from the
    last layer to the first instead: r ← r + r Ā. The map is what attention adds to R = I.

    Args:
        attention: A.
        attention_gradients: ∇A = dy_c/dA.
        readout_relevance: (b, 1 or h, N) weights by which the class reads the tokens.
        latent_pool: The attention pool of the head; None if it reads fixed weights.
        token_layout: Where the patches are.
    """
    start = readout_relevance.relu().mean(1)
    identity, added = _parts(start, latent_pool)
    for matrix, gradient in zip(reversed(attention), reversed(attention_gradients), strict=True):
        positive = (gradient * matrix).relu_()
        added = added + _row_times(identity + added, positive).mean(1)
    return on_grid(added, token_layout)


def gradient_rollout(
    attention: Sequence[Tensor],
    attention_gradients: Sequence[Tensor],
    readout_relevance: Tensor,
    latent_pool: LatentPool | None,
    token_layout: TargetLayer,
    settings: GradientRolloutSettings,
) -> Tensor:
    """Gradient rollout: rollout of M = ReLU(mean_h ∇A ⊙ A), whose smallest entries are dropped.

    Gildenblat 2020, "Exploring explainability for vision transformers": of each image's M the
    share `discard` of the N² entries, the smallest, becomes 0; then Â = rownorm(M + I) and the
    row of Â_L ⋯ Â_1 that the head reads, as in rollout. Rows are divided by their own sums over
    the keys, and every image has its own threshold. Since ∇A is as large as the logits, larger
    logits weigh attention more against the identity.

    Args:
        attention: A.
        attention_gradients: ∇A = dy_c/dA.
        readout_relevance: (b, 1 or h, N) weights by which the class reads the tokens.
        latent_pool: The attention pool of the head; None if it reads fixed weights.
        token_layout: Where the patches are.
        settings: The share that is dropped.
    """
    start = readout_relevance.mean(1).relu()
    identity, added = _parts(start, latent_pool)
    for matrix, gradient in zip(reversed(attention), reversed(attention_gradients), strict=True):
        fused = without_smallest((gradient * matrix).mean(1).relu_(), settings.discard)
        sums = 1 + fused.sum(-1)
        identity, added = identity / sums, added / sums
        added = added + torch.einsum("bi,bij->bj", identity + added, fused)
    return on_grid(added, token_layout)


def without_smallest(matrix: Tensor, share: float) -> Tensor:
    """Set the smallest entries of each matrix to 0, with all that equal the largest of them.

    Args:
        matrix: (b, N, N), not negative.
        share: Of the N² entries, rounded down.
    """
    flat = matrix.flatten(1)
    count = int(share * flat.shape[1])
    if not count:
        return matrix
    largest_dropped = flat.kthvalue(count, dim=1).values
    return matrix.masked_fill(matrix <= largest_dropped[:, None, None], 0)


def _parts(start: Tensor, latent_pool: LatentPool | None) -> tuple[Tensor, Tensor]:
    """Split a starting row into what went through no attention yet, and what did: a latent's."""
    nothing = torch.zeros_like(start)
    return (start, nothing) if latent_pool is None else (nothing, start)


def _row_times(row: Tensor, matrix: Tensor) -> Tensor:
    """Multiply a row (b, N) with the matrix of every head (b, h, N, N): (b, h, N)."""
    return (row[:, None, None] @ matrix)[:, :, 0]
