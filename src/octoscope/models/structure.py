"""What a module is set to, as far as it can be told without running it."""

from __future__ import annotations

from collections.abc import Hashable

from torch import nn

PLAIN = (bool, str, type(None))
"""Types of attributes that are settings of a module; numbers may be counters."""


def settings_of(part: nn.Module) -> tuple[tuple[str, Hashable], ...]:
    """Return the truth values, texts and functions that are attributes of a module."""
    return tuple(
        (name, value if isinstance(value, PLAIN) else id(value))
        for name, value in vars(part).items()
        if isinstance(value, PLAIN) or callable(value)
    )


def parts_of(module: nn.Module) -> Hashable:
    """Return something that is equal as long as the parts of a model and their settings are."""
    return tuple((id(part), type(part), settings_of(part)) for part in module.modules())
