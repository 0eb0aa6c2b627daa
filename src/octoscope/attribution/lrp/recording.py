"""One forward of a vision transformer that keeps what z⁺ relevance is propagated with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octoscope.attribution.lrp import zplus
from octoscope.errors import OctoscopeError
from octoscope.models.attention import AttentionLayer, AttentionStack, find_attention
from octoscope.models.probe import logits_of


@dataclass
class Recording:
    """What went into and came out of the layers of a transformer, for a batch of images.

    Attributes:
        stack: The transformer.
        inputs: Layer to its input.
        outputs: Layer to its output.
        network_logits: (b, K) what the transformer gives, where a graph starts.
        score: (b, K) what the model makes of it, in the graph: the same, unless a wrapper, say,
            reorders or scales classes.
    """

    stack: AttentionStack
    inputs: dict[nn.Module, Tensor] = field(default_factory=dict)
    outputs: dict[nn.Module, Tensor] = field(default_factory=dict)
    network_logits: Tensor = field(default_factory=lambda: torch.empty(0))
    score: Tensor = field(default_factory=lambda: torch.empty(0))
    _totals: dict[nn.Module, Tensor] = field(default_factory=dict)

    def seed(self, classes: Tensor) -> Tensor:
        """Return the relevance to start with, (b, K): 1 at the class explained."""
        wanted = F.one_hot(classes, self.score.shape[1]).to(self.score.dtype)
        (gradient,) = torch.autograd.grad(
            self.score, self.network_logits, grad_outputs=wanted, retain_graph=True
        )
        relevance = gradient.ne(0).to(gradient.dtype)
        if bool((relevance.sum(1) != 1).any()):
            raise OctoscopeError(
                f"the logits mix what {type(self.stack.network).__name__} gives, for which there "
                "is no rule; use chefer instead"
            )
        return relevance

    def through(self, layer: nn.Module, relevance: Tensor) -> Tensor:
        """Propagate relevance (b, …, out) through a linear layer, to (b, …, in)."""
        linear, inputs = cast(nn.Linear, layer), self.inputs[layer]
        if layer not in self._totals:  # the same for all classes
            self._totals[layer] = zplus.positive_products(inputs, linear.weight)
        return zplus.linear(relevance, inputs, linear.weight, self._totals[layer])

    def projections(self, layer: AttentionLayer) -> tuple[Tensor, Tensor, Tensor]:
        """Return Q, K and V of a block, each (b, heads, N, d)."""
        attention = cast(Any, layer.attention)
        query, key = self.outputs[attention.q_norm], self.outputs[attention.k_norm]
        value = self.outputs[attention.qkv].unflatten(-1, (3, query.shape[1], -1))[:, :, 2]
        return query, key, value.transpose(1, 2)


def record(module: nn.Module, images: Tensor) -> Recording:
    """Run a lent model on images (b, C, H, W) and keep what its transformer's layers see."""
    recording = Recording(find_attention(module))
    with torch.inference_mode(False), torch.no_grad(), _watched(recording):
        recording.score = logits_of(module(images))
    if any(head not in recording.outputs for head in heads(recording.stack.network)):
        raise OctoscopeError(
            f"the logits are not made by the head of {type(recording.stack.network).__name__}, "
            "and for another there is no rule; use chefer instead"
        )
    return recording


@contextmanager
def _watched(recording: Recording) -> Iterator[None]:
    """Hooks on, for one pass."""

    def keep(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        recording.inputs[layer] = inputs[0]
        recording.outputs[layer] = output

    def start_graph(_network: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Tensor:
        recording.network_logits = logits_of(output).detach().requires_grad_()
        torch.set_grad_enabled(True)  # until the end of the pass
        return recording.network_logits.clone()

    with ExitStack() as undo:
        for layer in _layers(recording.stack):
            undo.callback(layer.register_forward_hook(keep).remove)
        last = recording.stack.network.register_forward_hook(start_graph)
        undo.callback(last.remove)
        yield


def _layers(stack: AttentionStack) -> Iterator[nn.Module]:
    """Yield every layer of a plain vision transformer that relevance passes, but the first ones."""
    network = cast(Any, stack.network)
    yield from heads(network)
    yield network.norm
    for layer in stack.layers:
        block, attention = cast(Any, layer.block), cast(Any, layer.attention)
        yield from (block, block.drop_path1, block.mlp.fc1, block.mlp.fc2, block.drop_path2)
        yield from (attention.q_norm, attention.k_norm, attention.qkv, attention.proj)


def heads(network: Any) -> list[nn.Linear]:
    """Return the linear heads: one, or with a distillation token two, whose mean counts."""
    second = getattr(network, "head_dist", None)
    return [network.head] if second is None else [network.head, second]
