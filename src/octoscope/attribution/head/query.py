"""Attention of a few queries to sequences that differ in how much of each token they keep.

In the sequence of patch p token n is kept to a share G_pn. What its key and value are depends on
that share alone, most often linearly: k_n(G) = k_n(0) + G (k_n(1) - k_n(0)). A norm of the keys
breaks this; then there are still few different shares (levels), and k_n(G) = k_n(0) +
Σ_l [G = g_l] (k_n(g_l) - k_n(0)). So keys and values are computed once per image, or once per
level, and out_p = Σ_n softmax_n(q·k_n(G_pn)·s + bias_n) v_n(G_pn) is the same few products for all
patches. Keys, values and bias are those which the attention itself hands to PyTorch's
``scaled_dot_product_attention``, so query and key norms, rotary and relative positions are in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from octoscope.models.borrow import turned
from octoscope.models.probe import at_least_float32


@dataclass(frozen=True)
class Keys:
    """What the queries of images meet: x(G) = x_0 + Σ_i φ_i(G) Δ_i for a key or value x.

    Attributes:
        scores: (b, h, t, N) scaled products of the t queries with the keys at share 0, and bias.
        values: (b, h, N, d) at share 0.
        steps: For each φ_i what it adds: scores (b, h, t, N) and values (b, h, N, d).
    """

    scores: Tensor
    values: Tensor
    steps: list[tuple[Tensor, Tensor]]

    def attend(self, bases: Sequence[Tensor]) -> Tensor:
        """Return what the queries read, (b·m, h, t, d).

        Args:
            bases: For each φ_i its values (m, N) of every token in every sequence.
        """
        scores = self.scores.unsqueeze(3)
        for basis, (step, _) in zip(bases, self.steps, strict=True):
            scores = torch.addcmul(scores, basis.to(step.dtype), step.unsqueeze(3))
        weights = scores.softmax(-1)  # (b, h, t, m, N)
        out = weights @ self.values.unsqueeze(2)  # (b, h, t, m, d)
        for basis, (_, step) in zip(bases, self.steps, strict=True):
            out = out + (weights * basis.to(weights.dtype)) @ step.unsqueeze(2)
        return out.permute(0, 3, 1, 2, 4).flatten(0, 1)


def keys_of(own: Seen, none: Seen, levels: Sequence[Seen], prefix: int) -> Keys:
    """Return the keys of images from what the attention handed over.

    Args:
        own: Of the whole tokens.
        none: Of patches that are zero, which may be a single image's.
        levels: For each φ_i, what its patches are where it is 1 and the others are 0.
        prefix: Tokens before the patches, whose queries are asked; they are always kept whole.
    """
    query = own.scale * at_least_float32(own.query[:, :, :prefix])  # (b, h, t, d)
    key, value = (
        torch.cat([whole[:, :, :prefix], empty[:, :, prefix:].expand_as(whole[:, :, prefix:])], 2)
        for whole, empty in ((own.key, none.key), (own.value, none.value))
    )
    scores = query @ at_least_float32(key).mT
    values = at_least_float32(value)
    steps = [
        (query @ at_least_float32(one.key).mT - scores, at_least_float32(one.value) - values)
        for one in levels
    ]
    if own.bias is not None:
        tokens = key.shape[2]
        bias = own.bias.expand(1, key.shape[1], tokens, tokens)[:, :, :prefix]
        scores = (
            scores.masked_fill(~bias, -torch.inf) if bias.dtype == torch.bool else scores + bias
        )
    return Keys(scores, values, steps)


@dataclass(frozen=True)
class Seen:
    """What an attention hands over: query, key and value (b, h, N, d), bias and scale."""

    query: Tensor
    key: Tensor
    value: Tensor
    bias: Tensor | None
    scale: float

    def of(self, images: slice) -> Seen:
        """Return what is handed over of some images."""
        query, key, value = (one[images] for one in (self.query, self.key, self.value))
        return Seen(query, key, value, self.bias, self.scale)


class _Asked(Exception):
    """Ends a pass once the attention has asked, when no more is wanted of it."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen


class Interview:
    """What happens when an attention asks for its product.

    Attributes:
        give: Makes what it gets instead, (m, h, t, d); None to let it compute.
    """

    def __init__(self) -> None:
        self.give: Callable[[], Tensor] | None = None
        self._asking = False

    def seen_in(self, run: Callable[[], object]) -> Seen:
        """Return what the attention hands over in a run, which ends there.

        Raises:
            RuntimeError: If it never asks.
        """
        self._asking = True
        try:
            run()
        except _Asked as asked:
            return asked.seen
        finally:
            self._asking = False
        raise RuntimeError("the attention computes no scaled_dot_product_attention")

    def answer(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Stand in for ``scaled_dot_product_attention`` (its parameters)."""
        if self.give is not None:
            return self.give().to(value.dtype)
        if self._asking and not (is_causal or enable_gqa):
            raise _Asked(Seen(query, key, value, attn_mask, scale or query.shape[-1] ** -0.5))
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )


class _Listening(TorchFunctionMode):
    """Passes on what an attention asks while it runs."""

    def __init__(self, interview: Interview) -> None:
        super().__init__()
        self.on = False
        self._interview = interview

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if self.on and function is F.scaled_dot_product_attention:
            return self._interview.answer(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


@contextmanager
def interviewed(attention: nn.Module) -> Iterator[Interview]:
    """Stand in for the product of one attention, for the length of the context.

    While it is given what its queries read, it sees only prefix tokens, which rotary positions do
    not turn, so it gets none.
    """
    interview = Interview()
    mode = _Listening(interview)

    def enter(_attention: nn.Module, inputs: Any, named: dict[str, Any]) -> Any:
        mode.on = True
        if interview.give is not None and "rope" in named:
            named = {**named, "rope": None}
        return inputs, named

    def leave(_attention: nn.Module, _inputs: Any, _output: Any) -> None:
        mode.on = False

    with ExitStack() as undo:
        undo.enter_context(turned((attention, "fused_attn", True)))
        undo.callback(attention.register_forward_pre_hook(enter, with_kwargs=True).remove)
        undo.callback(attention.register_forward_hook(leave).remove)
        undo.enter_context(mode)
        yield interview
