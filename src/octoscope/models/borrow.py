"""Borrowing someone's model for a pass: whatever is changed for it is put back afterwards.

An explanation needs a model in evaluation mode with frozen parameters, some of its switches turned
(fused attention off, gradient checkpointing off), and compiled code run eagerly so that hooks see
every layer. None of that may be left behind, also when something raises in the middle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from octoscope.errors import OctoscopeError
from octoscope.models.output import Reading, ReadModel

Switch = tuple[nn.Module, str, Any]
"""A module, the name of one of its attributes, and the value it has while the model is lent."""


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
def borrowed(model: nn.Module, switches: Iterable[Switch] = ()) -> Iterator[nn.Module]:
    """Lend the eager module of `model`: evaluating, frozen, switches turned, nothing compiled.

    On leaving, also by an exception, the training flag of every single module, the
    ``requires_grad`` of every parameter and every switch are as they were. Parameters' ``.grad``
    and buffers (running statistics) are not touched at all. The flags are set directly, not by
    ``model.eval()``, because models override that method to do more than set flags.

    Args:
        model: Any module, also a compiled or ``DataParallel`` one.
        switches: Attributes to change meanwhile. ``grad_checkpointing`` is always off: a segment
            that is recomputed would lose what its hooks captured.

    Yields:
        The eager module. That of a `ReadModel` gives what is read, as long as it is lent.

    Raises:
        OctoscopeError: If the model was built under ``torch.inference_mode``, which forbids
            gradients through it for good.
    """
    module = eager(model)
    modules = list(module.modules())
    if any(parameter.is_inference() for parameter in module.parameters()):
        raise OctoscopeError(
            f"{type(module).__name__} was built under torch.inference_mode(), so no gradient can "
            "pass through it; build or load it outside"
        )
    with ExitStack() as undo:
        for part in modules:
            state = vars(part)  # getattr on a module is slow where there is nothing to find
            if state.get("training"):
                undo.enter_context(turned((part, "training", False)))
            if state.get("grad_checkpointing") is True:
                undo.enter_context(turned((part, "grad_checkpointing", False)))
        for switch in switches:
            undo.enter_context(turned(switch))
        for parameter in module.parameters():
            if parameter.requires_grad:
                undo.callback(parameter.requires_grad_, True)
                parameter.requires_grad_(False)
        if isinstance(model, ReadModel):
            undo.callback(module.register_forward_hook(Reading(model.read)).remove)
        if any(_compiled(part) for part in modules):
            undo.enter_context(torch.compiler.set_stance("force_eager"))
        yield module


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


def _compiled(part: nn.Module) -> bool:
    """Say whether calling `part` runs compiled code: wrapped, or compiled in place."""
    return "_orig_mod" in part._modules or vars(part).get("_compiled_call_impl") is not None
