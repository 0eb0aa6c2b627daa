"""Heads that are the mean over positions and one linear layer, for which much has a closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from octoscope.attribution.head.suffix import Suffix
from octoscope.attribution.head.trial import equal
from octoscope.models.layout import TargetLayer


@dataclass(frozen=True)
class AffineHead:
    """A head y = W·mean(A) + b.

    Attributes:
        weight: W, (K, C).
        bias: b, (K,).
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, maps: Tensor) -> Tensor:
        """Return the logits (m, K) of activations (m, C, *s)."""
        return maps.flatten(2).mean(2) @ self.weight.T + self.bias


def affine_head(module: nn.Module, target: TargetLayer, suffix: Suffix) -> AffineHead | None:
    """Find out whether the head is affine, by trying it on changed activations of one image.

    The last linear layers from C channels to K classes are candidates for W and b. One is right if
    it gives what the model itself gives for the activations of the first image as they are, with
    the opposite sign, with random positions zeroed, with random channels scaled and with noise
    added: a ReLU, a norm, a maximum, a product with other layers or a path that passes the layer by
    shows in at least one of them.

    Returns:
        The head, None if it is not affine.
    """
    own = suffix.activations[:1]
    trials = _trials(own)
    logits = suffix(0, trials)
    maps = target.maps(trials).to(logits.dtype)
    shape = (logits.shape[1], maps.shape[1])
    for part in reversed(list(module.modules())):
        if isinstance(part, nn.Linear) and tuple(part.weight.shape) == shape:
            weight = part.weight.detach().to(logits.dtype)
            bias = (
                weight.new_zeros(shape[0])
                if part.bias is None
                else part.bias.detach().to(logits.dtype)
            )
            head = AffineHead(weight, bias)
            if logits.isfinite().all() and equal(head(maps), logits):
                return head
    return None


def _trials(own: Tensor) -> Tensor:
    """Return activations (5, …) in the layer's layout: those of an image (1, …), and changed."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(own.device, own.dtype)

    entries = random(*own.shape)
    noise = own.std() * (random(*own.shape) - 0.5)
    return torch.cat([own, -own, own * (entries < 0.5), own * (2 * entries - 1), own + noise])
