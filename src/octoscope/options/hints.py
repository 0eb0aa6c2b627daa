"""What type hints ask for, and how a message says that and the value that is not it."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from octoscope.options.limits import Limit

LARGEST = 2**63 - 1


def hints_of(cls: Any) -> dict[str, Any]:
    """Return field → type hint of a dataclass, limits included."""
    return _hints(cls)


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def unwrapped(hint: Any) -> tuple[Any, tuple[Limit, ...]]:
    """Split ``Annotated[hint, limits…]``."""
    if get_origin(hint) is Annotated:
        inner, *limits = get_args(hint)
        return inner, tuple(limits)
    return hint, ()


def members_of(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the one type."""
    union = get_origin(hint) in (Union, types.UnionType)
    return tuple(unwrapped(m)[0] for m in get_args(hint)) if union else (unwrapped(hint)[0],)


def describe(hint: Any, limits: Sequence[Limit] = ()) -> str:
    """Return what a type hint asks for, such as ``a whole number from 1``."""
    hint, own = unwrapped(hint)
    tail = "".join(f" {text}" for limit in (*limits, *own) if (text := limit.describe()))
    if get_origin(hint) in (Union, types.UnionType):
        texts = [describe(m) for m in sorted(get_args(hint), key=lambda m: m is type(None))]
        return " or ".join(texts) + tail
    if get_origin(hint) is Literal:
        choices = ", ".join(c if isinstance(c, str) else said(c) for c in get_args(hint))
        return f"one of {choices}" if len(get_args(hint)) > 1 else choices
    if get_origin(hint) in (tuple, list):
        inner = get_args(hint)
        count = "a list" if inner[-1] is Ellipsis or len(inner) == 1 else f"a list of {len(inner)}"
        kind = describe(inner[0]).removeprefix("a ")
        return f"{count}, each a {kind}" if not is_dataclass(inner[0]) else f"{count} of mappings"
    if is_dataclass(hint) or get_origin(hint) is not None:
        return "a mapping"
    names = {
        str: "a text", int: "a whole number", float: "a number", bool: "true or false",
        Path: "a path", type(None): "null",
    }  # fmt: skip
    return names[hint] + tail


def said(value: Any) -> str:
    """Return a value as a message can show it: short, and on one line."""
    if isinstance(value, bool) or value is None:
        return str({True: "true", False: "false", None: "null"}[value])
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a number beyond 64 bits"
    text = repr(value) if not isinstance(value, Path) else repr(str(value))
    return text if len(text) <= 60 else f"{text[:59]}…"


def short(word: str) -> str:
    """Return a word, or as much of it as a message can show."""
    return word if len(word) <= 60 else f"{word[:59]}…"
