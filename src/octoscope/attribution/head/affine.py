"""Heads that are the mean over positions and one linear layer, for which much has a closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from octoscope.attribution.head.suffix import Suffix
from octoscope.attribution.head.trial import equal, kind_of
from octoscope.models.layout import TargetLayer
from octoscope.models.probe import at_least_float32

NONE = -1
"""Stands for no layer, where a finding is kept."""


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
    """Find out whether the head is affine, or remember it, and read its weights as they are now.

    Returns:
        The head, None if it is not affine.
    """
    layout = (target.name, target.kind, target.grid, target.prefix_tokens, target.places)
    topic = ("affine", *layout, *kind_of(suffix.image))
    parts = list(module.modules())
    place: int | None = suffix.known.get(topic)
    if place is None:
        place = _tried(parts, target, suffix.of_noise())
        suffix.known.put(topic, place)
    return None if place == NONE else _reading(parts[place])


def _reading(part: nn.Module) -> AffineHead:
    """Read W and b of a linear layer, at least float32."""
    assert isinstance(part, nn.Linear)
    weight = at_least_float32(part.weight.detach())
    bias = weight.new_zeros(len(weight)) if part.bias is None else part.bias.detach()
    return AffineHead(weight, bias.to(weight.dtype))


def _tried(parts: list[nn.Module], target: TargetLayer, suffix: Suffix) -> int:
    """Find out whether the head is affine, by trying it on changed activations of one image.

    The last linear layers from C channels to K classes are candidates for W and b. One is right if
    it gives what the model itself gives for the activations of an image of noise as they are, with
    the opposite sign, with random positions zeroed, with random channels scaled and with noise
    added: a ReLU, a norm, a maximum, a product with other layers or a path that passes the layer by
    shows in at least one of them.

    Returns:
        The number of the linear layer among the parts, `NONE` if the head is not affine.
    """
    own = suffix.activations[:1]
    trials = _trials(own)
    logits = suffix(0, trials)
    maps = target.maps(trials).to(logits.dtype)
    shape = (logits.shape[1], maps.shape[1])
    if not logits.isfinite().all():
        return NONE
    for place, part in reversed(list(enumerate(parts))):
        fits = isinstance(part, nn.Linear) and tuple(part.weight.shape) == shape
        if fits and equal(_reading(part)(maps), logits):
            return place
    return NONE


def _trials(own: Tensor) -> Tensor:
    """Return activations (5, …) in the layer's layout: those of an image (1, …), and changed."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float32).to(own.device, own.dtype)

    entries = random(*own.shape)
    scale = own.abs().mean()
    noise = torch.where(scale > 0, scale, 1) * (random(*own.shape) - 0.5)
    return torch.cat([own, -own, own * (entries < 0.5), own * (2 * entries - 1), own + noise])
