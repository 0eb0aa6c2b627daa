"""Exponential moving average of the weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class MovingAverage(nn.Module):
    """Keeps ``average ← d · average + (1 - d) · model`` in a copy of a model.

    Early on the decay is ``d = min(decay, (1 + n) / (10 + n))`` after n updates, so that the
    random initial weights are soon forgotten. Batch statistics are averaged like weights (they
    belong to them), counters are copied.

    Attributes:
        model: The copy, which is evaluated and never trained.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, updates: int) -> None:
        """Take in the weights of `model`; `updates` counts the calls before this one."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        averages, currents = [], []
        for average, current in zip(_tensors(self.model), _tensors(model), strict=True):
            if average.is_floating_point():
                averages.append(average)
                currents.append(current)
            else:
                average.copy_(current)
        torch._foreach_lerp_(averages, currents, 1 - decay)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]
