"""From plain values to the types of our dataclasses and verbs, strictly and by name.

A value is checked against a type hint: text, whole number, number, true or false, path, a choice
(``Literal``), lists, mappings of plain values, dataclasses, and unions of these. Nothing is looked
up by what a value says, so that no file can name a class, a function or a module.
"""

from __future__ import annotations

import math
import re
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.options.hints import (
    LARGEST,
    describe,
    hints_of,
    members_of,
    said,
    short,
    unwrapped,
)
from octoscope.options.limits import Limit
from octoscope.options.plain import MAX_DEPTH, MAX_VALUES

LONGEST = 4096
"""Characters of a text."""


def make(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """Make a dataclass from plain values; what they leave out keeps its default.

    Args:
        cls: The dataclass.
        values: Field → plain value.
        where: What the values are, for messages: a file, an option, the dataclass's name.

    Raises:
        OctoscopeError: On an unknown field, a value of the wrong type or out of range.
    """
    return build(cls, bind(cls, values, where), where)


def bind(hint: Any, value: Any, where: str) -> Any:
    """Return a value as its type hint wants it.

    A dataclass stays a dictionary of those fields that are given, so that files and options can be
    laid over each other; `build` makes it.

    Args:
        hint: The type.
        value: A plain value, or one that is of the type already.
        where: Where it stands, as ``recipe.yaml: models[0].epochs`` or ``--epochs``.

    Raises:
        OctoscopeError: If it is of another type, or out of range.
    """
    hint, limits = unwrapped(hint)
    if is_dataclass(hint):
        return _bind_fields(typing.cast(type, hint), value, where)
    if len(members := members_of(hint)) > 1:
        return _bind_union(hint, members, value, where)
    bound = _bind_one(hint, value, where, limits)
    for limit in limits:
        complaint = limit.complaint(bound)
        if complaint is not None:
            wrong = _wrong(hint, value, where, limits)
            raise OctoscopeError(f"{where}: {complaint}") if complaint else wrong
    return bound


def build(hint: Any, bound: Any, where: str) -> Any:
    """Make the dataclasses in what `bind` returned; other values are what they are.

    Raises:
        OctoscopeError: If the fields of one do not go together.
    """
    hint, _ = unwrapped(hint)
    nested = next((m for m in members_of(hint) if is_dataclass(m)), None)
    if nested is not None and isinstance(bound, dict):
        hints = hints_of(nested)
        values = {k: build(hints[k], v, below(where, k)) for k, v in bound.items()}
        try:
            return typing.cast(type, nested)(**values)
        except OctoscopeError as error:
            at = f"{where.rstrip(': ')}: " if where else ""
            own = re.split(r"[ .]", where)[-1]  # "framing: framing: …" would say it twice
            raise OctoscopeError(f"{at}{str(error).removeprefix(f'{own}: ')}") from None
    if get_origin(hint) in (tuple, list) and isinstance(bound, list | tuple):
        inner = get_args(hint)[0]
        return type(bound)(build(inner, v, f"{where}[{i}]") for i, v in enumerate(bound))
    return bound


def check_fields(instance: Any, owner: str) -> None:
    """Check the fields of a dataclass against their hints, for those made in Python.

    Raises:
        OctoscopeError: If one is of another type, or out of range.
    """
    for name, hint in hints_of(type(instance)).items():
        value = getattr(instance, name)
        bound = bind(hint, value, f"{owner}: {name}")
        if isinstance(bound, bool) and bound is not value:  # "no" is a switch in files only
            raise _wrong(hint, value, f"{owner}: {name}", ())


def below(where: str, key: str) -> str:
    """Return where an entry of `where` stands: ``file: key``, ``--key``, ``models[0].key``."""
    return f"{where}{key}" if not where or where.endswith((" ", "--")) else f"{where}.{key}"


def _bind_union(hint: Any, members: Sequence[Any], value: Any, where: str) -> Any:
    """Return the value as the member that it fits, telling what is wrong for the likeliest."""
    candidates = [m for m in get_args(hint) if _is_of_kind(unwrapped(m)[0], value)]
    if len(candidates) == 1:
        return bind(candidates[0], value, where)
    for candidate in candidates:
        try:
            return bind(candidate, value, where)
        except OctoscopeError:
            continue
    raise _wrong(hint, value, where, ())


def _is_of_kind(hint: Any, value: Any) -> bool:
    """Say whether a value may be meant for a type, by its own type alone."""
    if is_dataclass(hint):
        return isinstance(value, Mapping | typing.cast(type, hint))
    origin = get_origin(hint)
    if origin is Literal:
        return any(type(value) is type(choice) for choice in get_args(hint))
    if origin in (tuple, list):
        return isinstance(value, list | tuple)
    if origin is not None:
        return isinstance(value, Mapping)
    if hint is bool:
        return _truth(value) is not None
    if hint in (int, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, str | Path if hint is Path else hint)


def _bind_one(hint: Any, value: Any, where: str, limits: Sequence[Limit]) -> Any:
    origin = get_origin(hint)
    if origin is Literal:
        choices = get_args(hint)
        for choice in choices:
            if type(choice) is type(value) and choice == value:
                return choice
        texts = [str(c).lower() if isinstance(c, bool) else str(c) for c in choices]
        word = value if isinstance(value, str) else said(value)
        raise OctoscopeError(
            f'{where} "{short(word)}" is unknown{did_you_mean(word, texts)}; '
            f"choose one of {', '.join(texts)}"
        )
    if origin in (tuple, list):
        return _bind_list(hint, value, where)
    if origin is not None:
        if not isinstance(value, Mapping):
            raise _wrong(hint, value, where, limits)
        return require_plain(value, where)
    if hint is bool and (truth := _truth(value)) is not None:
        return truth
    if hint is Path and isinstance(value, str | Path):
        return Path(_text(str(value), where, empty="; give a path"))
    if hint is str and isinstance(value, str):
        return _text(value, where)
    if hint in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
        if hint is int and isinstance(value, int) and abs(value) <= LARGEST:
            return value
        if hint is float and abs(value) <= sys.float_info.max:  # leaves out nan and infinity
            return float(value)
    if hint is type(None) and value is None:
        return None
    raise _wrong(hint, value, where, limits)


def _bind_list(hint: Any, value: Any, where: str) -> Any:
    inner = get_args(hint)
    if not isinstance(value, list | tuple):
        raise _wrong(hint, value, where, ())
    if get_origin(hint) is tuple and inner[-1] is not Ellipsis and len(value) != len(inner):
        raise _wrong(hint, value, where, ())
    return get_origin(hint)(bind(inner[0], v, f"{where}[{i}]") for i, v in enumerate(value))


def _bind_fields(cls: Any, value: Any, where: str) -> Any:
    if isinstance(value, cls):
        return value
    at = where.removesuffix(": ")
    if not isinstance(value, Mapping):
        names = ", ".join(hints_of(cls))
        raise OctoscopeError(f"{at} must be a mapping of {names}; not {said(value)}")
    hints = {f.name: hints_of(cls)[f.name] for f in fields(cls)}
    for key in value:
        if key not in hints:
            raise unknown(key, hints, at)
    return {key: bind(hints[key], one, below(where, key)) for key, one in value.items()}


def unknown(key: Any, known: Mapping[str, Any], where: str) -> OctoscopeError:
    """Return the error of a field that does not exist."""
    word = str(key)
    return OctoscopeError(
        f'{where} has no field "{short(word)}"{did_you_mean(word, known)}; '
        f"known are {', '.join(known)}"
    )


def require_plain(value: Any, where: str) -> Any:
    """Check that a value is made of texts, finite numbers, true, false, null, lists and mappings.

    Raises:
        OctoscopeError: If it holds anything else, or too much.
    """
    left = [(value, 1)]
    for count in range(MAX_VALUES + 1):
        if not left:
            return value
        one, depth = left.pop()
        if count == MAX_VALUES or depth > MAX_DEPTH:
            raise OctoscopeError(f"{where}: holds too much; give a few options")
        if isinstance(one, Mapping):
            left += [(v, depth + 1) for v in one.values()]
            good = all(isinstance(k, str) and len(k) <= LONGEST for k in one)
        elif isinstance(one, list | tuple):
            left += [(v, depth + 1) for v in one]
            good = True
        elif isinstance(one, float):
            good = math.isfinite(one)
        elif isinstance(one, int):
            good = abs(one) <= LARGEST
        else:
            good = one is None or (type(one) is str and len(one) <= LONGEST)
        if not good:
            raise OctoscopeError(
                f"{where}: {said(one)} is no plain value; use texts, numbers, true, false, null, "
                "and lists or mappings of them"
            )
    return value


def _truth(value: Any) -> bool | None:
    """Return what true, false, yes, no, on and off mean, None for anything else."""
    if isinstance(value, str):
        return TRUTHS.get(value.lower())
    return value if isinstance(value, bool) else None


TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _text(value: str, where: str, empty: str = "") -> str:
    if "\0" in value:
        raise OctoscopeError(f"{where} holds a zero byte; leave it out")
    if len(value) > LONGEST:
        raise OctoscopeError(f"{where} is longer than {LONGEST} characters; shorten it")
    if empty and not value:
        raise OctoscopeError(f"{where} is empty{empty}")
    return value


def _wrong(hint: Any, value: Any, where: str, limits: Sequence[Limit]) -> OctoscopeError:
    return OctoscopeError(f"{where} must be {describe(hint, limits)}, not {said(value)}")
