"""What stands in for the pixels that are taken away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from typing import Any, Literal

import torch
from torch import Tensor

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.models.layout import say

Baseline = float | Literal["mean", "blur"] | Tensor

BLUR = 1 / 14
"""Standard deviation of the blur, of each side of the image: half of a default window."""


def require_baseline(method: str, baseline: object) -> None:
    """Refuse a baseline that is no number, known name or tensor of numbers.

    Raises:
        OctoscopeError: With what it may be.
    """
    if isinstance(baseline, Tensor):
        if baseline.dtype == torch.bool or not bool(baseline.isfinite().all()):
            raise OctoscopeError(f"{method}: the baseline holds values that are no finite numbers")
    elif isinstance(baseline, str):
        if baseline not in ("mean", "blur"):
            raise OctoscopeError(
                f'{method}: baseline "{baseline}" is not known'
                f'{did_you_mean(baseline, ("mean", "blur"))}; use a number, "mean", "blur" or a '
                "tensor"
            )
    elif isinstance(baseline, bool) or not (
        isinstance(baseline, int | float) and isfinite(baseline)
    ):
        raise OctoscopeError(
            f'{method}: baseline={baseline!r} is no number, "mean", "blur" or tensor'
        )


def baseline_of(images: Tensor, baseline: Baseline) -> Tensor:
    """Return the pixels that stand in for those of images, each image's its own.

    Args:
        images: (b, C, *S).
        baseline: A number, in units of the images; ``"mean"``, the mean of each channel;
            ``"blur"``, the image blurred by a Gaussian of a fourteenth of each side; or a tensor
            that broadcasts to the images, such as (C, *S) or (b, C, *S).

    Returns:
        (b, C, *S), expanded rather than copied where all pixels are alike.

    Raises:
        OctoscopeError: If a tensor does not fit the images.
    """
    if isinstance(baseline, Tensor):
        try:
            return baseline.detach().to(images).expand_as(images)
        except RuntimeError:
            raise OctoscopeError(
                f"a baseline of shape {tuple(baseline.shape)} does not fit images of "
                f"{say(images.shape)}; give one value per pixel (C, *S), or one such per image"
            ) from None
    if baseline == "mean":
        s = tuple(range(2, images.ndim))
        return images.mean(s, keepdim=True).expand_as(images)
    if baseline == "blur":
        return _blurred(images)
    return torch.full_like(images[:1, :1], float(baseline)).mean().expand_as(images)


def settings_of_rows(settings: Mapping[str, Any], rows: slice, images: Tensor) -> dict[str, Any]:
    """Return the settings of some images: what is given per image is cut to theirs.

    Args:
        settings: Name of a method to its settings; those with ``per_image`` name the fields in
            which a tensor may have a row for every image, and how many axes it has beside.
        rows: Which images.
        images: All images (B, C, *S).

    Raises:
        OctoscopeError: If a tensor has rows, but not as many as there are images.
    """
    found = dict(settings)
    for name, one in settings.items():
        for field, without in getattr(one, "per_image", {}).items():
            value = getattr(one, field)
            if not isinstance(value, Tensor) or value.ndim != images.ndim - without:
                continue
            if len(value) not in (1, len(images)):
                raise OctoscopeError(
                    f"{name}: {field} has {len(value)} rows and there are {len(images)} images; "
                    "give one for all, or one per image"
                )
            if len(value) == len(images):
                found[name] = replace(found[name], **{field: value[rows]})
    return found


def require_no_tensors(settings: Mapping[str, Any]) -> None:
    """Refuse settings that are pictures, where images are turned into other versions.

    Raises:
        OctoscopeError: Naming the setting.
    """
    for name, one in settings.items():
        for field in getattr(one, "per_image", {}):
            if isinstance(getattr(one, field), Tensor):
                raise OctoscopeError(
                    f"{name}: {field} is a tensor, which fits the images as they are and not their "
                    "mirrored versions; leave out tta"
                )


def _blurred(images: Tensor) -> Tensor:
    """Blur axis by axis; at the border the Gaussian is cut and normalised anew."""
    for axis in range(2, images.ndim):
        position = torch.arange(images.shape[axis], dtype=torch.float64)
        distance = (position[:, None] - position) / (BLUR * len(position))
        weights = torch.exp(-(distance**2) / 2)
        weights = (weights / weights.sum(1, keepdim=True)).to(images)  # (S, S)
        images = torch.tensordot(images, weights, dims=([axis], [1])).movedim(-1, axis)
    return images
