"""The image that stands for "nothing there", from which attributions of pixels are counted."""

from __future__ import annotations

from math import isfinite

import torch
from torch import Tensor
from torch.nn import functional as F

from octoscope.errors import OctoscopeError, did_you_mean

Baseline = float | str
"""A grey value; or ``"mean"``, each image's own mean; or ``"blur"``, the image heavily blurred.

With 0, the value of black where images are in [0, 1], black pixels can get no attribution, because
they do not differ from the baseline: dark fluid in a scan does not show. The other two see it."""

NAMED = ("mean", "blur")
BLUR = 1 / 16
"""Standard deviation of the blur along each axis, as a share of its length."""


def require_baseline(baseline: Baseline, method: str) -> None:
    """Check a setting.

    Raises:
        OctoscopeError: If it is neither a finite number nor a known name.
    """
    if isinstance(baseline, str):
        if baseline not in NAMED:
            raise OctoscopeError(
                f'{method}: baseline="{baseline}" is not known{did_you_mean(baseline, NAMED)}; '
                f"give a grey value or one of {', '.join(NAMED)}"
            )
    elif not isinstance(baseline, int | float) or not isfinite(baseline):
        raise OctoscopeError(
            f"{method}: baseline={baseline!r} is no grey value; give a finite number or one of "
            f"{', '.join(NAMED)}"
        )


def baseline_of(images: Tensor, baseline: Baseline) -> Tensor:
    """Return the baseline x' of every image, (b, C, *S) like the images."""
    if baseline == "mean":
        axes = tuple(range(2, images.ndim))
        return images.mean(axes, keepdim=True).expand_as(images)
    if baseline == "blur":
        return blurred(images)
    return images.new_full((), float(baseline)).expand_as(images)


def blurred(images: Tensor) -> Tensor:
    """Blur (b, C, *S) by a Gaussian along each axis, borders repeated outwards."""
    for axis in range(2, images.ndim):
        rows = images.movedim(axis, -1)
        sigma = BLUR * rows.shape[-1]
        reach = int(3 * sigma + 0.5)
        steps = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
        kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
        padded = F.pad(rows.reshape(-1, 1, rows.shape[-1]), (reach, reach), mode="replicate")
        smooth = F.conv1d(padded, (kernel / kernel.sum())[None, None])
        images = smooth.view(rows.shape).movedim(-1, axis)
    return images
