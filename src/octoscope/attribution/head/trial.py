"""Finding out, on an image of noise, how what lies above a layer can be run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from octoscope.attribution.head.known import Known
from octoscope.attribution.head.record import Call, Rows, calls_until, giving, rows_of
from octoscope.attribution.head.replay import How, Kept, Replay
from octoscope.attribution.memory import out_of_memory
from octoscope.errors import OctoscopeError
from octoscope.models.probe import at_least_float32, logits_of, noise_like

EXACT = 1e-5
"""Deviation of logits, relative to the largest, that is rounding."""

WAYS = (
    How(lean=True, copies=False),
    How(lean=True, copies=True),
    How(lean=False, copies=True),
)
"""Ways to replay, the fastest first."""


@dataclass(frozen=True)
class Trial:
    """How what lies above a layer is run.

    Attributes:
        calls: What had ended before the layer, and its own call last, of one image.
        replay: The way found; None if only the whole model gives the right logits.
        wanted: Call and leaf numbers of what a replay needs of every image, and where the images
            lie in it.
    """

    calls: list[Call]
    replay: Replay | None
    wanted: list[tuple[int, int, Rows]]


def trial_of(module: nn.Module, layer: nn.Module, image: Tensor, known: Known) -> Trial:
    """Find the fastest replay, or remember it if the model was tried at the layer before.

    A trial of a model in which something below the layer gives a tensor that does not depend on the
    number of images (a table of weights, say) is made anew every time, since the replay uses it.

    Args:
        module: The lent model.
        layer: A part of it that runs once.
        image: (1, C, *S), of which only shape, dtype and device matter.
        known: What is known of the model.

    Raises:
        OctoscopeError: If the layer does not run.
    """
    parts = list(module.modules())
    numbers = {part: number for number, part in enumerate(parts)}
    topic = ("replay", numbers[layer], *kind_of(image))
    if (found := known.get(topic)) is not None:
        places, shells, rows, how, wanted = found
        calls = [replace(shell, module=parts[n]) for n, shell in zip(places, shells, strict=True)]
        replay = None if how is None else Replay(module, layer, calls, rows, how)
        return Trial(calls, replay, wanted)
    trial = tried(module, layer, noise_like(image))
    rows = [] if trial.replay is None else list(trial.replay.rows)
    if not _has_constants(trial.calls, rows):
        places = [numbers[call.module] for call in trial.calls]
        shells = [_shell(call) for call in trial.calls]
        how = None if trial.replay is None else trial.replay.how
        known.put(topic, (places, shells, rows, how, trial.wanted))
    return trial


def kind_of(image: Tensor) -> tuple[Any, ...]:
    """Return on what of an image the way through a model may depend."""
    return tuple(image.shape[1:]), image.dtype, image.device


def tried(module: nn.Module, layer: nn.Module, image: Tensor) -> Trial:
    """Find the fastest replay that gives what the whole model gives.

    It is compared on one pass of two rows: the image's own activations, and changed ones.

    Args:
        module: The lent model.
        layer: A part of it that runs once.
        image: (1, C, *S).

    Raises:
        OctoscopeError: If the layer does not run.
    """
    pairs: list[Tensor] = []

    def changed(own: Tensor) -> Tensor:
        pairs.append(torch.cat([own[:1], 0.5 * own[:1].flip(-1)]))
        return pairs[0]

    with torch.inference_mode(False), torch.no_grad(), full_precision(image):
        with calls_until(module, layer) as seen:
            module(image)
            calls = list(seen)
        with giving(layer, changed), calls_until(module, layer) as seen:
            logits = at_least_float32(logits_of(module(image.expand(2, *image.shape[1:]))))
            twice = list(seen)
    if not pairs:
        raise OctoscopeError("the layer does not run in the model's forward pass")
    rows = _rows(calls, twice)
    if rows is None:
        return Trial(calls, None, [])
    for how in WAYS:
        replay = Replay(module, layer, calls, rows, how)
        try:
            needed = _needed(replay, image, pairs[0][:1]) if how.lean else _everything(calls)
            with torch.inference_mode(), full_precision(image):
                found = replay(image, _chosen(calls, needed), pairs[0])
        except Exception as error:  # whatever a model may raise that is run in part
            if out_of_memory(error):
                raise
            continue
        if found.shape == logits.shape and equal(found, logits):
            return Trial(calls, replay, _wanted(rows, needed))
    return Trial(calls, None, [])


def whole(module: nn.Module, layer: nn.Module, image: Tensor, activations: Tensor) -> Tensor:
    """Run the whole model with a layer's output replaced: image (1, C, *S), (m, …) to (m, K)."""
    with giving(layer, lambda _own: activations):
        images = image.expand(len(activations), *image.shape[1:])
        return at_least_float32(logits_of(module(images)))


