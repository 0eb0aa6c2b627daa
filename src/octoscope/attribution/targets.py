"""What each map explains: always explicit, never guessed from shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from octoscope.attribution.method import Explained
from octoscope.errors import OctoscopeError
from octoscope.models.borrow import eager
from octoscope.models.output import Output, ReadModel, described, select
from octoscope.targets import Score, Target, class_index, require_class

One = int | str | Target | Score
"""A class by index or name, or a score."""
Targets = None | One | Sequence[One] | Tensor
"""What `explain` takes as ``targets``."""


@dataclass(frozen=True)
class Wanted:
    """What to explain, before the logits are known.

    Attributes:
        table: (B, M) class of each map; None for the predicted class, or for every class. With
            scores, the place of each map's score among them.
        every: Whether every class is wanted.
        one: Whether a single map per image is wanted, so that the axis M is dropped.
        scores: What is explained instead of classes; the model is then read by them, and gives
            one column for each.
        names: What the classes are called, as far as it is known.
        by_name: Whether a class was looked up by its name, so that names must fit the logits.
    """

    table: Tensor | None
    every: bool
    one: bool
    scores: tuple[Target, ...] = ()
    names: tuple[str, ...] = ()
    by_name: bool = False

    @property
    def explained(self) -> Explained:
        """What the maps are of."""
        if not self.scores:
            return "class"
        return "linear" if all(score.linear for score in self.scores) else "score"

    def of(self, rows: slice, logits: Tensor) -> Tensor:
        """Return the classes (b, M) of some images, given their logits (b, K).

        Raises:
            OctoscopeError: If a class is out of range.
        """
        count, known = logits.shape
        if self.by_name and not self.scores and len(self.names) != known:
            raise OctoscopeError(
                f"there are {len(self.names)} names of classes and {known} logits; "
                + (
                    "of a single logit the other class is octoscope.targets.not_class()"
                    if known == 1
                    else "give class_names= one for each logit"
                )
            )
        if self.every:
            return torch.arange(known).expand(count, known)
        if self.table is None:
            return logits.argmax(1, keepdim=True).cpu()
        table = self.table[rows]
        wrong = table[(table < 0) | (table >= known)]
        if len(wrong):
            require_class(int(wrong[0]), known)
        return table


def wanted_classes(
    targets: Targets, classes: Sequence[One] | None, images: int, names: Sequence[str] = ()
) -> Wanted:
    """Read ``targets`` and ``classes`` as `explain` documents them.

    Args:
        targets: Of `explain`.
        classes: Of `explain`.
        images: Number B of images.
        names: What the classes are called, if it is known.

    Raises:
        OctoscopeError: If both are given, a length does not fit, a name is not known, or a class is
            no whole number.
    """
    known = tuple(names)
    if classes is not None:
        if targets is not None:
            raise OctoscopeError("give either targets= or classes=, not both")
        row, scores = _read(classes, "classes", known)
        if row.ndim != 1 or not len(row):
            raise OctoscopeError("classes= takes a list of at least one class")
        table = row.expand(images, -1)
        return Wanted(table, False, False, scores, known, by_name=_named(classes))
    if targets is None:
        return Wanted(None, every=False, one=True, names=known)
    if isinstance(targets, str) and targets == "all" and "all" not in known:
        return Wanted(None, every=True, one=False, names=known)
    if isinstance(targets, str) and not known:
        raise OctoscopeError(
            f'targets="{targets}" means nothing; use "all", a class index, or one per image; '
            "for names of classes give class_names=[…] too"
        )
    table, scores = _read(targets, "targets", known)
    by_name = _named(targets)
    if table.ndim == 0:
        return Wanted(table.expand(images, 1), False, True, scores, known, by_name)
    if table.ndim > 2 or len(table) != images:
        raise OctoscopeError(
            f"targets of shape {tuple(table.shape)} do not fit {images} images; give one class, "
            f"one per image ({images}), a table ({images}, M), or classes=[...] for every image"
        )
    return Wanted(table.view(images, -1), False, table.ndim == 1, scores, known, by_name)


def names_of_classes(model: nn.Module, given: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of a model's classes: those given, or those that it says itself, or none.

    Raises:
        OctoscopeError: If the names given are no different texts.
    """
    names = getattr(eager(model), "classes", ()) if given is None else given
    listed = not isinstance(names, str) and isinstance(names, Sequence)
    if listed and all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
        return tuple(names)
    if given is not None:
        raise OctoscopeError(f"class_names={given!r} is no list of different names")
    return ()


