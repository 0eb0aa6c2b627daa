"""Which class each map explains: always explicit, never guessed from shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from octoscope.errors import OctoscopeError

Targets = None | int | Sequence[int] | Tensor | str
"""What `explain` takes as ``targets``."""


@dataclass(frozen=True)
class Wanted:
    """The classes to explain, before the logits are known.

    Attributes:
        table: (B, M) class of each map; None for the predicted class, or for every class.
        every: Whether every class is wanted.
        one: Whether a single map per image is wanted, so that the axis M is dropped.
    """

    table: Tensor | None
    every: bool
    one: bool

    def of(self, rows: slice, logits: Tensor) -> Tensor:
        """Return the classes (b, M) of some images, given their logits (b, K).

        Raises:
            OctoscopeError: If a class is out of range.
        """
        count, known = logits.shape
        if self.every:
            return torch.arange(known).expand(count, known)
        if self.table is None:
            return logits.argmax(1, keepdim=True).cpu()
        table = self.table[rows]
        wrong = table[(table < 0) | (table >= known)]
        if len(wrong):
            raise OctoscopeError(
                f"class {int(wrong[0])} does not exist: the model has {known} classes, "
                f"0 to {known - 1}"
            )
        return table


def wanted_classes(targets: Targets, classes: Sequence[int] | None, images: int) -> Wanted:
    """Read ``targets`` and ``classes`` as `explain` documents them.

    Raises:
        OctoscopeError: If both are given, a length does not fit, or a class is no whole number.
    """
    if classes is not None:
        if targets is not None:
            raise OctoscopeError("give either targets= or classes=, not both")
        row = _whole_numbers(classes, "classes")
        if row.ndim != 1 or not len(row):
            raise OctoscopeError("classes= takes a list of at least one class index")
        return Wanted(row.expand(images, -1), every=False, one=False)
    if targets is None:
        return Wanted(None, every=False, one=True)
    if isinstance(targets, str):
        if targets != "all":
            raise OctoscopeError(
                f'targets="{targets}" means nothing; use "all", a class index, or one per image'
            )
        return Wanted(None, every=True, one=False)
    table = _whole_numbers(targets, "targets")
    if table.ndim == 0:
        return Wanted(table.expand(images, 1), every=False, one=True)
    if table.ndim > 2 or len(table) != images:
        raise OctoscopeError(
            f"targets of shape {tuple(table.shape)} do not fit {images} images; give one class, "
            f"one per image ({images}), a table ({images}, M), or classes=[...] for every image"
        )
    return Wanted(table.view(images, -1), every=False, one=table.ndim == 1)


def _whole_numbers(values: object, what: str) -> Tensor:
    if not isinstance(values, Tensor) and not _plain_integers(values):
        raise OctoscopeError(
            f"{what}={values!r} is no class index; class indices are whole numbers"
        )
    try:
        table = values if isinstance(values, Tensor) else torch.as_tensor(values, device="cpu")
    except ValueError:
        raise OctoscopeError(f"{what}={values!r} has rows of different lengths") from None
    if not table.numel():
        return table.to("cpu", torch.int64)
    if table.is_floating_point() or table.is_complex() or table.dtype == torch.bool:
        raise OctoscopeError(f"{what} of type {table.dtype} are no class indices; use integers")
    return table.detach().to("cpu", torch.int64)


def _plain_integers(values: object) -> bool:
    """Say whether this is an integer, or nested sequences or arrays of integers."""
    if isinstance(values, bool | str | bytes):
        return False
    if isinstance(values, Integral):
        return True
    try:
        return all(_plain_integers(value) for value in values)  # type: ignore[attr-defined]
    except TypeError:
        return False
