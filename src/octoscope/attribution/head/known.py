"""What was found out of a model by trying it, kept as long as the model lives and stays as it is.

Trials tell how a model can be run (in part, in closed form), not what it says, so they are made
once and not for every batch. They are forgotten as soon as anything of the model changes that
`structure_of` sees: a module, a hook, a setting, a weight. What was found is kept as numbers and
names, never as modules, so that nothing holds the model back when its owner lets go of it.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from octoscope.attribution.capture import given_a_copy
from octoscope.models.structure import settings_of
from octoscope.models.view import remembered_by

MOST_TOPICS = 64
"""Findings kept of one model: layers times image sizes times kinds of trial."""

_FOUND: WeakKeyDictionary[nn.Module, tuple[Hashable, dict[Hashable, Any]]] = WeakKeyDictionary()


class Known:
    """What is known of a lent model as it is now.

    Args:
        module: The lent model.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = remembered_by(module)

    def get(self, topic: Hashable) -> Any:
        """Return what was found, None if nothing was."""
        return self._found.get(topic)

    def put(self, topic: Hashable, finding: Any) -> None:
        """Keep a finding, which must hold no module of the model."""
        if len(self._found) >= MOST_TOPICS:
            self._found.clear()
        self._found[topic] = finding

    @cached_property
    def _found(self) -> dict[Hashable, Any]:
        structure = structure_of(self._module)
        before = _FOUND.get(self._module)
        if before is None or before[0] != structure:
            _FOUND[self._module] = before = (structure, {})
        return before[1]


def structure_of(module: nn.Module) -> Hashable:
    """Return something that is equal as long as nothing of a model has changed, with exceptions.

    Weights count by their version, which PyTorch raises with every change in place, and by where
    they lie in memory; hooks by the keys of their handles, which PyTorch gives only once. Not
    noticed are changes

    - of weights in place through ``.data``, or of any made in inference mode;
    - of a module's plain attributes that are neither truth values, text, None nor callable: numbers
      (which may be counters), tuples, lists, dictionaries, and tensors that are no buffers;
    - within a function, hook or class that stays the same object, and of variables outside of the
      modules.
    """
    return tuple(_state(part) for part in module.modules())


def _state(part: nn.Module) -> Hashable:
    """Return what tells one module, without its children, from another."""
    hooks = tuple(
        key
        for kept in (part._forward_hooks, part._forward_pre_hooks)
        for key, hook in kept.items()
        if hook is not given_a_copy  # ours, put there anew for every call
    )
    weights = tuple(
        (name, _version(tensor))
        for kept in (part._parameters, part._buffers)
        for name, tensor in kept.items()
        if tensor is not None
    )
    return id(part), type(part), settings_of(part), hooks, weights


def _version(tensor: Tensor) -> Hashable:
    counted = 0 if tensor.is_inference() else tensor._version
    return id(tensor), counted, tensor.data_ptr()
