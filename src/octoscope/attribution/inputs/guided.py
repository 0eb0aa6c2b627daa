"""Maps from backward passes through ReLUs by other rules than the chain rule.

All three mostly redraw the edges of the image and hardly change when the upper layers are made
random (Adebayo et al., NeurIPS 2018): they say where there is structure that the network could
use. With C channels the map is their sum, which for a grey image repeated to C channels is what
its grey values would get.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from octoscope.attribution.cam.gradients import gradcam
from octoscope.attribution.display import upsample
from octoscope.attribution.inputs.gradient import BACK, THERE, AtImages, at_the_images
from octoscope.attribution.inputs.rectifiers import Rectifiers, Rule, require_followed
from octoscope.attribution.source import Batch, Source
from octoscope.models.output import tensors_in


def guided_backprop(guided_gradients: Tensor) -> Tensor:
    """Guided backpropagation: Σ over channels of R at the pixels, signed.

    Springenberg et al., ICLR workshop 2015, section 3.4: at each ReLU,
    R_in = 1[f > 0] · 1[R > 0] · R.

    Args:
        guided_gradients: R (b, C, *S).

    Returns:
        (b, *S).
    """
    return guided_gradients.sum(1)


def deconvolution(deconvolved_gradients: Tensor) -> Tensor:
    """Deconvolution: Σ over channels of R at the pixels, signed.

    Zeiler & Fergus, ECCV 2014, section 2.1, in the form of Springenberg et al. 2015: at each
    ReLU, R_in = 1[R > 0] · R; all else is the backward pass.

    Args:
        deconvolved_gradients: R (b, C, *S).

    Returns:
        (b, *S).
    """
    return deconvolved_gradients.sum(1)


def guided_gradcam(activations: Tensor, gradients: Tensor, guided_gradients: Tensor) -> Tensor:
    """Guided Grad-CAM: ReLU(Grad-CAM), upsampled linearly to the image, ⊙ guided backpropagation.

    Selvaraju et al., ICCV 2017, section 3.2. captum upsamples by the nearest cell unless told.

    Args:
        activations: A (b, K, *s).
        gradients: g = dy_c/dA (b, K, *s).
        guided_gradients: R (b, C, *S).

    Returns:
        (b, *S), signed.
    """
    coarse = gradcam(activations, gradients).relu()
    return upsample(coarse, guided_gradients.shape[2:]) * guided_backprop(guided_gradients)


def _by(batch: Batch, rule: Rule) -> AtImages:
    """Return R at the pixels by a rule, where else are gradients."""

    def check(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            require_followed(tensors_in(output))

    # Before anything is read of the output: a target that is a function has rules of its own.
    hook = batch.module.register_forward_hook(check, prepend=True)
    try:
        with Rectifiers(rule):
            return at_the_images(batch)
    finally:
        hook.remove()


SOURCES = (
    Source(
        "guided_at_images",
        lambda batch: _by(batch, "guided"),
        "guided gradients at the images",
        per_group=True,
    ),
    Source(
        "guided_gradients",
        lambda batch: batch["guided_at_images"].gradients[batch.place],
        "a forward, and one guided backward from the logit to the pixels",
        per_class=True,
        cost=lambda _sizing: BACK,
        cost_of_group=lambda _sizing: THERE,
        logits_from="guided_at_images",
    ),
    Source(
        "deconvolved_at_images",
        lambda batch: _by(batch, "deconvolution"),
        "deconvolved gradients at the images",
        per_group=True,
    ),
    Source(
        "deconvolved_gradients",
        lambda batch: batch["deconvolved_at_images"].gradients[batch.place],
        "a forward, and one backward from the logit to the pixels, deconvolving",
        per_class=True,
        cost=lambda _sizing: BACK,
        cost_of_group=lambda _sizing: THERE,
        logits_from="deconvolved_at_images",
    ),
)
