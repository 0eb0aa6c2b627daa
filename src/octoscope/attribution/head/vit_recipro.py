"""ViT-ReciproCAM: what a transformer says when its last block sees one patch only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from octoscope.attribution.head.last_block import LastBlock, entering
from octoscope.attribution.head.masks import in_layout, position_masks
from octoscope.attribution.head.query import Keys, Seen, interviewed, keys_of
from octoscope.attribution.head.recipro import of_classes
from octoscope.attribution.head.suffix import Suffix
from octoscope.attribution.head.trial import equal, kind_of
from octoscope.attribution.memory import SHARE, free_bytes, in_pieces, out_of_memory
from octoscope.models.layout import TargetLayer

Form = Literal["linear", "levels", "dense"]
"""Keys and values are linear in what is kept of a patch, or not; or must not be used at all."""
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
    queries: `octoscope.attribution.head.query`. Whether that holds is tried once per model on two
    patches of two images of noise. Otherwise the sequences run through the last block as they are.
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
        count, device = len(activations), activations.device
        numbers = torch.arange(prod(self._layer.grid), device=device)
        if self.form == "dense":
            logits = torch.stack([self._by_sequence(row, numbers) for row in range(count)])
        else:
            images = torch.arange(count)

            def run(piece: Tensor) -> Tensor:
                rows = slice(int(piece[0]), int(piece[-1]) + 1)
                return self._by_query(rows, numbers, self.form)

            logits, _ = in_pieces(run, images, self._images_at_once())
        return logits.unflatten(1, self._layer.grid)

    @cached_property
    def form(self) -> Form:
        """What keys and values are of what is kept of a patch."""
        fused = hasattr(self._last.attention, "fused_attn")
        first = self._layer.prefix_tokens == self._layer.other_tokens > 0 and not self._layer.places
        if not (self._layer.kind == "tokens" and first and fused):
            return "dense"
        known = self._suffix.known
        topic = ("sequences", self._layer.name, self._layer.grid, *kind_of(self._suffix.image))
        if known.get(topic) is None:
            noise = MaskedSequences(
                self._suffix.of_noise(2), self._layer, self._last, gaussian=self._gaussian
            )
            known.put(topic, noise.found_out())
        form: Form = known.get(topic)
        return form

    def found_out(self) -> Form:
        """Find the form out on two images, by comparing it with the masked sequences."""
        some = torch.tensor(
            [0, prod(self._layer.grid) // 2], device=self._suffix.activations.device
        )
        both = slice(0, 2)
        expected = torch.stack([self._by_sequence(row, some) for row in (0, 1)])
        try:
            half, whole, none = self._seen(both, [0.5, 1.0])
            form: Form = "linear" if _halfway(none, half, whole) else "levels"
            found = self._by_query(both, some, form)
        except Exception as error:  # whatever an attention may raise that is run in part
            if out_of_memory(error):
                raise
            return "dense"
        return form if equal(found, expected, SAME) else "dense"

    def _by_sequence(self, row: int, numbers: Tensor) -> Tensor:
        """Return the logits (m, K) of patches (m,) from their sequences."""
        with entering(self._last.block) as entrance:

            def masked(own: Tensor, piece: Tensor) -> Tensor:
                masks = in_layout(self._masks(piece), self._layer)
                entrance.edit = lambda tokens: tokens * masks.to(tokens.dtype)
                return own * masks.to(own.dtype)

            return self._suffix.each(row, numbers, masked)

    def _by_query(self, images: slice, numbers: Tensor, form: Form) -> Tensor:
        """Return the logits (b, m, K) of patches (m,) from the queries of the prefix tokens."""
        prefix = self._layer.prefix_tokens
        bases, keys = self._bases(numbers, form), self._keys(images, form)
        own = self._suffix.activations[images, :prefix]
        rows = own.repeat_interleave(len(numbers), 0)  # (b·m, t, D)

        def prefix_only(tokens: Tensor) -> Tensor:
            """Return the prefix of tokens, which have a row per image, or already one per patch."""
            return tokens[:, :prefix].repeat_interleave(len(rows) // len(tokens), 0)

        with entering(self._last.block) as entrance, interviewed(self._last.attention) as attention:
            attention.give = lambda: keys.attend(bases)
            entrance.edit = prefix_only
            logits = self._suffix.together(images, rows)
        return logits.unflatten(0, (len(own), len(numbers)))

    def _keys(self, images: slice, form: Form) -> Keys:
        """Return keys and values of images."""
        shares = [1.0] if form == "linear" else [1.0, *map(float, self._levels[1:])]
        own, *levels, none = self._seen(images, shares)
        return keys_of(own, none, levels or [own], self._layer.prefix_tokens)

    def _bases(self, numbers: Tensor, form: Form) -> list[Tensor]:
        """Return φ (m, N) of some patches: G itself, or [G = g] for every level g but zero."""
        masks = self._masks(numbers).flatten(1)
        bases = [masks] if form == "linear" else [(masks == g).float() for g in self._levels[1:]]
        return [F.pad(basis, (self._layer.prefix_tokens, 0)) for basis in bases]

    def _seen(self, images: slice, shares: Sequence[float]) -> list[Seen]:
        """Return what the attention hands over of images whose patches are kept to some shares.

        Last comes what it hands over of the first without patches, in which all are the same.
        """
        prefix = self._layer.prefix_tokens
        tokens = self._suffix.activations[images]
        count = len(tokens)
        kept = [torch.cat([tokens[:, :prefix], s * tokens[:, prefix:]], 1) for s in shares]
        empty = torch.cat([tokens[:1, :prefix], torch.zeros_like(tokens[:1, prefix:])], 1)
        rows = torch.cat([*kept, empty])
        with interviewed(self._last.attention) as attention:
            seen = attention.seen_in(partial(self._suffix.together, images, rows))
        return [seen.of(slice(i, i + count)) for i in range(0, len(rows), count)]

    def _images_at_once(self) -> int:
        """Return of how many images all patches fit into memory together.

        Each takes about four times its attention (t, N, N) of every head, and of every patch twelve
        times its prefix tokens (t, D), in single precision.
        """
        activations = self._suffix.activations
        tokens, wide = activations.shape[1:]
        heads = getattr(self._last.attention, "num_heads", 1)
        each = 4 * self._layer.prefix_tokens * tokens * (4 * heads * tokens + 12 * wide)
        return max(1, min(len(activations), int(SHARE * free_bytes(activations.device)) // each))

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


def _halfway(none: Seen, half: Seen, whole: Seen) -> bool:
    """Say whether keys and values of patches kept by half are halfway between none and whole."""
    return all(
        equal(middle, (low + high) / 2)
        for low, middle, high in (
            (none.key, half.key[:1], whole.key[:1]),
            (none.value, half.value[:1], whole.value[:1]),
        )
    )
