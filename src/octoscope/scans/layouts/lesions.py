"""``lesions.json``: what the values of a mask are called."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from octoscope.errors import OctoscopeError
from octoscope.files import read_json

NAME = "lesions.json"


def read_lesions(files: Iterable[Path]) -> dict[int, str]:
    """Read and unite files that map mask value to lesion name; the background 0 is left out.

    Raises:
        OctoscopeError: If one is not such a map, or two disagree on a value.
    """
    lesions: dict[int, str] = {}
    for file in files:
        for value, name in _pairs(file):
            if lesions.setdefault(value, name) != name:
                raise OctoscopeError(
                    f"{file}: mask value {value} is {name} here and {lesions[value]} in another "
                    f"{NAME}; load the folders one by one or make them agree"
                )
    return lesions


def _pairs(file: Path) -> list[tuple[int, str]]:
    """Return (mask value, lesion name) pairs of one file."""
    content = read_json(file)
    fault = OctoscopeError(
        f'{file}: must map mask values 0 to 255 to names, as in {{"1": "drusen"}}; correct it'
    )
    if not isinstance(content, dict):
        raise fault
    try:
        pairs = [(int(value), str(name)) for value, name in content.items()]
    except ValueError:
        raise fault from None
    if any(not 0 <= value <= 255 for value, _ in pairs):
        raise fault
    return [(value, name) for value, name in pairs if value]
