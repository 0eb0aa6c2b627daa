"""ViT-ReciproCAM: what a transformer says when its last block sees one patch only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from math import prod

import torch
from torch import Tensor

from octoscope.attribution.head.last_block import LastBlock, entering
from octoscope.attribution.head.masks import in_layout, position_masks
from octoscope.attribution.head.query import Keys, interviewed, keys_of
from octoscope.attribution.head.recipro import of_classes
from octoscope.attribution.head.suffix import Suffix
from octoscope.attribution.head.trial import equal
from octoscope.attribution.memory import out_of_memory
from octoscope.models.layout import TargetLayer

SAME = 1e-4
"""Deviation of the closed form from the masked sequences, relative to the largest logit, that is
rounding; where the form does not hold, they differ in the first digits."""


@dataclass(frozen=True)
class VitReciproSettings:
    """What can be set of ViT-ReciproCAM.

    Attributes:
        gaussian: Whether the neighbours of the patch are kept in part, by a 3×3 Gaussian (1/16,
            1/8, 1/4 at the centre), as in the paper, or zeroed like all others.
    """

    gaussian: bool = True


def vit_reciprocam(masked_sequences: Tensor, classes: Tensor) -> Tensor:
    """ViT-ReciproCAM: M_p = y_c of the sequence [prefix tokens, G_p ⊙ patch tokens].

    Byun & Lee, arXiv 2310.02588, section 3: both what the last block's attention sees (its norm's
    output) and the residual stream beside it are masked. What is returned is the logit itself,
    before the paper's min-max normalisation, so only a map's order and differences have a meaning.

    Args:
        masked_sequences: (b, *s, K).
        classes: (b,).

    Returns:
        (b, *s), signed.
    """
    return of_classes(masked_sequences, classes)


class MaskedSequences:
    """The logits of masked sequences, for every patch and class.

    A head that reads the prefix tokens alone (class token, distillation token) needs only their
    queries: `octoscope.attribution.head.query`. Whether that holds is tried on two patches of the
    first image. Otherwise the sequences run through the last block as they are.

    Attributes:
        closed: Whether the queries of the prefix tokens suffice.
    """

    def __init__(
        self, suffix: Suffix, layer: TargetLayer, last: LastBlock, *, gaussian: bool
    ) -> None:
        self._suffix = suffix
        self._layer = layer
        self._last = last
        self._gaussian = gaussian

    def __call__(self) -> Tensor:
        """Return (b, *s, K)."""
        activations = self._suffix.activations
        numbers = torch.arange(prod(self._layer.grid), device=activations.device)
        run = self._by_query if self.closed else self._by_sequence
        logits = torch.stack([run(row, numbers) for row in range(len(activations))])
        return logits.unflatten(1, self._layer.grid)

    @cached_property
    def closed(self) -> bool:
        """Whether the closed form gives what the masked sequences give."""
        fused = hasattr(self._last.attention, "fused_attn")
        if not (self._layer.kind == "tokens" and self._layer.prefix_tokens and fused):
            return False
        some = torch.tensor(
            [0, prod(self._layer.grid) // 2], device=self._suffix.activations.device
        )
        expected = self._by_sequence(0, some)
        try:
            found = self._by_query(0, some)
        except Exception as error:  # whatever an attention may raise that is run in part
            if out_of_memory(error):
                raise
            return False
        return equal(found, expected, SAME)

    def _by_sequence(self, row: int, numbers: Tensor) -> Tensor:
        """Return the logits (m, K) of patches (m,) from their sequences."""
        with entering(self._last.block) as entrance:

            def masked(own: Tensor, piece: Tensor) -> Tensor:
                masks = in_layout(self._masks(piece), self._layer)
                entrance.edit = lambda tokens: tokens * masks.to(tokens.dtype)
                return own * masks.to(own.dtype)

            return self._suffix.each(row, numbers, masked)

    def _by_query(self, row: int, numbers: Tensor) -> Tensor:
        """Return the logits (m, K) of patches (m,) from the queries of the prefix tokens."""
        prefix, levels = self._layer.prefix_tokens, self._levels
        keys = self._keys(row)
        with entering(self._last.block) as entrance, interviewed(self._last.attention) as attention:

            def prefix_only(own: Tensor, piece: Tensor) -> Tensor:
                level = torch.searchsorted(levels, self._masks(piece).flatten(1))  # (m, n)
                attention.give = lambda: keys.attend(level)
                entrance.edit = lambda tokens: tokens[:, :prefix]
                return own[:, :prefix].expand(len(piece), -1, -1)

            return self._suffix.each(row, numbers, prefix_only)

    def _keys(self, row: int) -> Keys:
        """Return keys and values of an image's patches at every level."""
        seen = []
        with interviewed(self._last.attention) as attention:
            for level in self._levels:
                shares = in_layout(level.expand(1, *self._layer.grid), self._layer)
                tokens = self._suffix.activations[row : row + 1]
                tokens = tokens * shares.to(tokens.dtype)
                seen.append(attention.seen_in(partial(self._suffix, row, tokens)))
        return keys_of(seen, self._layer.prefix_tokens)

    def _masks(self, numbers: Tensor) -> Tensor:
        """Return G (m, *s) of some patches."""
        return position_masks(self._layer.grid, numbers, gaussian=self._gaussian)

    @cached_property
    def _levels(self) -> Tensor:
        """(L,) the shares that masks keep of a patch, ascending."""
        device = self._suffix.activations.device
        grid = tuple(min(length, 4) for length in self._layer.grid)  # larger ones add none
        numbers = torch.arange(prod(grid), device=device)
        return position_masks(grid, numbers, gaussian=self._gaussian).unique()
