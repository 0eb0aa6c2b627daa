"""Asking a lent model about changed images, and what it says of the target class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from octoscope.attribution.capture import Capture
from octoscope.attribution.forward import Forward
from octoscope.errors import OctoscopeError
from octoscope.models.probe import as_the_model_takes

PROBABILITY, LOGIT, KEPT = range(3)
"""Places in the last axis of what `about` returns."""


@contextmanager
def lent(
    model: nn.Module, images: Tensor, forward: Forward | None = None
) -> Iterator[tuple[Forward, Tensor]]:
    """Lend a model for a while; it is left as it was, also by an exception.

    Args:
        model: Any module from (B, C, *S) to logits (B, K).
        images: (B, C, *S) as the model takes them, on any device.
        forward: Of a model that is lent already, to be used instead.

    Yields:
        What runs the model without a graph, and the images on its device.
    """
    if forward is not None:
        yield forward, images
        return
    with Capture(model, {}) as capture:
        yield Forward(capture.module), as_the_model_takes(capture.module, images)


def about(logits: Tensor, targets: Tensor) -> Tensor:
    """Return what logits say of the target class.

    Args:
        logits: (n, K).
        targets: (n,) int64.

    Returns:
        (n, 3) float64: its probability (softmax; sigmoid of a single logit), its logit, and
        whether it is the class predicted, 0 or 1.
    """
    logits = logits.double()
    column = targets.to(logits.device)[:, None]
    one = logits.gather(1, column)
    if logits.shape[1] == 1:
        return torch.cat([logits.sigmoid(), one, (one > 0).double()], dim=1)
    probability = logits.softmax(1).gather(1, column)
    return torch.cat([probability, one, (logits.argmax(1, keepdim=True) == column).double()], dim=1)


def check_maps(images: Tensor, maps: Mapping[str, Tensor], targets: Tensor) -> None:
    """Check that maps and targets fit the images.

    Raises:
        OctoscopeError: If one does not; the message says which.
    """
    if images.ndim < 3 or not images.is_floating_point() or not len(images):
        raise OctoscopeError(
            f"images of shape {tuple(images.shape)} and type {images.dtype} are no batch "
            "(B, C, *S) of floating point; give them as the model takes them"
        )
    if not maps:
        raise OctoscopeError("there are no maps to measure; give those of at least one method")
    size = (len(images), *images.shape[2:])
    for name, one in maps.items():
        if tuple(one.shape) != size:
            raise OctoscopeError(
                f"maps of {name} of shape {tuple(one.shape)} do not fit images of shape "
                f"{tuple(images.shape)}; read them at the size of the images, one per image"
            )
    if not isinstance(targets, Tensor):
        raise OctoscopeError(
            f"targets={targets!r} are not one class per image; maps of scores or of all classes "
            "cannot be measured so"
        )
    if targets.shape != (len(images),) or targets.is_floating_point():
        raise OctoscopeError(
            f"targets of shape {tuple(targets.shape)} and type {targets.dtype} are not one class "
            f"index for each of the {len(images)} images; give (B,) integers"
        )


def check_targets(targets: Tensor, classes: int) -> None:
    """Check that the targets are classes of the model.

    Raises:
        OctoscopeError: If one is not.
    """
    wrong = targets[(targets < 0) | (targets >= classes)]
    if len(wrong):
        raise OctoscopeError(
            f"class {int(wrong[0])} does not exist: the model has {classes} classes, 0 to "
            f"{classes - 1}"
        )
