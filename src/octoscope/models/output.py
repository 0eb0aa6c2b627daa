"""Which part of what a model gives are the logits, for models that give more than a tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from octoscope.errors import OctoscopeError, did_you_mean

Output = str | int | Callable[[Any], Tensor]
"""An entry of a dict or attribute, a place in a tuple or list, or a function of what is given."""

MOST_NAMED = 12
"""Parts of a model's output that a message lists."""


class ReadModel(nn.Module):
    """A model, and how what it gives is read.

    It shares every parameter with the model. `octoscope.models.borrow` looks into it, so layers
    keep their names.

    Attributes:
        model: Any module.
        read: What the model gives to a tensor, (B, K) where logits are wanted.
    """

    def __init__(self, model: nn.Module, read: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.read = read

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """Run the model and read what it gives."""
        return self.read(self.model(*inputs, **named))


class Reading:
    """A forward hook that puts what is read in place of what the model gives.

    What is found out of a lent model that has one holds for this reading alone.
    """

    def __init__(self, read: Callable[[Any], Tensor]) -> None:
        self._read = read

    def __call__(self, _module: nn.Module, _inputs: Any, output: Any) -> Tensor:
        """Read what the model gives."""
        return self._read(output)


def is_read(lent: nn.Module) -> bool:
    """Say whether what a lent model gives is replaced by what is read of it."""
    return any(isinstance(hook, Reading) for hook in lent._forward_hooks.values())


def tensors_in(output: Any) -> list[Tensor]:
    """Return all tensors of what a model gives, nested or not."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    elif not isinstance(output, tuple | list):
        output = list(getattr(output, "__dict__", {}).values())
    parts = [one for one in output if isinstance(one, Tensor | Mapping | tuple | list)]
    return [tensor for part in parts for tensor in tensors_in(part)]


def select(output: Any, wanted: Output) -> Tensor:
    """Take a part of what a model gives.

    Args:
        output: A tensor, dict, tuple, list, or object with attributes, nested or not.
        wanted: Which part.

    Raises:
        OctoscopeError: If it is not there or no tensor, with what there is.
    """
    if isinstance(wanted, str | int):
        found = _part(output, wanted)
        if found is None:
            known = list(output) if isinstance(output, Mapping) else []
            near = did_you_mean(wanted, map(str, known)) if isinstance(wanted, str) else ""
            raise OctoscopeError(
                f"output={wanted!r} is no part of what the model gives{near}; "
                f"it gives {described(output)}"
            )
    else:
        found = wanted(output)
    if not isinstance(found, Tensor):
        raise OctoscopeError(
            f"output={_called(wanted)} is {described(found)}, not a tensor; "
            "give a function that takes the tensor out of it"
        )
    return found


def _part(output: Any, wanted: str | int) -> Any:
    """Return a named or numbered part, None if there is none."""
    if isinstance(wanted, str):
        if isinstance(output, Mapping):
            return output.get(wanted)
        return None if wanted.startswith("_") else getattr(output, wanted, None)
    parts = list(output.values()) if isinstance(output, Mapping) else output
    if isinstance(parts, tuple | list) and -len(parts) <= wanted < len(parts):
        return parts[wanted]
    return None


def described(output: Any) -> str:
    """Say in words what a model gave: kinds and shapes, never values."""
    if isinstance(output, Tensor):
        return f"a tensor {tuple(output.shape)}"
    if isinstance(output, Mapping):
        parts = [f'"{key}": {_short(value)}' for key, value in output.items()]
        return f"a {type(output).__name__} with {_listed(parts)}"
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        parts = [f'"{k}": {_short(v)}' for k, v in zip(output._fields, output, strict=True)]
        return f"a {type(output).__name__} with {_listed(parts)}"
    if isinstance(output, tuple | list):
        parts = [f"{place}: {_short(value)}" for place, value in enumerate(output)]
        return f"a {type(output).__name__} with {_listed(parts)}"
    return f"a {type(output).__name__}"


def _short(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _listed(parts: list[str]) -> str:
    more = [] if len(parts) <= MOST_NAMED else ["…"]
    return ", ".join(parts[:MOST_NAMED] + more) or "nothing in it"


def _called(wanted: Output) -> str:
    return repr(wanted) if isinstance(wanted, str | int) else "the function given"
