"""GradientSHAP: expected gradients between baselines and the (noisy) image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from octoscope.attribution.inputs.counts import require_count, require_noise
from octoscope.attribution.inputs.gradient import (
    SEED,
    noise,
    sum_of_gradients,
    summed_gradients,
    value_range,
)
from octoscope.attribution.perturbation.baselines import (
    Baseline,
    baseline_of,
    require_baseline,
)
from octoscope.attribution.source import Batch
from octoscope.errors import OctoscopeError
from octoscope.models.layout import say


@dataclass(frozen=True, eq=False)
class GradientShap:
    """What can be set.

    Attributes:
        samples: Points, at least 1.
        stdev: Standard deviation of the noise as a share of x_max - x_min of the image.
        baseline: A grey value, ``"mean"`` or ``"blur"``; or images (m, C, *S), such as healthy
            scans, of which one is drawn for every sample.
    """

    samples: int = 50
    stdev: float = 0.1
    baseline: Baseline | Tensor = 0.0

    def __post_init__(self) -> None:
        require_count(self.samples, "gradient_shap", "samples")
        require_noise(self.stdev, "gradient_shap", "stdev")
        if not isinstance(self.baseline, Tensor):
            require_baseline("gradient_shap", self.baseline)


@dataclass(frozen=True)
class Draws:
    """The random numbers of n samples, the same for every image.

    Attributes:
        places: α_k, one in each n-th of [0, 1): each is uniform over all, and their mean less noisy
            than that of free draws.
        baselines: Which baseline each sample takes, of m.
    """

    places: list[float]
    baselines: list[int]


def drawn(samples: int, baselines: int) -> Draws:
    """Draw for `samples` samples and a number of baselines to choose from."""
    generator = torch.Generator().manual_seed(SEED - 1)
    within = torch.rand(samples, generator=generator, dtype=torch.float64)
    places = (torch.arange(samples) + within) / samples
    chosen = torch.randint(baselines, (samples,), generator=generator)
    return Draws(places.tolist(), chosen.tolist())


def gradient_shap(expected_gradients: Tensor) -> Tensor:
    """GradientSHAP: M = Σ over channels of E[(x - x') ⊙ ∂y_c/∂x (x' + α(x + ε - x'))].

    Lundberg & Lee, NeurIPS 2017, as expected gradients: Erion et al., Nature Machine Intelligence
    2021, section 2. x' is drawn from the baselines, α from [0, 1] and ε from N(0, σ²). Without
    noise the map sums, in expectation, to y_c(x) minus the baselines' mean y_c. captum multiplies
    by x + ε - x' instead, which is the same without noise.

    Args:
        expected_gradients: The mean of the products, (b, C, *S).

    Returns:
        (b, *S), signed.
    """
    return expected_gradients.sum(1)


def _gradients(batch: Batch) -> Tensor:
    """Return the mean of (x - x'_k) ⊙ ∂y_c/∂x at the points drawn, (g, b, C, *S)."""
    settings: GradientShap = batch.settings["gradient_shap"]
    images, n = batch.images, settings.samples
    choices = _choices(settings.baseline, images)
    draws = drawn(n, len(choices))
    sigma = settings.stdev * value_range(images)

    def start(k: int, rows: slice) -> Tensor:
        return choices[draws.baselines[k]][rows]

    def point(k: int, rows: slice) -> Tensor:
        end = images[rows]
        if settings.stdev:
            end = end + sigma[rows] * noise(k, images.shape[1:], images)
        return torch.lerp(start(k, rows), end, draws.places[k])

    return sum_of_gradients(batch, n, point, lambda k, rows: (images[rows] - start(k, rows)) / n)


def _choices(baseline: Baseline | Tensor, images: Tensor) -> list[Tensor]:
    """Return the baselines to draw from, each (b, C, *S).

    Raises:
        OctoscopeError: If images given as baselines are not like those explained.
    """
    if not isinstance(baseline, Tensor):
        return [baseline_of(images, baseline)]
    if baseline.shape[1:] != images.shape[1:] or not len(baseline):
        raise OctoscopeError(
            f"gradient_shap: baseline images are {say(baseline.shape)} and the images explained "
            f"{say(images.shape)}; give at least one, with the same channels and size"
        )
    return [one.to(images).expand_as(images) for one in baseline.detach()]


SOURCES = summed_gradients(
    "expected_gradients",
    _gradients,
    "gradients at the pixels at random places between baselines and image",
    lambda sizing: sizing.settings["gradient_shap"].samples,
)