def read_by(model: nn.Module, output: Output | None, scores: Sequence[Target]) -> nn.Module:
    """Return a model that gives what is to be explained: logits (B, K), or scores (B, M)."""
    if output is None and not scores:
        return model

    def read(given: Any) -> Tensor:
        found = select(given, output) if output is not None else getattr(given, "logits", given)
        if not scores:
            return found
        if not isinstance(found, Tensor):
            raise OctoscopeError(
                f"the model gives {described(given)}; say which tensor the target is of with "
                "output="
            )
        return torch.stack([_score(one, found) for one in scores], dim=1)

    return ReadModel(model, read)


def _score(target: Target, output: Tensor) -> Tensor:
    """Return a score (b,) of what the model gives.

    Raises:
        OctoscopeError: If it is no number per image, or loses its gradient.
    """
    # Rules of a method for what the network calls are no rules for what the target calls.
    with torch._C.DisableTorchFunction():
        found = target(output.clone())  # which may be written into
    name = target.sentence
    if not isinstance(found, Tensor) or found.shape != output.shape[:1]:
        kind = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise OctoscopeError(
            f"the target {name} gives {kind} where it must give one number per image, "
            f"({len(output)},)"
        )
    if not found.is_floating_point():
        raise OctoscopeError(f"the target {name} gives {found.dtype}, which has no gradient")
    if output.requires_grad and torch.is_grad_enabled() and not found.requires_grad:
        raise OctoscopeError(
            f"the target {name} has no gradient, because it detaches the logits or compares them; "
            'use methods of changed images, such as "occlusion"'
        )
    return found


def _read(values: Any, what: str, names: tuple[str, ...]) -> tuple[Tensor, tuple[Target, ...]]:
    """Return classes, or the places of scores, in the shape given, and the scores."""
    leaves = _leaves(values)
    if any(isinstance(leaf, Target) or callable(leaf) for leaf in leaves):
        scores: list[Target] = []

        def place(leaf: Any) -> int:
            for number, known in enumerate(made):
                if known is leaf:
                    return number
            made.append(leaf)
            scores.append(_target(leaf, what, names))
            return len(made) - 1

        made: list[Any] = []
        return _whole_numbers(_mapped(values, place), what), tuple(scores)
    if any(isinstance(leaf, str) for leaf in leaves):
        values = _mapped(
            values, lambda leaf: class_index(leaf, names) if isinstance(leaf, str) else leaf
        )
    return _whole_numbers(values, what), ()


def _target(leaf: Any, what: str, names: tuple[str, ...]) -> Target:
    """Return a score as a target with a name."""
    if isinstance(leaf, Target):
        return leaf.named(names)
    if callable(leaf):
        name = getattr(leaf, "__name__", type(leaf).__name__)
        return Target("function" if name == "<lambda>" else name, leaf)
    raise OctoscopeError(
        f"{what}= mixes scores with the class {leaf!r}; "
        f"give the class as octoscope.targets.logit({leaf!r})"
    )


def _named(values: Any) -> bool:
    """Say whether a class is among these by its name."""
    return any(isinstance(leaf, str) for leaf in _leaves(values))


def _leaves(values: Any) -> list[Any]:
    if isinstance(values, list | tuple):
        return [leaf for value in values for leaf in _leaves(value)]
    return [values]


def _mapped(values: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(values, list | tuple):
        return [_mapped(value, change) for value in values]
    return change(values)


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
