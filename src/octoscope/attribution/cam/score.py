"""Score-CAM: channels weighted by what the model says of the image seen through each of them."""

from __future__ import annotations

import torch
from torch import Tensor

from octoscope.attribution.display import normalise, on_image
from octoscope.attribution.sizing import Sizing
from octoscope.attribution.source import Batch


def scorecam(activations: Tensor, channel_scores: Tensor, classes: Tensor) -> Tensor:
    """Score-CAM: M = Σ_k a_k A_k with a = softmax_k(s) and s_k = y_c(x ⊙ H_k).

    Wang et al., CVPR Workshops 2020, algorithm 1. The paper's map is ReLU(M). The paper subtracts
    y_c of a black image from every s_k; softmax does not see a constant, so that pass is saved.

    Args:
        activations: A, (b, C, *s).
        channel_scores: (b, C, K), the logits of every masked image, as `channel_scores` gives.
        classes: (b,) the class c of each image.

    Returns:
        (b, *s), the sum inside the ReLU.
    """
    scores = channel_scores[torch.arange(len(classes), device=classes.device), :, classes]
    weights = scores.softmax(1).to(activations.dtype)
    return torch.einsum("bk,bk...->b...", weights, activations)


def channel_scores(batch: Batch) -> Tensor:
    """Return the logits of x ⊙ H_k for every channel k, (b, C, K).

    H_k is A_k interpolated to the image and scaled to [0, 1]; a channel with the same value
    everywhere has H_k = 0. The image is masked as it is given to the model: for a `Classifier`
    before it normalises, so that 0 is black.
    """
    a, images, target = batch["activations"], batch.images, batch.target
    assert target is not None
    size, channels = images.shape[2:], a.shape[1]

    def seen_through(rows: Tensor) -> Tensor:
        rows = rows.to(a.device)
        image, channel = rows // channels, rows % channels
        masks = normalise(on_image(a[image, channel], target, size), len(size))
        return images[image] * masks[:, None].to(images.dtype)

    logits = batch.forward.made(seen_through, len(a) * channels)
    return logits.unflatten(0, (len(a), channels))


def one_per_channel(sizing: Sizing) -> float:
    """Cost one pass per channel of the target layer."""
    return float(sizing.channels)
