"""Counting right and wrong over an epoch, on the device, without waiting for it at every step."""

from __future__ import annotations

import torch
from torch import Tensor


class Tally:
    """Sums over the scans of one pass.

    Attributes:
        confusion: ``(K, K)`` int64, rows are true classes, columns predicted ones.
        loss_sum: Sum of the loss over scans.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
        self.loss_sum = torch.zeros((), device=device)
        self._one = torch.ones((), dtype=torch.int64, device=device)

    def add(self, logits: Tensor, target: Tensor, mean_loss: Tensor) -> None:
        """Add a batch: logits ``(B, K)``, true classes ``(B,)`` and the batch's mean loss."""
        seen = (target, logits.detach().argmax(dim=1))
        self.confusion.index_put_(seen, self._one, accumulate=True)
        self.loss_sum += mean_loss.detach() * len(target)

    def scores(self) -> dict[str, float]:
        """Return ``loss``, ``accuracy``, ``balanced_accuracy`` and the accuracy of each class.

        The accuracy of class k is the share of its scans that are right (its sensitivity), key
        ``k``; a class without scans has NaN and does not count in the balanced accuracy, the mean
        over classes.
        """
        confusion = self.confusion.cpu().double()
        correct, support = confusion.diag(), confusion.sum(dim=1)  # (K,), (K,)
        per_class = correct / support  # 0/0 is NaN
        count = support.sum()
        return {
            "loss": float(self.loss_sum.cpu().double() / count),
            "accuracy": float(correct.sum() / count),
            "balanced_accuracy": float(per_class.nanmean()),
            **{str(k): float(value) for k, value in enumerate(per_class)},
        }
