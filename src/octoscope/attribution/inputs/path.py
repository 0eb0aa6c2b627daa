"""Integrated gradients: what each pixel adds on the straight way from a baseline to the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from octoscope.attribution.forward import Forward
from octoscope.attribution.inputs.counts import require_count
from octoscope.attribution.inputs.gradient import sum_of_gradients, summed_gradients
from octoscope.attribution.perturbation.baselines import (
    Baseline,
    baseline_of,
    require_baseline,
)
from octoscope.attribution.source import Batch, Source


@dataclass(frozen=True)
class IntegratedGradients:
    """What can be set.

    Attributes:
        steps: Points on the path, at least 1: the nodes of a Gauss-Legendre rule. The
            by-product ``completeness`` says whether they are enough.
        baseline: Where the path starts: a grey value, ``"mean"``, ``"blur"``, or a tensor that
            broadcasts to the images. From 0, which is black where images are in [0, 1], black
            pixels get no attribution, because they do not differ from it, so dark fluid does not
            show; from ``"mean"`` and ``"blur"`` it does.
    """

    steps: int = 50
    baseline: Baseline = 0.0
    per_image: ClassVar[dict[str, int]] = {"baseline": 0}

    def __post_init__(self) -> None:
        require_count(self.steps, "integrated_gradients", "steps")
        require_baseline("integrated_gradients", self.baseline)


def nodes(steps: int) -> tuple[list[float], list[float]]:
    """Return the nodes and weights of the Gauss-Legendre rule on [0, 1]."""
    places, weights = np.polynomial.legendre.leggauss(steps)
    return ((places + 1) / 2).tolist(), (weights / 2).tolist()


def integrated_gradients(
    images: Tensor,
    classes: Tensor,
    path_baseline: Tensor,
    path_gradients: Tensor,
    path_rise: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Integrated gradients: M = Σ over channels of (x - x') ⊙ ∫₀¹ ∂y_c/∂x (x' + α(x - x')) dα.

    Sundararajan et al., ICML 2017, section 3, equation 1. Complete (proposition 1): the map sums
    to y_c(x) - y_c(x'), up to the error of the rule, which is the by-product.

    Args:
        images: x (b, C, *S).
        classes: c (b,).
        path_baseline: x' (b, C, *S).
        path_gradients: The integral, (b, C, *S).
        path_rise: y(x) - y(x') (b, K).

    Returns:
        M (b, *S), signed, and ``completeness``: Σ M - (y_c(x) - y_c(x')), (b,).
    """
    maps = ((images - path_baseline) * path_gradients).sum(1)
    rise = path_rise.gather(1, classes[:, None])[:, 0]
    return maps, {"completeness": (maps.flatten(1).double().sum(1) - rise).to(maps.dtype)}


def _settings(batch: Batch) -> IntegratedGradients:
    return batch.settings["integrated_gradients"]


def _baseline(batch: Batch) -> Tensor:
    return baseline_of(batch.images, _settings(batch).baseline)


def _gradients(batch: Batch) -> Tensor:
    """Return Σ_k w_k ∂y_c/∂x at x' + α_k (x - x'), (g, b, C, *S)."""
    start, images = batch["path_baseline"], batch.images
    places, weights = nodes(_settings(batch).steps)
    return sum_of_gradients(
        batch,
        len(places),
        lambda k, rows: torch.lerp(start[rows], images[rows], places[k]),
        lambda k, _rows: weights[k],
    )


def _rise(batch: Batch) -> Tensor:
    """Return y(x) - y(x') (b, K), in the precision of the gradients whatever that of the pass."""
    if batch.forward.autocast is None:
        return batch.evidence.logits - batch.forward(batch["path_baseline"])
    exact = Forward(batch.module, batch.forward.images_per_pass)
    return exact(batch.images) - exact(batch["path_baseline"])


SOURCES = (
    Source("path_baseline", _baseline, "the baseline of the path"),
    Source(
        "path_rise",
        _rise,
        "logits at the baseline of the path",
        cost=lambda sizing: 1.0 if sizing.exact else 2.0,
    ),
    *summed_gradients(
        "path_gradients",
        _gradients,
        "gradients at the pixels along the path from the baseline",
        lambda sizing: sizing.settings["integrated_gradients"].steps,
    ),
)
