"""Reading YAML as data: texts, numbers, true, false, null, lists and mappings, and nothing else.

The events of the parser are turned into values here, so that no tag can ask for an object, an
alias cannot grow beyond what is counted, and every limit is met before memory or time is spent.
Plain words mean what YAML 1.2 says: `no` and `1:30` are texts, and `1e-3` is a number.
"""

from __future__ import annotations

import math
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from octoscope.errors import OctoscopeError

MAX_BYTES = 2**20
MAX_VALUES = 20_000
"""Values in one text; what stands behind an alias counts each time that it is used."""
MAX_DEPTH = 20
MAX_DIGITS = 18
"""Of a whole number: what 64 bits hold."""

WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
CONSTANTS: dict[str, Any] = {
    word: value
    for low, value in (("null", None), ("true", True), ("false", False))
    for word in (low, low.capitalize(), low.upper())
}
CONSTANTS |= {"": None, "~": None, ".nan": math.nan, ".inf": math.inf, "-.inf": -math.inf}


def read_plain_file(path: Path) -> Any:
    """Read a YAML file of plain values.

    Raises:
        OctoscopeError: If it is no file, too large, not UTF-8, or not plain YAML.
    """
    try:
        kind = path.stat().st_mode
    except (OSError, ValueError):
        raise OctoscopeError(f"{path}: no such file; give the path of a YAML file") from None
    if stat.S_ISDIR(kind):
        raise OctoscopeError(f"{path} is a folder; give a YAML file")
    if not stat.S_ISREG(kind):
        raise OctoscopeError(f"{path} is a device or a pipe; give a YAML file")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise OctoscopeError(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > MAX_BYTES:
        raise OctoscopeError(f"{path}: larger than {MAX_BYTES >> 20} MiB, so it is no file of ours")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise OctoscopeError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    return parse_plain(text, str(path))


def parse_plain(text: str, where: str) -> Any:
    """Return what a YAML text says, as plain values.

    Args:
        text: One YAML document, or nothing, which is None.
        where: The file or option that the text stands in, for messages.

    Raises:
        OctoscopeError: If it is not plain YAML, or holds too much.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise OctoscopeError(f"{where}: not UTF-8 text") from None
    if len(text) > MAX_BYTES:
        raise OctoscopeError(f"{where}: longer than {MAX_BYTES >> 20} MiB")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # only its parser is used
    try:
        return _Document(yaml.parse(text, Loader=loader), where).value()
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        at = f" in line {place.line + 1}, column {place.column + 1}" if place else ""
        raise OctoscopeError(f"{where}: not YAML ({error.problem or error.context}{at})") from None
    except yaml.YAMLError as error:
        raise OctoscopeError(f"{where}: not YAML ({' '.join(str(error).split())[:160]})") from None


class _Document:
    """The values of one document, made from the parser's events.

    Attributes:
        events: What the parser says, piece by piece.
        where: The file or option, for messages.
        count: Values so far.
        anchors: Name → value, values in it, levels in it.
    """

    def __init__(self, events: Iterator[Any], where: str) -> None:
        self.events = events
        self.where = where
        self.count = 0
        self.anchors: dict[str, tuple[Any, int, int]] = {}

    def value(self) -> Any:
        """Return the value of the one document, None if there is none."""
        value, documents = None, 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._refusal("holds several documents; leave one", event)
            elif isinstance(event, yaml.NodeEvent):
                value, _ = self._node(event, 1)
        return value

    def _node(self, event: Any, depth: int) -> tuple[Any, int]:
        """Return one value and the number of levels in it, reading on to its end."""
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise self._refusal(f"*{str(event.anchor)[:40]} names nothing before it", event)
            value, size, levels = self.anchors[event.anchor]
        elif event.tag is not None:
            raise self._refusal(f"the tag {event.tag[:80]} is not allowed in plain data", event)
        else:
            value, size, levels = None, 1, 1
        self.count += size
        if self.count > MAX_VALUES:
            raise self._refusal(f"holds more than {MAX_VALUES} values", event)
        if depth + levels - 1 > MAX_DEPTH:
            raise self._refusal(f"nested more than {MAX_DEPTH} deep", event)
        if isinstance(event, yaml.AliasEvent):
            return value, levels
        before = self.count
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value, levels = self._list(depth)
        else:
            value, levels = self._mapping(depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = value, 1 + self.count - before, levels
        return value, levels

    def _list(self, depth: int) -> tuple[list[Any], int]:
        values, levels = [], 1
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            value, below = self._node(event, depth + 1)
            values.append(value)
            levels = max(levels, below + 1)
        return values, levels

    def _mapping(self, depth: int) -> tuple[dict[str, Any], int]:
        values: dict[str, Any] = {}
        inherited: list[dict[str, Any]] = []  # behind `<<`; what is said here comes first
        levels = 1
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
                raise self._refusal("a key must be a word", event)
            key = event.value
            value, below = self._node(next(self.events), depth + 1)
            levels = max(levels, below + 1)
            if key == "<<" and event.implicit[0]:
                several = value if isinstance(value, list) else [value]
                if not all(isinstance(one, dict) for one in several):
                    raise self._refusal("<< takes a mapping", event)
                inherited += several
            elif key in values:
                raise self._refusal(f'"{key[:80]}" stands twice', event)
            else:
                values[key] = value
        for one in inherited:
            for key, value in one.items():
                values.setdefault(key, value)
        return values, levels

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if not event.implicit[0]:  # in quotes, or a block
            return text
        if text in CONSTANTS:
            return CONSTANTS[text]
        digits = len(text) - (text[0] in "+-")
        if digits > MAX_DIGITS and text[-digits:].isdecimal():
            raise self._refusal(f"a number of {digits} digits is too long", event)
        if digits > 2 * MAX_DIGITS:
            return text
        if WHOLE.fullmatch(text):
            return int(text)
        if text[-digits:].isdecimal():
            return text  # 007 keeps its zeros
        return float(text) if NUMBER.fullmatch(text) else text

    def _refusal(self, what: str, event: Any) -> OctoscopeError:
        return OctoscopeError(f"{self.where}: {what} (line {event.start_mark.line + 1})")
