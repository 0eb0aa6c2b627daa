"""What a JSON file must hold to be shown, and where it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from octoscope.report.html import known

EACH = "*"
"""Key of the shape that every value of an object has, whatever its key is."""


@dataclass(frozen=True)
class Kind:
    """A kind of value.

    Attributes:
        name: What it is called.
        holds: Whether a value is of it.
    """

    name: str
    holds: Callable[[Any], bool]


def _number(value: Any) -> bool:
    return known(value) and not isinstance(value, bool)


ANY = Kind("anything", lambda value: True)
TEXT = Kind("a text", lambda value: isinstance(value, str))
TEXT_OR_NONE = Kind("a text", lambda value: value is None or isinstance(value, str))
OBJECT = Kind("an object", lambda value: isinstance(value, dict))
OBJECT_OR_NONE = Kind("an object", lambda value: value is None or isinstance(value, dict))
NUMBER = Kind("a number", lambda value: value is None or _number(value))
"""Null stands for what is not defined, here as in the other kinds of numbers."""
SHARE = Kind(
    "a number from 0 to 1",
    lambda value: value is None or (_number(value) and -1e-9 <= value <= 1 + 1e-9),
)
COUNT = Kind(
    "a count", lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0
)
COUNT_OR_NONE = Kind("a count", lambda value: value is None or COUNT.holds(value))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
NONE = Kind("nothing", lambda value: value is None)

Shape = Any
"""A `Kind`; a list ``[shape]`` of such; an object ``{key: shape}``, where ``"key?"`` may be missing
and `EACH` is any other key; or a tuple of shapes, one of which fits. Further keys are allowed."""


def fault_of(value: Any, shape: Shape, where: str = "") -> str:
    """Return what is wrong with a value and where, '' if nothing is.

    Args:
        value: Content of a JSON file, or a part of it.
        shape: What it must be.
        where: Place of the part, such as ``overall.accuracy``.
    """
    if isinstance(shape, Kind):
        return "" if shape.holds(value) else f"{_named(where)} is {_shown(value)}, not {shape.name}"
    if isinstance(shape, tuple):
        faults = [fault_of(value, one, where) for one in shape]
        return "" if "" in faults else faults[0]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{_named(where)} is {_shown(value)}, not a list"
        found = (fault_of(part, shape[0], f"{where}[{n}]") for n, part in enumerate(value))
        return next(filter(None, found), "")
    if not isinstance(value, dict):
        return f"{_named(where)} is {_shown(value)}, not an object"
    return _fault_of_object(value, shape, where)


def _fault_of_object(value: Mapping[str, Any], shape: Mapping[str, Shape], where: str) -> str:
    start = f"{where}." if where else ""
    named = {key.removesuffix("?"): part for key, part in shape.items() if key != EACH}
    for key in shape:
        if key != EACH and not key.endswith("?") and key not in value:
            return f"{start}{key} is missing"
    for key, part in value.items():
        wanted = named.get(key, shape.get(EACH))
        if wanted is not None and (fault := fault_of(part, wanted, f"{start}{key}")):
            return fault
    return ""


def _named(where: str) -> str:
    return where or "its content"


def _shown(value: Any) -> str:
    """Return a value as a message shows it: short."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if value is None:
        return "null"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
