"""Gradients of logits at the pixels, of any number of points, in batches that fit into memory.

All methods of this family are sums over such gradients: of one point per image, of points on a
path, or of noisy copies. captum is their oracle in the tests but does not run them: it draws noise
anew for every batch, so that a map would depend on its neighbours, keeps gradients on the images,
and puts a whole path into one batch unless told a size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from octoscope.attribution.memory import fitting, in_pieces, most_at_once
from octoscope.attribution.source import Batch, Source
from octoscope.errors import OctoscopeError
from octoscope.models.probe import logits_of

PASSES = 2.0
"""Cost of a gradient in forward passes: there and back, parameters frozen."""
SEED = 20170612
"""Of all random draws of this family: the same for every image and batch."""

Point = Callable[[int, slice], Tensor]
"""Number k of a sample and rows of the batch to the points (m, C, *S) that stand for them."""
Factor = Callable[[int, slice], Tensor | float]
"""The same to what the gradients there are multiplied by, (m, C, *S) or a number."""


@dataclass
class PerPass:
    """How many points share a pass: halved for the rest of the batch when memory runs out."""

    most: int


def gradient(module: nn.Module, points: Tensor, classes: Tensor) -> Tensor:
    """Return ∂y_c/∂x.

    Args:
        module: The lent model.
        points: x (m, C, *S).
        classes: (m,) the class c of each.

    Returns:
        (m, C, *S), at least float32.

    Raises:
        OctoscopeError: If the logits have no gradient at the pixels.
    """
    leaf = points.detach().requires_grad_()
    with torch.autocast(points.device.type, enabled=False):  # small gradients would underflow
        logits = logits_of(module(leaf.clone()))  # a copy: the first layer may work in place
    score = logits.gather(1, classes[:, None]).sum()
    found = None
    if score.requires_grad:
        (found,) = torch.autograd.grad(score, leaf, allow_unused=True)
    if found is None:
        raise OctoscopeError(
            "the logits have no gradient at the pixels, because the model detaches them or runs "
            'under no_grad; use methods of changed images instead, such as "occlusion"'
        )
    return found.float() if found.dtype in (torch.float16, torch.bfloat16) else found


def sum_of_gradients(batch: Batch, samples: int, point: Point, factor: Factor) -> Tensor:
    """Return Σ_k factor_k ⊙ ∂y_c/∂x at point_k, for the classes being explained.

    All samples of all images form one list, sample by sample, of which as many share a pass as
    memory allows. Every sum is added in the order of k, so it does not depend on that number.

    Args:
        batch: The images and classes.
        samples: Number n of points per image.
        point: The points.
        factor: What each gradient counts.

    Returns:
        (b, C, *S).
    """
    images = batch.images
    half = images.dtype in (torch.float16, torch.bfloat16)
    total = torch.zeros_like(images, dtype=torch.float32 if half else images.dtype)

    def run(numbers: Tensor) -> Tensor:
        parts = _parts(int(numbers[0]), len(numbers), len(images))
        points = torch.cat([point(k, rows) for k, rows in parts])
        classes = torch.cat([batch.classes[rows] for _, rows in parts])
        pieces = gradient(batch.module, points, classes).split([_length(rows) for _, rows in parts])
        weighed = [piece * factor(k, rows) for piece, (k, rows) in zip(pieces, parts, strict=True)]
        # Added only now, and in place: memory that runs out above leaves the sum as it was.
        for piece, (_, rows) in zip(weighed, parts, strict=True):
            total[rows].add_(piece)
        return numbers.new_empty(len(numbers), 0)

    numbers = torch.arange(samples * len(images))
    if len(numbers) == 1:
        run(numbers)
        return total
    points: PerPass = batch["points_per_pass"]
    _, points.most = in_pieces(run, numbers, points.most)
    return total


def _parts(start: int, count: int, images: int) -> list[tuple[int, slice]]:
    """Cut a stretch of the list into (sample, rows): number i is sample i // b of image i % b."""
    parts = []
    stop = start + count
    while start < stop:
        k, row = divmod(start, images)
        taken = min(images - row, stop - start)
        parts.append((k, slice(row, row + taken)))
        start += taken
    return parts


def _length(rows: slice) -> int:
    return rows.stop - rows.start


def at_the_images(batch: Batch) -> Tensor:
    """Return ∂y_c/∂x at the images themselves, (b, C, *S)."""
    return sum_of_gradients(batch, 1, lambda _k, rows: batch.images[rows], lambda _k, _rows: 1.0)


def noise(number: int, shape: torch.Size, like: Tensor) -> Tensor:
    """Return draw number `number` of N(0, 1), the same on every device, on the device of `like`."""
    generator = torch.Generator().manual_seed(SEED + number)
    return torch.randn(shape, generator=generator).to(like)


def value_range(images: Tensor) -> Tensor:
    """Return x_max - x_min of each image over all channels and pixels, (b, 1, 1, …)."""
    axes = tuple(range(1, images.ndim))
    return images.amax(axes, keepdim=True) - images.amin(axes, keepdim=True)


def _points_per_pass(batch: Batch) -> PerPass:
    image = batch.images[:1]
    return PerPass(fitting(batch.module, image, most_at_once(image.device), graph=True))


SOURCES = (
    Source("points_per_pass", _points_per_pass, "images whose whole graph fits into memory"),
    Source(
        "input_gradients",
        at_the_images,
        "one backward from the logit to the pixels",
        per_class=True,
        cost=lambda _sizing: PASSES,
    ),
)
