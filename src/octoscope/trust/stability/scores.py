"""The stability of a model's maps: every method and every change of the image in shared passes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from octoscope.attribution.display import upsample
from octoscope.attribution.explain import explain
from octoscope.attribution.maps import Maps
from octoscope.attribution.registry import methods_for
from octoscope.attribution.targets import Targets, names_of_classes, wanted_classes
from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.progress import track
from octoscope.trust.stability.equivariance import (
    flip_equivariance,
    pixels_of,
    shift_equivariance,
    shifted,
)
from octoscope.trust.stability.rows import ROWS as ROWS
from octoscope.trust.stability.sensitivity import max_sensitivity, noisy

METRICS = ("max_sensitivity", "shift_equivariance", "flip_equivariance")
"""What can be measured on one model."""

BLOCK = 16
"""Scans that are changed and explained at once, each in up to seven versions."""


@dataclass(frozen=True, eq=False)
class Stability:
    """How stable the maps of every method are.

    Attributes:
        values: Metric → method → ``(B,)`` float64; NaN where a map says nothing.
        targets: ``(B,)`` int64, the class explained in every version of a scan.
        shift: Pixels along every spatial axis.
        refused: Methods left out → the reason.
    """

    values: dict[str, dict[str, Tensor]]
    targets: Tensor
    shift: tuple[int, ...]
    refused: dict[str, str] = field(default_factory=dict)


def stability(
    model: nn.Module,
    images: Tensor,
    methods: str | Iterable[str] = ("gradcam",),
    targets: Targets = None,
    *,
    metrics: Sequence[str] = METRICS,
    draws: int = 4,
    radius: float = 0.02,
    shift: Sequence[float] = (4, 8),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> Stability:
    """Measure how much maps change under noise, small shifts and a mirror.

    Every scan is explained as it is and in ``draws + 3`` changed versions, always for the same
    class, all methods in the same passes. The score of a scan does not depend on the others.

    Args:
        model: Any classifier, as for `explain`; it is left as it was.
        images: ``(B, C, *S)`` as the model takes them.
        methods: As for `explain`. Those with several maps per image are left out.
        targets: The class to explain: one for all, or one per image; None for the class that the
            model predicts for the unchanged image.
        metrics: Some of `METRICS`.
        draws: Versions with noise.
        radius: Largest noise at a pixel, in the units of the images (0.02 of images in 0…1 are
            five grey values of 255).
        shift: Down and to the right, in pixels or (below 1) as shares of the sides; the opposite
            shift is tried as well, and both are averaged.
        options: As for `explain`.
        seed: Seed of the noise.
        batch_size: As for `explain`.
        progress: Show a bar.

    Returns:
        `Stability`, on the device of the images.

    Raises:
        OctoscopeError: If a metric is unknown, a number makes no sense, or `explain` refuses.
    """
    wanted = _metrics(metrics)
    if images.ndim not in (4, 5) or not len(images):
        raise OctoscopeError(f"images of shape {tuple(images.shape)} are no batch (B, C, *S)")
    size = tuple(images.shape[2:])
    step = pixels_of(shift, size)
    defined, refused = methods_for(model, methods, len(size))
    several = {method.name: method.parts for method in defined if method.parts}
    refused |= {name: f"it gives several maps per image, of {of}" for name, of in several.items()}
    names = [method.name for method in defined if method.name not in refused]
    if not names:
        raise OctoscopeError(f"no method has one map per image: {'; '.join(refused.values())}")

    asked = wanted_classes(targets, None, len(images), names_of_classes(model, None))
    if asked.scores or not asked.one:
        raise OctoscopeError("stability is measured for one class per image; give targets= so")

    def maps_of(some: Tensor, classes: Tensor | None) -> Maps:
        return explain(model, some, names, classes, options=options, batch_size=batch_size)

    starts = range(0, len(images), BLOCK)
    parts: list[dict[str, dict[str, Tensor]]] = []
    explained: list[Tensor] = []
    for start in track(starts, "Measuring stability") if progress else starts:
        rows = slice(start, start + BLOCK)
        some = images[rows]
        original = maps_of(some, None if asked.table is None else asked.table[rows, 0])
        classes = torch.as_tensor(original.targets)
        versions = _versions(some, wanted, draws, radius, step, seed)
        changed = maps_of(
            torch.cat(list(versions.values())),
            torch.cat([classes.repeat(len(v) // len(some)) for v in versions.values()]),
        )
        parts.append(_measured(original, changed, versions, step))
        explained.append(classes)
    values = {
        metric: {name: torch.cat([part[metric][name] for part in parts]) for name in names}
        for metric in wanted
    }
    return Stability(values, torch.cat(explained), step, dict(refused))


def _versions(
    images: Tensor,
    metrics: Sequence[str],
    draws: int,
    radius: float,
    step: tuple[int, ...],
    seed: int,
) -> dict[str, Tensor]:
    """Return the changed images (n·b, C, *S) of every metric, n versions of all b images each."""
    back = tuple(-pixels for pixels in step)
    made: dict[str, Tensor] = {}
    if "max_sensitivity" in metrics:
        made["max_sensitivity"] = noisy(images, draws, radius, seed).flatten(0, 1)
    if "shift_equivariance" in metrics:
        made["shift_equivariance"] = torch.cat([shifted(images, step), shifted(images, back)])
    if "flip_equivariance" in metrics:
        made["flip_equivariance"] = images.flip(-1)
    return made


def _measured(
    original: Maps, changed: Maps, versions: Mapping[str, Tensor], step: tuple[int, ...]
) -> dict[str, dict[str, Tensor]]:
    """Return metric → method → (b,) of b scans."""
    scans, axes = len(original.logits), len(original.size)
    back = tuple(-pixels for pixels in step)
    measured: dict[str, dict[str, Tensor]] = {metric: {} for metric in versions}
    for name in original:
        still, start = original[name], 0
        for metric, made in versions.items():
            rows = changed.native[name][start : start + len(made)]
            start += len(made)
            maps = upsample(rows, original.size).unflatten(0, (-1, scans))  # (n, b, *S)
            if metric == "max_sensitivity":
                value = max_sensitivity(still, maps, axes=axes)
            elif metric == "flip_equivariance":
                value = flip_equivariance(still, maps[0], axes=axes)
            else:
                both = zip(maps, (step, back), strict=True)
                value = sum(shift_equivariance(still, map_, by) for map_, by in both) / 2  # type: ignore[assignment]
            measured[metric][name] = value
    return measured


def _metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    for name in metrics:
        if name not in METRICS:
            raise OctoscopeError(
                f'"{name}" is no metric of one model\'s stability{did_you_mean(name, METRICS)}; '
                f"there are {', '.join(METRICS)}"
            )
    if not metrics:
        raise OctoscopeError(f"no metric is asked for; there are {', '.join(METRICS)}")
    return tuple(name for name in METRICS if name in metrics)
