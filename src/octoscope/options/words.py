"""From the words of a command line, and the files that it names, to the values of a verb's options.

Files come first, in their order, then the words: what stands on the command line prevails. A
dataclass is laid over another field by field, any other value replaces the one before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.options.binding import TRUTHS, bind, unknown
from octoscope.options.hints import describe, hints_of, members_of, said
from octoscope.options.plain import MAX_DIGITS, NUMBER, WHOLE, parse_plain, read_plain_file
from octoscope.options.verb import Option, Verb

Way = tuple[str, ...]
"""An option's way down the dataclasses: ``("framing", "height")``."""


@dataclass
class Given:
    """What a command line says.

    Attributes:
        values: Way to the option → value, as `bind` makes it.
        places: Words that belong to no option, in their order.
        configs: YAML files.
        wants: ``help``, ``print_config`` or None.
    """

    values: list[tuple[Way, Any]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    configs: list[Path] = field(default_factory=list)
    wants: Literal["help", "print_config"] | None = None


def read_words(words: Sequence[str], verb: Verb) -> Given:
    """Sort the words of a command line into options and places.

    ``--key value`` and ``--key=value`` are the same, so are ``-`` and ``_`` in a key. A switch
    needs no value, and ``--no-key`` puts it off. Behind ``--`` all words are places.

    Raises:
        OctoscopeError: On an unknown option, a missing value, or one of the wrong type.
    """
    given = Given()
    left = list(reversed(words))
    while left:
        word = left.pop()
        if word == "--":
            given.places += reversed(left)
            break
        if word in ("-h", "--help"):
            given.wants = "help"
            return given
        if not word.startswith("-") or word == "-":
            given.places.append(word)
            continue
        key, is_joined, value = word.partition("=")
        key = key.removeprefix("--").replace("-", "_") if key.startswith("--") else key
        if key == "print_config":
            given.wants = "print_config"
            continue
        flag = _switched_off(key, verb)
        if flag is not None and not is_joined:
            given.values.append(((flag,), False))
            continue
        way, hint = (("config",), Path) if key == "config" else find_option(key, word, verb)
        shown = f"--{'.'.join(way)}".replace("_", "-")
        if not is_joined:
            if members_of(hint) == (bool,) and (not left or left[-1].lower() not in TRUTHS):
                value = "true"
            elif not left or (left[-1].startswith("--") and left[-1] != "--"):
                raise OctoscopeError(f"{shown} needs a value: {describe(hint)}")
            else:
                value = left.pop()
        if key == "config":
            given.configs.append(from_text(Path, value, shown))
        else:
            given.values.append((way, from_text(hint, value, shown)))
    return given


def merge(given: Given, verb: Verb) -> dict[str, Any]:
    """Return option → value as `bind` makes it, from files, places and words.

    Raises:
        OctoscopeError: On a file that cannot be read or a wrong entry in it, and on too many or
            missing places.
    """
    values: dict[str, Any] = {}
    for config in given.configs:
        content = read_plain_file(config)
        if not isinstance(content, Mapping | None):
            raise OctoscopeError(
                f"{config}: holds {said(content)}; it must be a mapping of options, `key: value`"
            )
        hints = verb.hints
        for key, value in (content or {}).items():
            if key not in hints:
                raise unknown(key, hints, str(config))
            bound = bind(hints[key], value, f"{config}: {key}")
            values[key] = _over(hints[key], values.get(key), bound)
    places = _placed(given.places, verb)
    # whole values first, then single entries of them
    for way, value in sorted([*places, *given.values], key=lambda one: len(one[0])):
        _put(values, verb.hints, way, value)
    return values


def require_all(values: Mapping[str, Any], verb: Verb) -> None:
    """Check that every option without default is given.

    Raises:
        OctoscopeError: If not.
    """
    for option in verb.options:
        if option.required and values.get(option.name) in (None, []):
            raise OctoscopeError(
                f"{option.name.upper()} is missing ({option.help.rstrip('.')}); "
                f"see `octoscope {verb.name} --help`"
            )


def find_option(key: str, word: str, verb: Verb) -> tuple[Way, Any]:
    """Return the way to an option ``framing.height`` and its type.

    Raises:
        OctoscopeError: If there is none, with the nearest.
    """
    way = tuple(key.split("."))
    hints: Mapping[str, Any] = verb.hints
    for depth, part in enumerate(way):
        if part not in hints:
            shown = word.partition("=")[0][:60]
            names = [".".join((*way[:depth], name)).replace("_", "-") for name in hints]
            nearest = did_you_mean(key.replace("_", "-"), names).replace('"', '"--', 1)
            raise OctoscopeError(
                f"{verb.name} has no option {shown}{nearest}; see `octoscope {verb.name} --help`"
            )
        hint = hints[part]
        if depth == len(way) - 1:
            return way, hint
        nested = _fields_of(hint)
        if nested is None and depth == len(way) - 2 and _is_free(hint):
            return way, None
        hints = nested or {}
    raise AssertionError("a key has at least one part")


def from_text(hint: Any, text: str, where: str) -> Any:
    """Return the value that a word of the command line stands for, as `bind` makes it.

    Args:
        hint: Its type; None for an entry of a mapping of plain values.
        text: The word.
        where: The option, for messages.

    Raises:
        OctoscopeError: If the word does not fit the type.
    """
    if hint is None:
        return parse_plain(text, where)
    members = members_of(hint)
    if type(None) in members and text == "null":
        return None
    is_nested = any(_is_structure(m) for m in members)
    if is_nested and (text[:1] in ("[", "{") or not _lists(members)):
        plain = parse_plain(text, where)
        return bind(hint, text if plain is None else plain, where)
    if is_nested:
        return bind(hint, [_plain_word(part.strip(), hint) for part in text.split(",")], where)
    if set(members) <= {str, Path, type(None)}:
        return bind(hint, text, where)
    return bind(hint, _plain_word(text, hint), where)


def _plain_word(text: str, hint: Any) -> Any:
    """Return a word as the number, switch or text that it looks like and its type may want."""
    wanted = {one for m in members_of(hint) for one in (get_args(m) or (m,)) if one is not ...}
    if text.lower() in TRUTHS and wanted & {bool, True, False}:
        return TRUTHS[text.lower()]
    kinds = {type(one) for one in wanted if not isinstance(one, type)} | wanted
    if len(text) <= 2 * MAX_DIGITS and not kinds <= {str, Path, bool}:
        if WHOLE.fullmatch(text) and len(text) <= MAX_DIGITS:
            return int(text)
        if NUMBER.fullmatch(text) or text.lower() in ("nan", "inf", "-inf"):
            return float(text)
    return text


def _switched_off(key: str, verb: Verb) -> str | None:
    """Return the switch that ``no_key`` puts off, if it means one."""
    name = key.removeprefix("no_")
    hints = verb.hints
    is_one = name != key and key not in hints and members_of(hints.get(name)) == (bool,)
    return name if is_one else None


def _placed(places: Sequence[str], verb: Verb) -> list[tuple[Way, Any]]:
    """Give each place its words."""
    left = list(places)
    placed: list[tuple[Way, Any]] = []
    for option in verb.places:
        if not left:
            break
        if option.takes_many:
            words, left = left, []
            placed.append(((option.name,), bind(option.hint, words, _shown(option))))
        else:
            placed.append(((option.name,), from_text(option.hint, left.pop(0), _shown(option))))
    if left:
        wanted = " ".join(_shown(option) for option in verb.places) or "options only"
        raise OctoscopeError(
            f'"{left[0][:60]}" is one word too many: {verb.name} takes {wanted}; '
            f"see `octoscope {verb.name} --help`"
        )
    return placed


def _shown(option: Option) -> str:
    return option.name.upper()


def _put(values: dict[str, Any], hints: Mapping[str, Any], way: Way, value: Any) -> None:
    """Set one option, an entry of a nested one, or the same entry in each of a list."""
    name, *deeper = way
    hint = hints[name]
    if not deeper:
        values[name] = _over(hint, values.get(name), value)
        return
    nested = _fields_of(hint)
    if nested is None:  # a mapping of plain values
        former = values.get(name)
        values[name] = {**(former if isinstance(former, Mapping) else {}), deeper[0]: value}
    elif _lists(members_of(hint)):
        values[name] = tuple(values.get(name) or ({},))
        for one in values[name]:
            _put(one, nested, tuple(deeper), value)
    else:
        if not isinstance(values.get(name), dict):
            values[name] = {}
        _put(values[name], nested, tuple(deeper), value)


def _over(hint: Any, former: Any, value: Any) -> Any:
    """Lay a value over the one before: fields of a dataclass one by one."""
    nested = None if _lists(members_of(hint)) else _fields_of(hint)
    if nested is None or not isinstance(former, dict) or not isinstance(value, dict):
        return value
    return former | {k: _over(nested[k], former.get(k), v) for k, v in value.items()}


def _fields_of(hint: Any) -> dict[str, Any] | None:
    """Return the fields of the dataclass in a type, or in a list of it."""
    for member in members_of(hint):
        if get_origin(member) in (tuple, list):
            member = get_args(member)[0]
        if is_dataclass(member) and isinstance(member, type):
            return hints_of(member)
    return None


def _lists(members: Sequence[Any]) -> bool:
    return any(get_origin(m) in (tuple, list) for m in members)


def _is_free(hint: Any) -> bool:
    """Say whether a type is, or may be, a mapping of plain values."""
    return any(_is_structure(m) for m in members_of(hint)) and not _lists(members_of(hint))


def _is_structure(hint: Any) -> bool:
    """Say whether a type is a list, a mapping, or a dataclass."""
    return is_dataclass(hint) or get_origin(hint) not in (None, Literal)
