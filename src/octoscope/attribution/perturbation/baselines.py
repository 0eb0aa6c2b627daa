"""What stands in for the pixels that are taken away."""

from __future__ import annotations

from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from octoscope.errors import OctoscopeError, did_you_mean

Baseline = float | Literal["mean", "blur"]

BLUR = 1 / 14
"""Standard deviation of the blur, of each side of the image: half of a default window."""


def require_baseline(method: str, baseline: object) -> None:
    """Refuse a baseline that is neither a number nor a known name.

    Raises:
        OctoscopeError: With what it may be.
    """
    if isinstance(baseline, str):
        if baseline not in ("mean", "blur"):
            raise OctoscopeError(
                f'{method}: baseline "{baseline}" is not known'
                f'{did_you_mean(baseline, ("mean", "blur"))}; use a number, "mean" or "blur"'
            )
    elif isinstance(baseline, bool) or not (
        isinstance(baseline, int | float) and isfinite(baseline)
    ):
        raise OctoscopeError(f'{method}: baseline={baseline!r} is no number, "mean" or "blur"')


def baseline_of(images: Tensor, baseline: Baseline) -> Tensor:
    """Return the pixels that stand in for those of images, each image's its own.

    Args:
        images: (b, C, *S).
        baseline: A number, in units of the images; ``"mean"``, the mean of each channel; or
            ``"blur"``, the image blurred by a Gaussian of a fourteenth of each side.

    Returns:
        (b, C, *S), expanded rather than copied where all pixels are alike.
    """
    if baseline == "mean":
        s = tuple(range(2, images.ndim))
        return images.mean(s, keepdim=True).expand_as(images)
    if baseline == "blur":
        return _blurred(images)
    return torch.full_like(images[:1, :1], float(baseline)).mean().expand_as(images)


def _blurred(images: Tensor) -> Tensor:
    """Blur axis by axis; at the border the Gaussian is cut and normalised anew."""
    for axis in range(2, images.ndim):
        position = torch.arange(images.shape[axis], dtype=torch.float64)
        distance = (position[:, None] - position) / (BLUR * len(position))
        weights = torch.exp(-(distance**2) / 2)
        weights = (weights / weights.sum(1, keepdim=True)).to(images)  # (S, S)
        images = torch.tensordot(images, weights, dims=([axis], [1])).movedim(-1, axis)
    return images
