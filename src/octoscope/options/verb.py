"""A verb of the command line: a function whose parameters are the options.

- A parameter without default is a place: ``octoscope evaluate RUN``.
- A ``list[…]`` takes all places that are left: at least one if it has no default.
- Any other is an option, ``--split``.
- A dataclass without default is spread: its fields are options of the verb. One with a default is
  nested: ``--framing.height``.

All are keys of a YAML file as well. The docstrings are the help.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, get_origin

from octoscope.options.binding import build
from octoscope.options.hints import hints_of, members_of


@dataclass(frozen=True)
class Option:
    """One parameter of a verb, or one field of a dataclass that is spread or nested in it.

    Attributes:
        name: As a key of YAML; on the command line behind ``--``, or in capitals for a place.
        hint: Its type.
        default: What it is without being given; MISSING if it must be given.
        help: What the docstring says of it.
        is_place: Whether it is given by its place.
        owner: The parameter of the verb that it belongs to: itself, or the dataclass spread.
    """

    name: str
    hint: Any
    default: Any
    help: str
    is_place: bool
    owner: str

    @property
    def takes_many(self) -> bool:
        """Whether it takes all places that are left."""
        return self.is_place and any(get_origin(m) is list for m in members_of(self.hint))

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is MISSING


@dataclass(frozen=True)
class Verb:
    """A verb and its options.

    Attributes:
        name: What it is called.
        function: What does its work.
        does: The first line of help.
        options: In the order of the function, places among them.
        spread: Parameter → the dataclass whose fields are options of the verb.
    """

    name: str
    function: Callable[..., None]
    does: str
    options: tuple[Option, ...]
    spread: Mapping[str, type]

    @property
    def places(self) -> tuple[Option, ...]:
        """The options that are given by their place."""
        return tuple(option for option in self.options if option.is_place)

    @property
    def hints(self) -> dict[str, Any]:
        """Option → type."""
        return {option.name: option.hint for option in self.options}

    def arguments(self, given: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Return the arguments of the function from what `bind` made of the options.

        Raises:
            OctoscopeError: If the fields of a dataclass do not go together.
        """
        arguments: dict[str, Any] = {}
        parts: dict[str, dict[str, Any]] = {owner: {} for owner in self.spread}
        for option in self.options:
            if option.name in given:
                if option.owner in parts:
                    parts[option.owner][option.name] = given[option.name]
                else:
                    name = option.name
                    arguments[name] = build(option.hint, given[name], f"{where}{name}")
        for owner, part in parts.items():
            arguments[owner] = build(self.spread[owner], part, where)
        return arguments


def verb_of(function: Callable[..., None], does: str, hidden: Collection[str] = ()) -> Verb:
    """Return a function as a verb.

    Args:
        function: Any function with type hints and a docstring with ``Args:``.
        does: One line of help.
        hidden: Fields of spread dataclasses that are no options.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    helps = entries_of(function)
    options: list[Option] = []
    spread: dict[str, type] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        required = parameter.default is inspect.Parameter.empty
        if required and is_dataclass(hint):
            cls = spread[name] = typing.cast(type, hint)
            options += [one for one in options_of(cls, name) if one.name not in hidden]
            continue
        many = any(get_origin(m) is list for m in members_of(hint))
        default = MISSING if required else parameter.default
        options.append(
            Option(name, hint, default, helps.get(name, ""), required or many, owner=name)
        )
    return Verb(function.__name__, function, does, tuple(options), spread)


def options_of(cls: type, owner: str, prefix: str = "") -> list[Option]:
    """Return the fields of a dataclass as options."""
    helps = entries_of(cls)
    options = []
    for field in fields(cls):
        default = field.default
        if field.default_factory is not MISSING:
            default = field.default_factory()
        hint = hints_of(cls)[field.name]
        name = prefix + field.name
        options.append(Option(name, hint, default, helps.get(field.name, ""), False, owner))
    return options


ENTRY = re.compile(r"    (\w+): (.*)")


def entries_of(documented: Any) -> dict[str, str]:
    """Return name → text of the ``Args:`` or ``Attributes:`` of a docstring, each on one line."""
    entries: dict[str, str] = {}
    name, inside = "", False
    for line in inspect.cleandoc(documented.__doc__ or "").splitlines():
        if line and not line.startswith(" "):
            inside = line in ("Args:", "Attributes:")
        elif inside and (match := ENTRY.fullmatch(line)):
            name, entries[match[1]] = match[1], match[2]
        elif inside and name and line.strip():
            entries[name] += f" {line.strip()}"
    return entries
