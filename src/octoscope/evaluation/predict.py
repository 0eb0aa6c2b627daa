"""From images to logits, deterministically: float32, evaluation mode, no augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from octoscope.errors import OctoscopeError
from octoscope.evaluation.predictions import predictions_frame, require_finite
from octoscope.progress import track

__all__ = ["predict", "predictions_frame"]


def predict(
    classifier: nn.Module,
    images: np.ndarray,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    *,
    rows: np.ndarray | None = None,
    name: str | None = None,
    quiet: bool = False,
) -> np.ndarray:
    """Return the logits of a classifier for grey images.

    Reduced precision (bf16 autocast, TF32 convolutions) is off, so that the same weights give
    the same numbers whatever they were trained with. On a CPU convolutions run channels-last, as
    they are quicker there; the numbers are the same but for rounding. The classifier comes back in
    the mode and on the device it had, its weights as they lay, also when something raises.

    Args:
        classifier: Any module from ``(B, 1, H, W)`` float32 in [0, 1] to ``(B, K)`` logits.
        images: ``(N, H, W)`` uint8; a memory map is read one batch at a time.
        batch_size: B; by default what is quickest, 8 on a CPU and 64 elsewhere.
        device: Where to compute; by default where the classifier is.
        rows: Positions of the images to predict, ``(n,)``; by default all.
        name: What to call the model in messages; by default its class.
        quiet: Show no progress bar.

    Returns:
        ``(N, K)`` float32, or ``(n, K)`` with `rows`.

    Raises:
        OctoscopeError: If the images are not uint8 ``(N, H, W)``, the model holds other than
            float32 weights, or its output is not ``(B, K)`` or not finite.
    """
    name = name or type(classifier).__name__
    if images.ndim != 3 or images.dtype != np.uint8:
        raise OctoscopeError(
            f"{name}: images must be uint8 of shape (N, H, W), not {images.dtype} {images.shape}"
        )
    rows = np.arange(len(images)) if rows is None else np.asarray(rows)
    if rows.size == 0:
        raise OctoscopeError(f"{name}: there is no image to predict; choose another split")
    reduced = [p.dtype for p in classifier.parameters() if p.dtype in _REDUCED]
    if reduced:
        raise OctoscopeError(f"{name}: holds {reduced[0]} weights; call .float() on it first")
    out = []
    with _evaluating(classifier, device) as place, _quick(classifier, place) as run:
        size = batch_size or (QUICKEST if place.type == "cpu" else 64)
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        for batch in batches if quiet else track(batches, f"predict with {name}"):
            grey = torch.from_numpy(np.array(images[batch]))  # a copy: the map is read-only
            logits = run(grey.to(place).unsqueeze(1).float().div_(255))  # of (B, 1, H, W)
            if logits.ndim != 2 or len(logits) != len(batch):
                raise OctoscopeError(
                    f"{name}: gives {tuple(logits.shape)} for {len(batch)} images, "
                    "not one row of logits each; pass a classifier"
                )
            out.append(logits.float().cpu().numpy())
    every = np.concatenate(out)
    require_finite(every, [f"image {row}" for row in rows], name)
    return every


QUICKEST = 8
"""Scans in one pass on a CPU: what they leave behind in a layer fits into its cache."""

_REDUCED = (torch.float16, torch.bfloat16)


@contextmanager
def _evaluating(model: nn.Module, device: torch.device | str | None) -> Iterator[torch.device]:
    """Hold `model` in evaluation mode and full precision; give the device it computes on."""
    flags = [(module, module.training) for module in model.modules()]
    first = next(iter([*model.parameters(), *model.buffers()]), None)
    home = torch.device("cpu") if first is None else first.device
    place = home if device is None else torch.device(device)
    try:
        model.to(place).eval()
        with (
            torch.autocast(place.type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        ):
            yield place
    finally:
        model.to(home)
        for module, training in flags:
            module.training = training


@contextmanager
def _quick(model: nn.Module, place: torch.device) -> Iterator[Callable[[Tensor], Tensor]]:
    """Give a forward pass of `model` without a graph; on a CPU its kernels lie channels-last."""
    moved: list[tuple[nn.Parameter, Tensor]] = []

    def as_it_was() -> None:
        while moved:
            weight, data = moved.pop()
            weight.data = data

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            try:
                logits: Tensor = model(images)
            except RuntimeError as error:
                if not moved or ".reshape(" not in str(error):  # torch: a view is not possible
                    raise
                as_it_was()  # the model takes the memory of its features as given
                logits = model(images)
        return logits

    try:
        for weight in model.parameters() if place.type == "cpu" else ():
            if weight.ndim == 4 and weight.shape[1] > 1 and weight.is_contiguous():
                moved.append((weight, weight.data))
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        yield run
    finally:
        as_it_was()
