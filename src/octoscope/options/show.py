"""What a verb says of its options: the text of ``--help``, and all values as YAML."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from octoscope.options.hints import describe, members_of, said
from octoscope.options.verb import Option, Verb, options_of

INDENT = 24

OWN = (
    ("--config FILE", "YAML file with any of these options; may be given several times."),
    ("--print-config", "Print all options as such a file and run nothing."),
    ("--help", "Print this and run nothing."),
)


def help_text(verb: Verb) -> str:
    """Return the help of a verb, as wide as the terminal."""
    width = min(shutil.get_terminal_size().columns, 110)
    lines = [f"usage: octoscope {' '.join([verb.name, *_words(verb), '[options]'])}", ""]
    lines += textwrap.wrap(verb.does[:1].upper() + verb.does[1:] + ".", width)
    if verb.places:
        lines.append("")
    for option in verb.places:
        lines += _entry(_place(option), option.help, width)
    lines += ["", "options, each also a key of a YAML file:"]
    for option in verb.options:
        if not option.is_place:
            for name, text in _described(option):
                lines += _entry(name, text, width)
    for name, text in OWN:
        lines += _entry(name, text, width)
    return "\n".join(lines)


def config_text(verb: Verb, arguments: Mapping[str, Any]) -> str:
    """Return the values of all options as YAML that can be given back with ``--config``.

    Args:
        verb: The verb.
        arguments: What its function would be called with; what is left out has its default.
    """
    import yaml

    values: dict[str, Any] = {}
    for option in verb.options:
        if option.owner in verb.spread:
            value = getattr(arguments[option.owner], option.name)
        else:
            value = arguments.get(option.name, option.default)
        if value is not MISSING:
            values[option.name] = _plain(value)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True).rstrip()


def _plain(value: Any) -> Any:
    """Return dataclasses as mappings, tuples as lists and paths as text."""
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _words(verb: Verb) -> list[str]:
    """Return the places of a verb; a study's is the file of its options."""
    return ["[FILE]"] if verb.name == "study" else [_place(option) for option in verb.places]


def _place(option: Option) -> str:
    name = option.name.upper()
    if option.takes_many:
        name += " …"
    return name if option.required else f"[{name}]"


def _described(option: Option) -> Iterator[tuple[str, str]]:
    """Yield an option with its help, and those nested in it."""
    flag = f"--{option.name}".replace("_", "-")
    nested = next((m for m in members_of(option.hint) if is_dataclass(m)), None)
    if isinstance(nested, type):
        yield f"{flag}.…", option.help
        for inner in options_of(nested, option.owner, prefix=f"{option.name}."):
            yield from _described(inner)
        return
    text = option.help
    if get_origin(option.hint) in (tuple, list) and is_dataclass(inner := get_args(option.hint)[0]):
        names = ", ".join(field.name for field in fields(inner))
        text += f" A list of mappings; {flag}.KEY sets a key of each: {names}."
    elif option.default is not MISSING:
        kinds = [m for m in _parts(option.hint) if m not in (str, type(None))]
        kind = "" if _choices(option) else "".join(f"{describe(m)}, " for m in kinds)
        text += f" ({kind}by default {_default(option.default)})"
    yield f"{flag}{_metavar(option)}", text


def _metavar(option: Option) -> str:
    if members_of(option.hint) == (bool,):
        return " [true|false]"
    if choices := _choices(option):
        return f" {{{','.join(map(str, choices))}}}"
    return f" {option.name.rpartition('.')[2].upper()}"


def _choices(option: Option) -> tuple[Any, ...]:
    """Return what an option is chosen from, none if it may be something else as well."""
    kinds = [m for m in members_of(option.hint) if m is not type(None)]
    return get_args(kinds[0]) if len(kinds) == 1 and get_origin(kinds[0]) is Literal else ()


def _parts(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union with their limits, or the one type."""
    return get_args(hint) if len(members_of(hint)) > 1 else (hint,)


def _default(value: Any) -> str:
    if isinstance(value, str):
        return value or "empty"
    if isinstance(value, tuple):
        return ", ".join(str(one) for one in value) or "empty"
    if value is None:
        return "none"
    return f"{value:g}" if type(value) is float else said(value)


def _entry(name: str, text: str, width: int) -> list[str]:
    """Return an option and its help beside it, or below it if it is long."""
    name = f"  {name}"
    lines = textwrap.wrap(text.replace("``", "`"), max(width - INDENT, 30)) or [""]
    if len(name) >= INDENT - 1:
        return [name, *(" " * INDENT + line for line in lines)]
    first, *rest = lines
    return [f"{name:<{INDENT}}{first}".rstrip(), *(" " * INDENT + line for line in rest)]
