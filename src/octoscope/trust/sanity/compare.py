"""Explaining the same images and classes twice, a few images at a time, and comparing the maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from octoscope.attribution.explain import explain
from octoscope.attribution.memory import most_at_once
from octoscope.attribution.registry import METHODS, methods_for
from octoscope.attribution.targets import Targets, names_of_classes, wanted_classes
from octoscope.errors import OctoscopeError
from octoscope.models.borrow import borrowed
from octoscope.models.probe import as_the_model_takes, logits_of
from octoscope.trust.similarity import WINDOW, ssim

Options = Mapping[str, Mapping[str, Any]]
"""Settings by method, as `explain` takes them."""


@dataclass(frozen=True)
class Chosen:
    """What is compared.

    Attributes:
        names: Methods with one map per image and class.
        refused: Methods left out → why.
        options: Settings of those that are left.
    """

    names: tuple[str, ...]
    refused: dict[str, str]
    options: dict[str, Mapping[str, Any]]


def chosen(
    model: nn.Module, images: Tensor, methods: str | Iterable[str], options: Options | None
) -> Chosen:
    """Tell which methods are defined for a model and give one map per image.

    Raises:
        OctoscopeError: As `explain` does for methods; or if none is left.
    """
    defined, refused = methods_for(model, methods, images.ndim - 2)
    for method in defined:
        if method.parts:
            refused[method.name] = (
                f"it gives several maps per image ({method.parts}), and no one map to compare"
            )
    names = tuple(method.name for method in defined if method.name not in refused)
    if not names:
        raise OctoscopeError(f"no method is left to check: {next(iter(refused.values()))}")
    kept = {name: given for name, given in (options or {}).items() if name not in refused}
    return Chosen(names, refused, kept)


def classes_of(model: nn.Module, images: Tensor, targets: Targets) -> Tensor:
    """Return the class explained in each image, (B,): as given, or what the model predicts.

    Raises:
        OctoscopeError: If several classes per image are asked for, or one does not exist.
    """
    wanted = wanted_classes(targets, None, len(images), names_of_classes(model, None))
    if wanted.scores or not wanted.one:
        raise OctoscopeError(
            "a sanity check takes one class per image; give targets= one class index per image"
        )
    return wanted.of(slice(None), logits_of_all(model, images))[:, 0]


def logits_of_all(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of all images, (B, K), on the CPU."""
    with borrowed(model) as module, torch.no_grad():
        return torch.cat(
            [
                logits_of(module(as_the_model_takes(module, images[rows]).clone())).float().cpu()
                for rows in blocks(model, images)
            ]
        )


def blocks(model: nn.Module, images: Tensor, size: int | None = None) -> Iterator[slice]:
    """Yield the images that are explained at once, all their maps held at full size.

    Args:
        model: Where it is, decides how many.
        images: (B, C, *S).
        size: How many; by default what suits the device.
    """
    device = next((p.device for p in model.parameters()), images.device)
    step = size or most_at_once(device)
    for start in range(0, len(images), step):
        yield slice(start, min(start + step, len(images)))


def maps_of(
    model: nn.Module, images: Tensor, what: Chosen, targets: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Explain some images in one pass; yield each method and its maps at the size of the images.

    Args:
        model: The model.
        images: (b, C, *S).
        what: The methods.
        targets: (b,) or (b, M).
    """
    found = explain(
        model, images, what.names, targets, options=what.options, batch_size=len(images)
    )
    for name in what.names:
        yield name, found[name]


def structure(a: Tensor, b: Tensor, axes: int) -> Tensor:
    """Return SSIM of maps (b, *S), (b,); NaN of images smaller than its window."""
    if min(a.shape[-axes:]) < WINDOW:
        return torch.full(a.shape[:-axes], torch.nan, dtype=torch.float64, device=a.device)
    return ssim(a, b, axes=axes)


def class_specific(names: Iterable[str]) -> tuple[str, ...]:
    """Return the methods whose map depends on the class that is explained."""
    return tuple(name for name in names if METHODS[name].class_specific)
