"""Explaining several versions of an image and averaging: smoothing by test-time augmentation.

Raw maps are averaged, so that a version in which the class is more evident counts for more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from octoscope.attribution.maps import Maps, flags_of

FACTORS = (0.9, 1.0, 1.1)
"""Brightness of the versions."""
VIEWS = 2 * len(FACTORS)
"""Versions of every image, itself among them."""


def other_views(images: Tensor) -> Iterator[tuple[Tensor, bool]]:
    """Yield the other versions of images (B, C, *S), and whether the lateral axis is mirrored."""
    for mirrored in (False, True):
        turned = images.flip(-1) if mirrored else images
        for factor in FACTORS:
            if mirrored or factor != 1:
                yield turned * factor, mirrored


def averaged(once: Callable[[Tensor, Tensor | str], Maps], images: Tensor, first: Maps) -> Maps:
    """Average the maps of all versions of images.

    The classes explained are those of the images as they are, also where a version would be
    predicted as another. Logits and by-products (`Maps.details`) are those of the images as they
    are too.

    Args:
        once: Explains images (B, C, *S) for given targets.
        images: (B, C, *S).
        first: The maps of the images as they are.

    Returns:
        The maps, with flags of their own: ``clipped_fraction`` is the mean over the versions.
    """
    others = other_views(images)
    seen = [(first, False)] + [(once(version, first.targets), m) for version, m in others]
    axes = len(first.size)
    native, flags = {}, {}
    for name in first:
        turned = [maps.native[name].flip(-1) if m else maps.native[name] for maps, m in seen]
        mean = torch.stack(turned).mean(0)
        clipped = torch.stack([maps.flags[name]["clipped_fraction"] for maps, _ in seen]).mean(0)
        native[name] = mean
        flags[name] = first.flags[name] | flags_of(mean, mean, axes)
        flags[name]["clipped_fraction"] = clipped
    return replace(first, native=native, flags=flags)
