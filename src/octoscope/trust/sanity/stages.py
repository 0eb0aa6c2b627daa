"""The layers of any model as a short list of stages, from the output down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import torch
from torch import Tensor, nn

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.models.borrow import borrowed, eager
from octoscope.models.probe import as_the_model_takes

MOST = 8
"""Stages of a model, unless asked otherwise."""
FEWEST = 6
"""Stages below which the largest is taken apart."""

Owner = tuple[str, nn.Module]
"""A module with parameters of its own, and its name in the eager model."""


@dataclass(frozen=True)
class Stage:
    """Layers that follow each other.

    Attributes:
        name: Of the layer or block, or of the lowest and the highest: ``"conv1…bn1"``.
        names: Names of its modules with parameters of their own, in the order in which they run.
        modules: These modules.
    """

    name: str
    names: tuple[str, ...]
    modules: tuple[nn.Module, ...]

    @property
    def first(self) -> nn.Module:
        """The module that runs first: what ended before it lies below the stage."""
        return self.modules[0]


@dataclass(frozen=True)
class _Group:
    prefixes: tuple[str, ...]  # of the lowest and, where groups were joined, the highest
    owners: tuple[Owner, ...]

    @property
    def size(self) -> int:
        return sum(p.numel() for _, m in self.owners for p in m.parameters(recurse=False))

    @property
    def mixes(self) -> bool:
        """Whether it holds a weight that mixes channels, and not only scales and shifts."""
        return any(p.ndim > 1 for _, m in self.owners for p in m.parameters(recurse=False))


def stages_of(
    model: nn.Module, images: Tensor, most: int | Sequence[str] = MOST
) -> tuple[Stage, ...]:
    """Group the layers of a model in the order in which one forward pass runs them.

    The modules with parameters are followed from the whole model inwards, the largest part first,
    until there are six stages; a norm belongs to the layer that it follows. Then the smallest
    neighbours are joined until there are at most `most`. The layer that gives the logits always
    stands alone: ``fc, layer4, layer3, layer2, layer1, conv1…bn1`` for a ResNet.

    Args:
        model: Any classifier; it is left as it was.
        images: (B, C, *S) as the model takes them; the first is run.
        most: Most stages, at least 2; or the names of layers, each a stage of its own, in any
            order. Layers that are not named keep what they learned.

    Returns:
        The stages, from the output down.

    Raises:
        OctoscopeError: If the model has no parameters, `most` is less than 2, or a name is not
            that of a layer with parameters of its own.
    """
    if not isinstance(most, int):
        return _named(_in_order(model, images), most)
    if most < 2:
        raise OctoscopeError(f"{most} stages: use 2 or more, the head and what lies below it")
    owners = _in_order(model, images)
    if not owners:
        raise OctoscopeError(f"{type(model).__name__} has no parameters, so nothing to randomise")
    groups = [_Group(("",), tuple(owners))]
    while sum(group.mixes for group in groups) < FEWEST:
        for group in sorted(groups, key=lambda group: -group.size):
            parts = _taken_apart(group)
            if parts is not None:
                place = groups.index(group)
                groups[place : place + 1] = parts
                break
        else:
            break
    groups = _norms_joined(groups)
    while len(groups) > most:
        sizes = [a.size + b.size for a, b in pairwise(groups[:-1])]  # the last gives the logits
        place = sizes.index(min(sizes))
        groups[place : place + 2] = [_joined(groups[place], groups[place + 1])]
    return tuple(_stage(group) for group in reversed(groups))


def _named(owners: Sequence[Owner], names: Sequence[str]) -> tuple[Stage, ...]:
    """Return layers as stages of their own, from the output down."""
    known = [name for name, _ in owners]
    for name in names:
        if name not in known:
            raise OctoscopeError(
                f'"{name}" is no layer with parameters of its own{did_you_mean(name, known)}; '
                "use names of model.named_modules()"
            )
    if not names:
        raise OctoscopeError("no layer is named, so nothing to randomise; name at least one")
    return tuple(
        Stage(name, (name,), (layer,)) for name, layer in reversed(owners) if name in names
    )


def _in_order(model: nn.Module, images: Tensor) -> list[Owner]:
    """Return the modules with parameters in the order in which they first run.

    One that is never called itself, whose weights another module uses, runs with that one.
    """
    called: dict[nn.Module, int] = {}

    def note(part: nn.Module, _inputs: object) -> None:
        called.setdefault(part, len(called))

    own = eager(model)
    with borrowed(model) as module:
        hooks = [part.register_forward_pre_hook(note) for part in module.modules()]
        try:
            with torch.no_grad():
                module(as_the_model_takes(module, images[:1]).clone())
        finally:
            for hook in hooks:
                hook.remove()
        when: dict[str, int] = {}
        owners: list[Owner] = []
        for name, part in module.named_modules():  # a parent before its children
            above = when.get(name.rpartition(".")[0], 0) if name else 0
            when[name] = called.get(part, above)
            if any(True for _ in part.parameters(recurse=False)):
                owners.append((name, own.get_submodule(name)))
    return sorted(owners, key=lambda owner: when[owner[0]])


def _taken_apart(group: _Group) -> list[_Group] | None:
    """Return the runs of children of a group's module, lowest first; None of a single layer."""
    (prefix,) = group.prefixes if len(group.prefixes) == 1 else (None,)
    while prefix is not None:
        depth = len(prefix.split(".")) if prefix else 0

        def child(owner: Owner, depth: int = depth) -> str:
            return ".".join(owner[0].split(".")[: depth + 1])

        runs = [(name, tuple(run)) for name, run in groupby(group.owners, key=child)]
        if len(runs) > 1:
            return [_Group((name,), run) for name, run in runs]
        prefix = runs[0][0] if runs[0][0] != prefix else None
    return None


def _norms_joined(groups: list[_Group]) -> list[_Group]:
    """Join what only scales and shifts to the group before it."""
    found = groups[:1]
    for group in groups[1:]:
        if group.mixes:
            found.append(group)
        else:
            found[-1] = _joined(found[-1], group)
    return found


def _joined(below: _Group, above: _Group) -> _Group:
    return _Group((below.prefixes[0], above.prefixes[-1]), below.owners + above.owners)


def _stage(group: _Group) -> Stage:
    ends = dict.fromkeys(prefix or "input" for prefix in group.prefixes)
    return Stage(
        "…".join(ends), tuple(n for n, _ in group.owners), tuple(m for _, m in group.owners)
    )