def full_precision(images: Tensor) -> torch.autocast:
    """Return a context without autocast."""
    return torch.autocast(images.device.type, enabled=False)


def equal(found: Tensor, expected: Tensor, within: float = EXACT) -> bool:
    """Say whether logits are the same within a part of the largest."""
    scale = expected.abs().nan_to_num(0, 0).amax().clamp(min=1e-30)
    return torch.allclose(found / scale, expected / scale, rtol=0, atol=within, equal_nan=True)


Which = list[list[bool]]
"""For each call and leaf, yes or no."""


def _needed(replay: Replay, image: Tensor, own: Tensor) -> Which:
    """Find the leaves on which the logits depend when the layer's output is given."""
    with torch.inference_mode(False), torch.enable_grad(), full_precision(image):
        kept = [
            [
                leaf.clone().requires_grad_() if _varies(leaf, where) else leaf
                for leaf, where in zip(call.leaves, rows, strict=True)
            ]
            for call, rows in zip(replay.calls, replay.rows, strict=True)
        ]
        leaves = [leaf for call in kept for leaf in call if _differentiable(leaf)]
        score = replay(image, kept, own).sum()
        grads: tuple[Any, ...] = (None,) * len(leaves)
        if score.requires_grad:
            grads = torch.autograd.grad(score, leaves, allow_unused=True)
    reached = {id(leaf) for leaf, grad in zip(leaves, grads, strict=True) if grad is not None}
    return [
        [
            isinstance(leaf, Tensor) and (not leaf.requires_grad or id(leaf) in reached)
            for leaf in call
        ]
        for call in kept
    ]


def _everything(calls: list[Call]) -> Which:
    return [[True] * len(call.leaves) for call in calls]


def _wanted(rows: list[list[Rows | None]], needed: Which) -> list[tuple[int, int, Rows]]:
    return [
        (i, j, where)
        for i, (wheres, keeps) in enumerate(zip(rows, needed, strict=True))
        for j, (where, keep) in enumerate(zip(wheres, keeps, strict=True))
        if keep and where is not None
    ]


def _rows(one: list[Call], two: list[Call]) -> list[list[Rows | None]] | None:
    """Return where the images lie in every leaf of every call, None if it cannot be told."""
    same = [(c.module, c.number, c.spec) for c in one] == [
        (c.module, c.number, c.spec) for c in two
    ]
    if not same:
        return None
    try:
        return [
            [rows_of(a, b) for a, b in zip(c.leaves, d.leaves, strict=True)]
            for c, d in zip(one, two, strict=True)
        ]
    except (OctoscopeError, ValueError):
        return None


def _chosen(calls: list[Call], needed: list[list[bool]]) -> Kept:
    """Return the leaves that are needed, None for the others."""
    return [
        [leaf if keep else None for leaf, keep in zip(call.leaves, keeps, strict=True)]
        for call, keeps in zip(calls, needed, strict=True)
    ]


def _has_constants(calls: list[Call], rows: list[list[Rows | None]]) -> bool:
    """Say whether a replay returns tensors of the trial itself, as they were."""
    return bool(rows) and any(
        isinstance(leaf, Tensor) and where is None
        for call, wheres in zip(calls, rows, strict=True)
        for leaf, where in zip(call.leaves, wheres, strict=True)
    )


def _shell(call: Call) -> Call:
    """Return a call without its module and the values of its tensors, which take no memory then."""
    leaves = [
        leaf.new_zeros(()).expand(leaf.shape) if isinstance(leaf, Tensor) else leaf
        for leaf in call.leaves
    ]
    return replace(call, module=nn.Identity(), leaves=leaves)


def _differentiable(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.requires_grad


def _varies(leaf: Any, where: Rows | None) -> bool:
    """Say whether a leaf belongs to an image and can be differentiated."""
    return isinstance(leaf, Tensor) and where is not None and leaf.is_floating_point()
