"""Attention of a few queries to sequences that differ in how much of each token they keep.

In the sequence of patch p token n is kept to a share G_pn, of which there are few different ones
(its levels). What a token's key and value are depends on its own share alone, so they are computed
once per level and picked per sequence: out_p = Σ_n softmax_n(q·k_n(G_pn)·s + bias_n) v_n(G_pn).
Keys, values and bias are those which the attention itself hands to PyTorch's
``scaled_dot_product_attention``, so query and key norms, rotary and relative positions are in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from octoscope.attribution.head.replay import at_least_float32
from octoscope.models.borrow import turned


@dataclass(frozen=True)
class Keys:
    """What queries meet, per level.

    Attributes:
        scores: (L, h, t, N) scaled products of the t queries with the keys, and bias.
        values: (L, h, N, d).
        prefix: Tokens before the patches, which are always kept whole.
    """

    scores: Tensor
    values: Tensor
    prefix: int

    def attend(self, level: Tensor) -> Tensor:
        """Return what the queries read, (m, h, t, d).

        Args:
            level: (m, n) index of the level of each patch in each sequence.
        """
        level = F.pad(level, (self.prefix, 0))  # any: prefix tokens are the same at every level
        tokens = torch.arange(level.shape[1], device=level.device)
        scores = self.scores.permute(0, 3, 1, 2)[level, tokens]  # (m, N, h, t)
        weights = scores.softmax(1)
        out = torch.zeros((), device=level.device)
        for number, values in enumerate(self.values):
            here = weights * (level == number)[:, :, None, None]
            out = out + torch.einsum("mnht,hnd->mhtd", here, values)
        return out


def keys_of(seen: list[Seen], prefix: int) -> Keys:
    """Return the keys of levels from what the attention handed over at each.

    Args:
        seen: One per level.
        prefix: Tokens before the patches, whose queries are asked.
    """
    query = at_least_float32(seen[0].query[0, :, :prefix])  # (h, t, d), the same at every level
    keys = at_least_float32(torch.cat([one.key for one in seen]))  # (L, h, N, d)
    scores = seen[0].scale * query @ keys.mT
    bias = seen[0].bias
    if bias is not None:
        bias = bias.expand(1, *scores.shape[1:2], keys.shape[2], keys.shape[2])[:, :, :prefix]
        scores = (
            scores.masked_fill(~bias, -torch.inf) if bias.dtype == torch.bool else scores + bias
        )
    values = at_least_float32(torch.cat([one.value for one in seen]))
    return Keys(scores, values, prefix)


@dataclass(frozen=True)
class Seen:
    """What an attention hands over: query, key and value (1, h, N, d), bias and scale."""

    query: Tensor
    key: Tensor
    value: Tensor
    bias: Tensor | None
    scale: float


class _Known(Exception):
    """Ends a pass when all that is wanted of it is known."""

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
        except _Known as known:
            return known.seen
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
            raise _Known(Seen(query, key, value, attn_mask, scale or query.shape[-1] ** -0.5))
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
