"""What a model says while pixels are taken away or put in, in the order of a map."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Curves:
    """What a model says to images of which more and more is changed.

    Attributes:
        fractions: (S+1,) float64, share of the pixels deleted or inserted.
        values: Kind → method → (B, S+1) float64, softmax probability of the target class; NaN
            where the map says nothing.
        logits: The same of the target's logit.
        kept: The same of whether the target is the class predicted, 0 or 1.
    """

    fractions: Tensor
    values: dict[str, dict[str, Tensor]]
    logits: dict[str, dict[str, Tensor]]
    kept: dict[str, dict[str, Tensor]]
