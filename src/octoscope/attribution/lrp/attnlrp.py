"""AttnLRP: relevance propagated to the pixels, as input times a gradient of its own kind.

What is explained is what the transformer itself is fed, (b, C, H, W). A wrapper such as
`octoscope.models.classifier.Classifier` normalises images before; its shift by the mean would take
relevance as a bias does, and a black background, which the transformer sees as -μ/σ, would get
none. From the transformer's input on, the sum over the pixels is the logit less what the biases,
the class token, the positions and each softmax (Prop 3.1) keep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octoscope.attribution.lrp.defined import require_rules_around
from octoscope.attribution.lrp.rules import Rules
from octoscope.attribution.memory import fitting, in_pieces
from octoscope.attribution.source import Batch
from octoscope.models.attention import find_attention
from octoscope.models.finding import found_in
from octoscope.models.probe import logits_of


def attnlrp(
    attnlrp_inputs: Tensor, attnlrp_gradients: Tensor, logits: Tensor, classes: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """AttnLRP: R = Σ_channels x ⊙ g.

    Achtibat et al., ICML 2024, equations 7-9, propositions 3.1, 3.3 and 3.4.

    Args:
        attnlrp_inputs: x, (b, C, H, W), what the transformer is fed.
        attnlrp_gradients: g, the same shape, from y_c by the rules.
        logits: y, (b, K).
        classes: c, (b,).

    Returns:
        (b, H, W), signed, and ``unexplained`` (b,): y_c less the sum of the map, which is what
        biases, class token, positions and softmax keep.
    """
    map_ = (attnlrp_inputs * attnlrp_gradients).sum(1)
    explained = map_.flatten(1).sum(1)
    return map_, {"unexplained": logits.gather(1, classes[:, None])[:, 0] - explained}


class RuledPass:
    """A forward by the rules, from which the gradients of any class are taken.

    The graph is kept for all classes if the whole batch has room for it; otherwise it is built
    again for every class, for as many images at once as there is room for.

    Attributes:
        inputs: (b, C, H, W) what the transformer is fed.
    """

    def __init__(self, batch: Batch) -> None:
        require_rules_around(batch.module, found_in(batch.module, batch.images))
        self._images = batch.images
        self._run = _Ruled(batch.module)
        count = len(batch.images)
        # A single image must fit anyway, so nothing is measured for it.
        self._most = 1 if count == 1 else fitting(self._run, batch.images[:1], count, graph=True)
        self._kept = self._run.traced(batch.images) if self._most == count else None
        self.inputs = self._kept[0].detach() if self._kept else self._pieces(self._inputs)

    def gradients(self, classes: Tensor) -> Tensor:
        """Return g of y_c with respect to `inputs`, (b, C, H, W), for the classes (b,)."""
        if self._kept is not None:
            return _gradients(*self._kept, classes)

        def run(rows: Tensor) -> Tensor:
            return _gradients(*self._run.traced(self._images[rows]), classes[rows])

        return self._pieces(run)

    def _inputs(self, rows: Tensor) -> Tensor:
        return self._run.traced(self._images[rows])[0].detach()

    def _pieces(self, run: Callable[[Tensor], Tensor]) -> Tensor:
        rows = torch.arange(len(self._images), device=self._images.device)
        found, self._most = in_pieces(run, rows, self._most)
        return found


class _Ruled(nn.Module):
    """A model whose forward goes by the rules."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.network: Any = find_attention(module).network

    def forward(self, images: Tensor) -> Tensor:
        return self.traced(images)[1]

    def traced(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the transformer is fed, where the graph starts, and the logits in it."""
        fed: list[Tensor] = []

        def start(_network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            torch.set_grad_enabled(True)  # also within a wrapper's own no_grad
            fed.append(inputs[0].detach().requires_grad_())
            return (fed[0].clone(), *inputs[1:])  # a leaf may not be written into

        # Not at the transformer itself: some are run by parts (`forward_features`).
        hook = self.network.patch_embed.register_forward_pre_hook(start)
        try:
            with torch.inference_mode(False), torch.enable_grad(), Rules():
                score = logits_of(self.module(images.detach()))
        finally:
            hook.remove()
        return fed[0], score


def _gradients(inputs: Tensor, score: Tensor, classes: Tensor) -> Tensor:
    wanted = F.one_hot(classes, score.shape[1]).to(score.dtype)
    return torch.autograd.grad(score, inputs, grad_outputs=wanted, retain_graph=True)[0]
