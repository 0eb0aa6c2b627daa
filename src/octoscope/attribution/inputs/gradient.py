"""Gradients of logits at the pixels, of any number of points, in batches that fit into memory.

All methods of this family are sums over such gradients: of one point per image, of points on a
path, or of noisy copies. captum is their oracle in the tests but does not run them: it draws noise
anew for every batch, so that a map would depend on its neighbours, keeps gradients on the images,
and puts a whole path into one batch unless told a size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from octoscope.attribution.capture import logits_or_refusal
from octoscope.attribution.sizing import Sizing
from octoscope.attribution.source import Batch, Source
from octoscope.errors import OctoscopeError
from octoscope.models.probe import at_least_float32

THERE = 1.0
"""Cost of the forward pass of a gradient, which a group of classes shares."""
BACK = 1.0
"""Cost of the backward pass of a class in forward passes, parameters frozen."""
SEED = 20170612
"""Of all random draws of this family: the same for every image and batch."""

Point = Callable[[int, slice], Tensor]
"""Number k of a sample and rows of the batch to the points (m, C, *S) that stand for them."""
Factor = Callable[[int, slice], Tensor | float]
"""The same to what the gradients there are multiplied by, (m, C, *S) or a number."""


@dataclass(frozen=True)
class AtImages:
    """What passes over the images themselves give.

    Attributes:
        logits: (b, K).
        gradients: ∂y_c/∂x for each class c of a group, (g, b, C, *S).
    """

    logits: Tensor
    gradients: Tensor


def gradients(
    batch: Batch, points: Tensor, classes: Callable[[Tensor], Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Run `there_and_back` with the model of a batch, points in the order of memory it likes."""
    run = partial(there_and_back, batch.module, classes)
    return batch.forward.memory_format.apply(run, points)


def there_and_back(
    module: nn.Module, classes: Callable[[Tensor], Tensor], points: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Return the logits, and ∂y_c/∂x for several classes c, which share the forward pass.

    Args:
        module: The lent model.
        classes: Logits (m, K) to the classes (m, g).
        points: x (m, C, *S), all in one pass.

    Returns:
        Logits (m, K), and g gradients (m, C, *S), all at least float32.

    Raises:
        OctoscopeError: If the logits have no gradient at the pixels.
    """
    leaf = points.detach().requires_grad_()
    with torch.autocast(points.device.type, enabled=False):  # small gradients would underflow
        logits = logits_or_refusal(module, leaf.clone())  # a copy: the first layer may write in it
    scores = logits.gather(1, classes(logits.detach())).sum(0).unbind()
    found = []
    for score in scores:
        grad = None
        if score.requires_grad:
            keep = score is not scores[-1]
            (grad,) = torch.autograd.grad(score, leaf, allow_unused=True, retain_graph=keep)
        if grad is None:
            raise OctoscopeError(
                "the logits have no gradient at the pixels, because the model detaches them or "
                'runs under no_grad; use methods of changed images instead, such as "occlusion"'
            )
        found.append(at_least_float32(grad))
    return at_least_float32(logits.detach()), found


def sum_of_gradients(batch: Batch, samples: int, point: Point, factor: Factor) -> Tensor:
    """Return Σ_k factor_k ⊙ ∂y_c/∂x at point_k, for each class c of the group being explained.

    All samples of all images form one list, sample by sample, of which as many share a pass as
    memory allows. Every sum is added in the order of k, so it does not depend on that number.

    Args:
        batch: The images and classes.
        samples: Number n of points per image.
        point: The points.
        factor: What each gradient counts.

    Returns:
        (g, b, C, *S).
    """
    images, table = batch.images, batch.table[:, batch.group]
    sums = [torch.zeros_like(at_least_float32(images)) for _ in range(table.shape[1])]

    def run(numbers: Tensor) -> Tensor:
        parts = _parts(int(numbers[0]), len(numbers), len(images))
        points = torch.cat([point(k, rows) for k, rows in parts])
        classes = torch.cat([table[rows] for _, rows in parts])
        _, found = gradients(batch, points, lambda _logits: classes)
        factors = [factor(k, rows) for k, rows in parts]
        # Added only now, and in place: memory that runs out above leaves the sums as they were.
        for total, gradient in zip(sums, found, strict=True):
            pieces = gradient.split([rows.stop - rows.start for _, rows in parts])
            for piece, by, (_, rows) in zip(pieces, factors, parts, strict=True):
                _add(total[rows], piece, by)
        return numbers.new_empty(len(numbers), 0)

    numbers = torch.arange(samples * len(images))
    for stretch in (numbers[: len(images)], numbers[len(images) :]):
        if len(stretch):
            batch.graph_limit.apply(batch.module, run, stretch, images)
    return torch.stack(sums)


def _add(total: Tensor, piece: Tensor, factor: Tensor | float) -> None:
    """Add factor ⊙ piece in place."""
    if isinstance(factor, Tensor):
        total.addcmul_(piece, factor.to(total.dtype))
    else:
        total.add_(piece, alpha=factor)


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


def at_the_images(batch: Batch) -> AtImages:
    """Differentiate at the images themselves; their logits need not be known before."""
    logits: list[Tensor] = []

    def run(numbers: Tensor) -> Tensor:
        rows = slice(int(numbers[0]), int(numbers[-1]) + 1)
        seen, found = gradients(
            batch, batch.images[rows], lambda y: batch.chosen(rows, y)[:, batch.group]
        )
        stacked = torch.stack(found, 1)
        logits.append(seen)  # last: a pass that runs out of memory leaves nothing
        return stacked

    numbers = torch.arange(len(batch.images))
    found = batch.graph_limit.apply(batch.module, run, numbers, batch.images)
    return AtImages(torch.cat(logits), found.transpose(0, 1))


def noise(number: int, shape: torch.Size, like: Tensor) -> Tensor:
    """Return draw number `number` of N(0, 1), the same on every device, on the device of `like`."""
    generator = torch.Generator().manual_seed(SEED + number)
    return torch.randn(shape, generator=generator).to(like)


def value_range(images: Tensor) -> Tensor:
    """Return x_max - x_min of each image over all channels and pixels, (b, 1, 1, …)."""
    axes = tuple(range(1, images.ndim))
    return images.amax(axes, keepdim=True) - images.amin(axes, keepdim=True)


def summed_gradients(
    name: str,
    sums: Callable[[Batch], Tensor],
    sentence: str,
    samples: Callable[[Sizing], int],
) -> tuple[Source, Source]:
    """Return the sources of a sum of gradients: for a group of classes, and for one of them.

    Args:
        name: Of the sum (b, C, *S) for the class being explained.
        sums: Computes it for a group of classes, (g, b, C, *S), by `sum_of_gradients`.
        sentence: What is done, for the plan.
        samples: Number of gradients.
    """
    return (
        Source(f"{name}_of_group", sums, sentence, per_group=True),
        Source(
            name,
            lambda batch: batch[f"{name}_of_group"][batch.place],
            sentence,
            per_class=True,
            cost=lambda sizing: BACK * samples(sizing),
            cost_of_group=lambda sizing: THERE * samples(sizing),
        ),
    )


SOURCES = (
    Source("at_images", at_the_images, "gradients at the images", per_group=True),
    Source(
        "input_gradients",
        lambda batch: batch["at_images"].gradients[batch.place],
        "a forward, and one backward from the logit to the pixels",
        per_class=True,
        cost=lambda _sizing: BACK,
        cost_of_group=lambda _sizing: THERE,
        logits_from="at_images",
    ),
)
