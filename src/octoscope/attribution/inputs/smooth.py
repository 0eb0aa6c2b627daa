"""SmoothGrad: the gradient averaged over noisy copies of the image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from octoscope.attribution.inputs.counts import require_count, require_noise
from octoscope.attribution.inputs.gradient import (
    noise,
    sum_of_gradients,
    summed_gradients,
    value_range,
)
from octoscope.attribution.source import Batch


@dataclass(frozen=True)
class SmoothGrad:
    """What can be set.

    Attributes:
        samples: Noisy copies, at least 1; the paper sees little change from 50 on.
        noise: Standard deviation as a share of x_max - x_min of the image; the paper advises 0.1
            to 0.2.
    """

    samples: int = 50
    noise: float = 0.15

    def __post_init__(self) -> None:
        require_count(self.samples, "smoothgrad", "samples")
        require_noise(self.noise, "smoothgrad", "noise")


def smoothgrad(noisy_gradients: Tensor) -> Tensor:
    """SmoothGrad: M = max over channels of |1/n Σ_k ∂y_c/∂x (x + ε_k)|, ε_k ~ N(0, σ²).

    Smilkov et al., arXiv 1706.03825, section 3. Signed gradients are averaged, as in the paper's
    equation; magnitude and maximum over channels are taken of the mean, as in saliency, which is
    this map without noise. Every image gets the same draws, scaled by its own range.

    Args:
        noisy_gradients: The mean (b, C, *S).

    Returns:
        (b, *S), never negative.
    """
    return noisy_gradients.abs().amax(1)


def _gradients(batch: Batch) -> Tensor:
    """Return the mean of ∂y_c/∂x at x + ε_k, (g, b, C, *S)."""
    settings: SmoothGrad = batch.settings["smoothgrad"]
    images = batch.images
    sigma = settings.noise * value_range(images)

    def point(k: int, rows: slice) -> Tensor:
        return images[rows] + sigma[rows] * noise(k, images.shape[1:], images)

    return sum_of_gradients(batch, settings.samples, point, lambda _k, _rows: 1 / settings.samples)


SOURCES = summed_gradients(
    "noisy_gradients",
    _gradients,
    "gradients at the pixels of noisy copies",
    lambda sizing: sizing.settings["smoothgrad"].samples,
)
