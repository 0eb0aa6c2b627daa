"""What a model that cannot be explained has to say, in a sentence instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from octoscope.errors import OctoscopeError

FAILURES = (TypeError, RuntimeError, AssertionError, NotImplementedError, AttributeError)
"""Errors of models' own code and of torch within it."""


@contextmanager
def plainly(module: nn.Module) -> Iterator[None]:
    """Turn errors that are known to come from what a model is into an `OctoscopeError`.

    Any other passes through: it is a fault of the model's own code, and its traceback says where.

    Args:
        module: The lent model.
    """
    try:
        yield
    except FAILURES as error:
        if (reason := _reason(module, error)) is None:
            raise
        raise OctoscopeError(reason) from error


def _reason(module: nn.Module, error: Exception) -> str | None:
    name, message = type(module).__name__, str(error)
    if isinstance(error, TypeError) and "forward()" in message and "missing" in message:
        return (
            f"{name} takes more than images ({message.partition('missing ')[2]}); put it into an "
            "nn.Module whose forward() takes images alone and adds the rest"
        )
    if isinstance(error, NotImplementedError) and _has_no_forward(module):
        return f"{name} has no forward(); explain the module that gives the logits"
    if "does not require grad" in message:
        return (
            f"the logits of {name} have no gradient, because it detaches its features or runs "
            'under no_grad; use methods of changed images, such as "occlusion"'
        )
    if "heckpoint" in message or "heckpoint" in type(error).__name__:
        return (
            f"{name} recomputes parts of its pass (gradient checkpointing of its own kind), in "
            "which nothing can be captured; switch that off"
        )
    if _scripted(module) and _asks_for_hooks(message):
        return (
            f"{name} is TorchScript, whose layers cannot be watched; explain the module that it "
            'was made from, or use methods of the image alone, such as "occlusion"'
        )
    types = sorted({str(p.dtype)[6:] for p in module.parameters() if p.is_floating_point()})
    if len(types) > 1 and any(word in message for word in ("dtype", "type", "Double", "Float")):
        return (
            f"{name} has weights of {' and '.join(types)} and does not convert between them; "
            f"convert all, as by .{'double' if 'float64' in types else 'float'}()"
        )
    return None


def _has_no_forward(module: nn.Module) -> bool:
    return getattr(type(module), "forward", None) is nn.Module.forward


def _scripted(module: nn.Module) -> bool:
    return any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())


def _asks_for_hooks(message: str) -> bool:
    return "hook" in message or "not supported on ScriptModules" in message
