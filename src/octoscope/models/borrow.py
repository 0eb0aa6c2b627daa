"""Borrowing someone's model for a pass, so that neither it nor who runs it meanwhile is disturbed.

An explanation needs a model in evaluation mode with frozen parameters, some of its switches turned
(fused attention off, gradient checkpointing off), and compiled code run eagerly so that hooks see
every layer. All of that happens on a view of the model (`octoscope.models.view`): the model itself
is only read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from octoscope.errors import OctoscopeError
from octoscope.models.output import Reading, ReadModel
from octoscope.models.plain_checkpoints import plain_checkpoints
from octoscope.models.view import is_view, view_of

Switch = tuple[nn.Module, str, Any]
"""A module, the name of one of its attributes, and the value it has while the model is lent."""

TRIES = 10
"""Times that weights are copied anew when a training step comes between."""


def eager(model: nn.Module) -> nn.Module:
    """Return the module inside ``torch.compile``, ``DataParallel`` and `ReadModel`, however nested.

    It shares every parameter with the wrapper. Hooks on it always fire, which they do not inside
    a compiled graph or on the replicas of ``DataParallel``.
    """
    while True:
        if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        elif isinstance(
            model, nn.DataParallel | nn.parallel.DistributedDataParallel
        ) and isinstance(model.module, nn.Module):
            model = model.module
        elif isinstance(model, ReadModel):
            model = model.model
        else:
            return model


@contextmanager
def borrowed(
    model: nn.Module, switches: Iterable[Switch] = (), *, own_weights: bool = False
) -> Iterator[nn.Module]:
    """Lend a view of the eager module of `model`: evaluating, frozen, nothing compiled.

    The model is not touched at all, so other threads may explain it, run it or train it meanwhile:
    hooks, flags and switches of one are not seen by another. What is lent is lent again as it is,
    so layers are looked for in what is lent: ``with borrowed(model) as lent: find_layer(lent)``.

    The weights are the model's own memory. Of a model that has parts in training mode, and so may
    be trained by another thread, they are copies, made between two of its steps.

    Args:
        model: Any module, also a compiled or ``DataParallel`` one, and one that is lent already.
        switches: Attributes of its modules to change meanwhile. ``grad_checkpointing`` is always
            off, and segments of ``torch.utils.checkpoint`` run as they are: one that is recomputed
            would lose what its hooks captured.
        own_weights: Copy the weights whatever the mode, because they will be changed.

    Yields:
        The view. That of a `ReadModel` gives what is read.

    Raises:
        OctoscopeError: If it is no module, was built under ``torch.inference_mode``, which forbids
            gradients through it for good, or has parameters that are not yet made; and on leaving,
            if its weights were changed by another thread.
    """
    require_module(model)
    module = eager(model)
    if is_view(module) and not own_weights:
        with ExitStack() as undo:
            for switch in switches:
                undo.enter_context(turned(switch))
            yield module
        return
    _require_usable(module)
    training = any(getattr(part, "training", False) for part in module.modules())
    view = _untorn(module) if training or own_weights else view_of(module)
    before = _versions(module)
    with plain_checkpoints(), ExitStack() as undo:
        for switch in switches:
            undo.enter_context(turned(switch))
        if isinstance(model, ReadModel):
            view.register_forward_hook(Reading(model.read))
        try:
            yield view
        except RuntimeError as error:
            if training or before == _versions(module):
                raise
            raise OctoscopeError(_changed(module)) from error
    if not training and before != _versions(module):
        raise OctoscopeError(_changed(module))


def require_module(model: object) -> None:
    """Refuse what is no module.

    Raises:
        OctoscopeError: With what to do instead.
    """
    if not isinstance(model, nn.Module):
        kind = "function" if callable(model) else type(model).__name__
        raise OctoscopeError(
            f"the model is a {kind}, in which no layer, mode or weight can be found; make it an "
            "nn.Module that has the network as a part and calls it in its forward()"
        )


def _require_usable(module: nn.Module) -> None:
    for parameter in module.parameters():
        if isinstance(parameter, nn.UninitializedParameter):
            raise OctoscopeError(
                f"{type(module).__name__} has lazy layers without weights yet; run it once on an "
                "image"
            )
        if parameter.is_inference():
            raise OctoscopeError(
                f"{type(module).__name__} was built under torch.inference_mode(), so no gradient "
                "can pass through it; build or load it outside"
            )


def _untorn(module: nn.Module) -> nn.Module:
    """Return a view with copies of the weights, all as they were at one time."""
    for _ in range(TRIES):
        before = _versions(module)
        view = view_of(module, own_weights=True)
        if before == _versions(module):
            return view
    raise OctoscopeError(_changed(module))


def _versions(module: nn.Module) -> list[int]:
    """Return how often each weight has been changed in place."""
    return [parameter._version for parameter in module.parameters()]


def _changed(module: nn.Module) -> str:
    return (
        f"the weights of {type(module).__name__} were changed while it was explained; let the "
        "other thread wait, or explain a copy (copy.deepcopy(model))"
    )


@contextmanager
def own_device(view: nn.Module) -> Iterator[None]:
    """Make tensors on the CPU unless told otherwise, but in the view on the caller's default.

    `torch.set_default_device` is for the caller's own code.
    """
    device = torch.get_default_device()
    if device.type == "cpu":
        yield
        return
    forward = view.forward

    def as_ever(*args: Any, **kwargs: Any) -> Any:
        with torch.device(device):
            return forward(*args, **kwargs)

    vars(view)["forward"] = as_ever
    with torch.device("cpu"):
        yield


@contextmanager
def turned(switch: Switch) -> Iterator[None]:
    """Change one attribute of a module for the length of the context."""
    part, name, value = switch
    before = getattr(part, name)
    setattr(part, name, value)
    try:
        yield
    finally:
        setattr(part, name, before)
