"""The last block of a transformer, and changing what goes into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from octoscope.errors import OctoscopeError
from octoscope.models.layers import find_layer
from octoscope.models.rules import FIRST_NORMS

ATTENTIONS = ("attn", "self_attention")
"""What blocks call their attention."""


@dataclass(frozen=True)
class LastBlock:
    """The last block of a transformer: x + attention(norm(x)), and so on.

    Attributes:
        block: The block.
        norm: What its attention sees x through.
        norm_name: Qualified name of `norm`.
        attention: Its attention.
    """

    block: nn.Module
    norm: nn.Module
    norm_name: str
    attention: nn.Module


def last_block(module: nn.Module) -> LastBlock:
    """Find the last block of a transformer, without running it.

    Raises:
        OctoscopeError: If there is none that normalises tokens before its attention.
    """
    name, norm = find_layer(module) or ("", module)
    if not normalises_tokens(name):
        raise OctoscopeError(
            f"{type(module).__name__} has no last transformer block that normalises its tokens "
            "before attention; use reciprocam"
        )
    block = module.get_submodule(name.rpartition(".")[0])
    for attribute in ATTENTIONS:
        attention = getattr(block, attribute, None)
        if isinstance(attention, nn.Module):
            return LastBlock(block, norm, name, attention)
    raise OctoscopeError(f"the last block of {type(module).__name__} has no attention; use gradcam")


def normalises_tokens(name: str) -> bool:
    """Say whether a layer, by its name, is the first norm of a transformer block."""
    return name.rpartition(".")[2] in FIRST_NORMS


class Entrance:
    """What is done to the tokens (m, …) that enter a block: nothing, until `edit` is set."""

    def __init__(self) -> None:
        self.edit: Callable[[Tensor], Tensor] | None = None

    def __call__(self, _block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Change the first input (forward pre-hook)."""
        return None if self.edit is None else (self.edit(inputs[0]), *inputs[1:])


@contextmanager
def entering(block: nn.Module) -> Iterator[Entrance]:
    """Stand at the entrance of a block for the length of the context."""
    entrance = Entrance()
    hook = block.register_forward_pre_hook(entrance)
    try:
        yield entrance
    finally:
        hook.remove()
