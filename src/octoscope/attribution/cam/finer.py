"""Finer-CAM: what speaks for a class rather than for those that resemble it."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor
from torch.nn import functional as F

from octoscope.attribution.cam.gradients import gradcam
from octoscope.errors import OctoscopeError


@dataclass(frozen=True)
class FinerSettings:
    """What can be set of Finer-CAM.

    Attributes:
        gamma: Strength γ of the comparison; 0 gives Grad-CAM, 1 the plain difference.
        classes: Number n of most similar classes that the class is compared with; with fewer
            others, all of them.
    """

    gamma: float = 0.6
    classes: int = 3

    def __post_init__(self) -> None:
        if not isfinite(self.gamma) or self.gamma < 0:
            raise OctoscopeError(f"finercam: gamma={self.gamma} is no strength; use 0 or more")
        if not isinstance(self.classes, int) or self.classes < 1:
            raise OctoscopeError(
                f"finercam: classes={self.classes} is no number of classes to compare with; "
                "use 1 or more"
            )


def finercam(activations: Tensor, finer_gradients: Tensor) -> Tensor:
    """Finer-CAM: Grad-CAM of y_c - γ (1/n) Σ_d y_d, d the n classes most similar to c.

    Zhang et al., CVPR 2025, section 3, in its form with a mean over several classes. The paper's
    map is ReLU(M). Similar are the classes with the nearest logits.

    Args:
        activations: A, (b, C, *s).
        finer_gradients: The gradient of that score with respect to A, (b, C, *s).
    """
    return gradcam(activations, finer_gradients)


def comparison(logits: Tensor, classes: Tensor, settings: FinerSettings) -> Tensor:
    """Return the weights w (b, K) of the score Σ_k w_k y_k = y_c - γ (1/n) Σ_d y_d.

    Args:
        logits: (b, K).
        classes: (b,) the class c of each image.
        settings: γ and n.
    """
    own = F.one_hot(classes, logits.shape[1])
    n = min(settings.classes, logits.shape[1] - 1)
    if n == 0:  # a single logit has nothing to be compared with
        return own.to(logits.dtype)
    apart = (logits - logits.gather(1, classes[:, None])).abs()
    nearest = apart.masked_fill(own.bool(), torch.inf).argsort(dim=1, stable=True)[:, :n]
    others = torch.zeros_like(logits).scatter_(1, nearest, settings.gamma / n)
    return own - others
