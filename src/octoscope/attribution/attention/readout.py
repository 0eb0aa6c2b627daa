"""What a transformer's head reads of the tokens of the last layer, and what it says to others.

Most heads read fixed weights of the tokens: the class token, class and distillation token, or the
mean over patches. Heads with an attention pool (SigLIP) read them by the attention of one latent
query, which is then the last attention of the network: for every method here the latent stands
where the class token stands in other networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octoscope.attribution.source import Batch
from octoscope.errors import OctoscopeError
from octoscope.models.borrow import turned
from octoscope.models.probe import logits_of

CLOSE = 0.05
"""Share of the largest logit by which the head, run again, may differ: rounding of bfloat16."""


@dataclass(frozen=True)
class LatentPool:
    """The attention of a latent query over the tokens.

    Attributes:
        attention: (b, heads, N), rows of weights; 0 for prefix tokens that it does not see.
        values: (b, heads, N, d) what is weighed.
        received: (b, 1, heads·d) the weighed sum, in the graph.
        scores: (b, K) the logits, in the graph.
    """

    attention: Tensor
    values: Tensor
    received: Tensor
    scores: Tensor

    def gradients(self, classes: Tensor) -> Tensor:
        """Return dy_c/da, (b, heads, N): with o = Σ_n a_n v_n it is (dy_c/do)·v_n."""
        chosen = self.scores.gather(1, classes[:, None]).sum()
        (received,) = torch.autograd.grad(chosen, self.received, retain_graph=True)
        heads, depth = self.values.shape[1], self.values.shape[3]
        by_head = _precise(received)[:, 0].unflatten(-1, (heads, depth))
        return torch.einsum("bhd,bhnd->bhn", by_head, self.values)


@dataclass(frozen=True)
class LayerScores:
    """What the head says of the tokens after every block.

    Attributes:
        tokens: (L·b, N, D) the tokens, out of the graph of their own layers.
        scores: (L·b, K) the scores, in a graph from them.
        count: L.
    """

    tokens: Tensor
    scores: Tensor
    count: int

    @property
    def by_layer(self) -> Tensor:
        """(b, L, K)."""
        return self.scores.unflatten(0, (self.count, -1)).transpose(0, 1)

    def gradients(self, classes: Tensor) -> tuple[Tensor, ...]:
        """Return ds^l_c/dZ^l of every layer: L tensors (b, N, D)."""
        chosen = self.by_layer[torch.arange(len(classes), device=classes.device), :, classes].sum()
        (found,) = torch.autograd.grad(chosen, self.tokens, retain_graph=True)
        return found.chunk(self.count)


def scores_of(batch: Batch, tokens: Tensor) -> Tensor:
    """Return what the model would say if these were the tokens after the last block.

    The whole model is called, with its blocks taken out meanwhile, so that whatever wraps the
    network and comes after it is heeded.

    Args:
        batch: The batch; its images are repeated to fit.
        tokens: (m·b, N, D), in a graph or not.

    Returns:
        (m·b, K) logits.
    """
    assert batch.attention is not None
    network: Any = batch.attention.network
    repeats = len(tokens) // len(batch.images)
    images = batch.images.repeat(repeats, *[1] * (batch.images.ndim - 1))

    def start(_norm: nn.Module, _inputs: tuple[Any, ...]) -> tuple[Tensor]:
        torch.set_grad_enabled(True)  # also within a wrapper's own no_grad
        return (tokens.view_as(tokens),)

    hook = network.norm.register_forward_pre_hook(start)
    try:
        with turned((network, "blocks", nn.Sequential())), torch.enable_grad():
            return logits_of(batch.module(images))
    finally:
        hook.remove()


def require_same(again: Tensor, logits: Tensor) -> None:
    """Make sure that the head, run again on the last tokens, gives the logits of the pass.

    Raises:
        OctoscopeError: If it does not, so that gradients of it would explain something else.
    """
    scale = logits.abs().amax(1, keepdim=True)
    if bool(((_precise(again) - logits).abs() > CLOSE * scale).any()):
        raise OctoscopeError(
            "the logits are not what norm and head make of the last block's tokens, so the head "
            "cannot be asked about them; use rollout or gradcam"
        )


def latent_pool(batch: Batch) -> LatentPool | None:
    """Return the attention pool of the head, None if it has none."""
    stack = batch.attention
    assert stack is not None
    if stack.pooling != "map":
        return None
    pool: Any = stack.network.attn_pool
    last = batch.evidence.activations[stack.layers[-1].block_name]
    tokens = last.detach().to(next(pool.parameters()).dtype).requires_grad_()
    with _watched(pool) as seen:
        scores = scores_of(batch, tokens)
    require_same(scores, batch.evidence.logits)
    queries, keys = _precise(seen["queries"]), _precise(seen["keys"])
    attention = (pool.scale * queries @ keys.mT).softmax(-1)[:, :, 0]  # (b, heads, n)
    values = _precise(seen["values"]).unflatten(-1, (2, pool.num_heads, -1))
    values = values[:, :, 1].transpose(1, 2)  # (b, heads, n, d)
    unseen = tokens.shape[1] - attention.shape[-1]
    return LatentPool(
        attention=F.pad(attention, (unseen, 0)),
        values=F.pad(values, (0, 0, unseen, 0)),
        received=seen["received"],
        scores=scores,
    )


@contextmanager
def _watched(pool: Any) -> Iterator[dict[str, Tensor]]:
    """Yield what goes through timm's attention pool while it runs."""
    seen: dict[str, Tensor] = {}
    with ExitStack() as undo:
        for name, part in (("queries", pool.q_norm), ("keys", pool.k_norm), ("values", pool.kv)):

            def keep(_module: nn.Module, _inputs: Any, out: Tensor, name: str = name) -> None:
                seen[name] = out

            undo.callback(part.register_forward_hook(keep).remove)

        def receive(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen["received"] = inputs[0]

        undo.callback(pool.proj.register_forward_pre_hook(receive).remove)
        yield seen


def _precise(tensor: Tensor) -> Tensor:
    """Return a tensor out of its graph, at least float32."""
    tensor = tensor.detach()
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
