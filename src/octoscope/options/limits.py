"""What a value must keep to beside its type, written into the type: ``Annotated[int, Within(1)]``.

The command line, YAML files and dataclasses check it alike, and ``--help`` prints it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Annotated, Protocol


class Limit(Protocol):
    """Something that a value must keep to."""

    def describe(self) -> str:
        """Return the limit as the end of "a number …", or ''."""

    def complaint(self, value: object) -> str | None:
        """Return what is wrong with a value of the right type, as the end of a sentence."""


@dataclass(frozen=True)
class Within:
    """A number between two bounds, which belong to it unless they are open."""

    least: float = -inf
    most: float = inf
    open_below: bool = False
    open_above: bool = False

    def describe(self) -> str:
        """Return the bounds in words: ``from 1``, ``above 0 to 1``, ``from 0 to below 1``."""
        low = "" if self.least == -inf else f"{'above' if self.open_below else 'from'} {self._low}"
        high = "" if self.most == inf else f"{'to below' if self.open_above else 'to'} {self._high}"
        return f"{low} {high}".strip()

    @property
    def _low(self) -> str:
        return f"{self.least:.12g}"

    @property
    def _high(self) -> str:
        return f"{self.most:.12g}"

    def complaint(self, value: object) -> str | None:
        """Return '' if the number lies outside; the sentence says the bounds anyway."""
        assert isinstance(value, int | float)
        above = value > self.least if self.open_below else value >= self.least
        below = value < self.most if self.open_above else value <= self.most
        return None if above and below else ""


@dataclass(frozen=True)
class FileToWrite:
    """A path that a file can be written to, with one of these endings."""

    endings: tuple[str, ...]

    def describe(self) -> str:
        """Return the endings."""
        return f"ending in {' or '.join(self.endings)}"

    def complaint(self, value: object) -> str | None:
        """Say that the path is a folder, has another ending, or lies below a file."""
        assert isinstance(value, Path)
        if os.path.isdir(value):  # noqa: PTH112 - unlike is_dir, it says no to any odd name
            return f"{value} is a folder; name a file {self.describe()}"
        if value.suffix.lower() not in self.endings:
            return f"{value} is no file {self.describe()}; give it such a name"
        return _blocked(value.parent)


@dataclass(frozen=True)
class FolderToMake:
    """A path that a folder is at, or can be made at."""

    def describe(self) -> str:
        """Return '': any name will do."""
        return ""

    def complaint(self, value: object) -> str | None:
        """Say that the path, or one above it, is a file."""
        assert isinstance(value, Path)
        return _blocked(value)


def _blocked(folder: Path) -> str | None:
    """Say which part of a folder's path is a file, or too long for a name, if any is."""
    long = next((part for part in folder.parts if len(os.fsencode(part)) > 255), None)
    if long is not None:
        return f"{long[:20]}… is too long for a name; choose a shorter one"
    try:
        for path in (folder, *folder.parents):
            if path.exists() or path.is_symlink():
                return None if path.is_dir() else f"{path} is a file; choose another folder"
    except OSError as error:
        return f"cannot be reached ({error.strerror}); choose another folder"
    return None


Seed = Annotated[int, Within(0, 2**32 - 1)]
Share = Annotated[float, Within(0, 1)]
Resamples = Annotated[int, Within(1, 1_000_000)]
BatchSize = Annotated[int, Within(1, 65_536)]
Workers = Annotated[int, Within(1, 1024)]
OutFolder = Annotated[Path, FolderToMake()]
