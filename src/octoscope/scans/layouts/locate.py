"""From the paths that a table says to the files that are there, below one folder and by name."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from octoscope.errors import OctoscopeError
from octoscope.scans.layouts.names import nfc
from octoscope.scans.layouts.tree import OWN_RESULTS, stem
from octoscope.scans.readers import IMAGE_SUFFIXES
from octoscope.scans.wording import first_of, many

DRIVE = re.compile(r"[A-Za-z]:(?=/)")
LONGEST_PATH = 4096
MOST_CUT = 32
MOST_SEARCHED = 300_000
"""Files below the table's folder that are looked through for a bare file name."""

Paths = Sequence[str | None]


def forward(path: str) -> str:
    """Return a path with forward slashes, without ``./`` before it or within."""
    slashed = path.replace("\\", "/")
    lead = "//" if slashed.startswith("//") else "/" if slashed.startswith("/") else ""
    parts = [part for part in slashed.split("/") if part not in ("", ".")]
    return lead + "/".join(parts) if parts else slashed


def refuse_outside(paths: Iterable[str | None], root: Path) -> None:
    """Check, by name alone, that no path climbs out of `root` and each can be a file's name.

    Raises:
        OctoscopeError: Naming the first that does not.
    """
    for path in paths:
        if path is None:
            continue
        if any(ord(letter) < 32 for letter in path):
            raise OctoscopeError(f"{path!r}: is no file name; remove the control characters in it")
        if len(path) > LONGEST_PATH:
            raise OctoscopeError(f"{path[:40]!r}… is no file name: it has {len(path):,} letters")
        depth = 0
        for part in PurePosixPath(path).parts:
            depth += -1 if part == ".." else part != "/"
            if depth < 0:
                raise OctoscopeError(f"{path}: leads outside {root}; use a path below that folder")


class Finder:
    """Finds files below a folder by names as tables have them.

    Each folder is listed once, and only folders below `root` are. A name fits a file if it is the
    same, or the only one the same but for blanks around it, the form of its accents, case, or a
    missing ending.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[str, tuple[set[str], dict[str, set[str]]]] = {}
        self._below: dict[str, list[str]] | None = None

    def find(self, path: str) -> str | None:
        """Return the path of the one file that fits, relative to `root`, or None."""
        at = ""
        parts = os.path.normpath(path).split("/")
        for place, part in enumerate(parts):
            exact, near = self._listing(at)
            if part not in exact:
                fitting = near.get(_key(part), set())
                if not fitting and place == len(parts) - 1:
                    fitting = near.get(_stem_key(part), set())
                if len(fitting) != 1:
                    return None
                (part,) = fitting
            at = f"{at}/{part}" if at else part
        return at

    def find_anywhere(self, name: str) -> str | None:
        """Return the one image below `root` with this file name, ending or not, or None."""
        if self._below is None:
            self._below = self._all_below()
        found = self._below.get(_key(name)) or self._below.get(_stem_key(name), [])
        return found[0] if len(found) == 1 else None

    def _listing(self, folder: str) -> tuple[set[str], dict[str, set[str]]]:
        """Return the names in a folder, and each by the keys under which it may be meant."""
        if folder not in self._folders:
            try:
                names = set(os.listdir(self.root / folder))  # noqa: PTH208 (names only)
            except OSError:
                names = set()
            near: dict[str, set[str]] = defaultdict(set)
            for name in names:
                near[_key(name)].add(name)
                if name.lower().endswith(IMAGE_SUFFIXES):
                    near[_stem_key(stem(name))].add(name)
            self._folders[folder] = names, near
        return self._folders[folder]

    def _all_below(self) -> dict[str, list[str]]:
        """Index the images below `root` by name, unless there are too many files."""
        index: dict[str, list[str]] = defaultdict(list)
        seen = 0
        for folder, folders, files in os.walk(self.root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            if OWN_RESULTS in files:  # a study, whose figures are no scans
                folders[:] = files[:] = []
            seen += len(files) + len(folders)
            if seen > MOST_SEARCHED:
                return {}
            below = Path(folder).relative_to(self.root).as_posix()
            for name in files:
                if name.lower().endswith(IMAGE_SUFFIXES):
                    path = name if below == "." else f"{below}/{name}"
                    index[_key(name)].append(path)
                    index[_stem_key(stem(name))].append(path)
        return index


def locate(root: Path, paths: Paths, what: str = "path") -> tuple[list[str | None], list[str]]:
    """Find every file that a column names.

    Paths that begin with folders of another place (``C:/data/scans/1.png``) are cut by the same
    number of folders until all are there; bare names are looked for below `root`.

    Args:
        root: The folder that paths are relative to.
        paths: What the column says, with forward slashes; None where empty.
        what: Name of the column, for the notes.

    Returns:
        Paths relative to `root`; notes on names that were read otherwise than they stand.

    Raises:
        OctoscopeError: If one leads out of `root` or files are missing.
    """
    there = [path for path in paths if path is not None]
    relative = [path for path in there if not _is_absolute(path)]
    refuse_outside(relative, root)
    refuse_outside((path.lstrip("/") for path in there if _is_absolute(path)), root)
    finder = Finder(root)
    found = {path: finder.find(path) for path in dict.fromkeys(relative)}
    notes: list[str] = []
    missing = [path for path in there if found.get(path) is None]
    if missing and len(missing) == len(there):
        found, cut = _cut(finder, there)
        missing = [path for path in there if found.get(path) is None]
        if not missing:
            notes.append(
                f"column {what}: files are looked for below {root} without the {cut!r} before "
                "their names."
            )
    if missing and all("/" not in path for path in missing):
        for path in missing:
            found[path] = finder.find_anywhere(path)
        left = [path for path in missing if found[path] is None]
        if len(left) < len(missing):
            one = next(path for path in missing if found[path] is not None)
            notes.append(
                f"{many(len(missing) - len(left), 'file')} of column {what} found by name in "
                f"folders below ({one} is {found[one]})."
            )
        missing = left
    elif not notes:
        notes += _note_respelled(found, what)
    if missing:
        raise OctoscopeError(
            f"names {many(len(missing), 'missing file')} ({first_of(_shown(root, missing))}); "
            "put what is missing there or remove its rows"
        )
    return [None if path is None else found[path] for path in paths], notes


def _is_absolute(path: str) -> bool:
    """Say whether a path begins at a root or a drive."""
    return path.startswith("/") or DRIVE.match(path) is not None


def _shown(root: Path, missing: list[str]) -> list[str]:
    """Return missing files as they are looked for."""
    return [path if _is_absolute(path) else str(root / path) for path in missing]


def _cut(finder: Finder, paths: list[str]) -> tuple[dict[str, str | None], str]:
    """Leave out the first folders of all paths, as few as will do, so that all are there."""
    split = {path: [part for part in path.split("/") if part] for path in paths}
    for first in range(1, min(MOST_CUT, max(map(len, split.values())))):
        if len({tuple(parts[:first]) for parts in split.values()}) > 1:
            break
        found = {
            path: finder.find("/".join(parts[first:])) if len(parts) > first else None
            for path, parts in split.items()
        }
        if all(found.values()):
            start = paths[0][: len(paths[0]) - len("/".join(split[paths[0]][first:]))]
            return found, start
    return dict.fromkeys(paths), ""


def _note_respelled(found: dict[str, str | None], what: str) -> list[str]:
    """Note files whose names are written otherwise than in the table."""
    other = [path for path, file in found.items() if file not in (None, os.path.normpath(path))]
    if not other:
        return []
    return [
        f"{many(len(other), 'file')} of column {what} found under a slightly other name "
        f"({other[0]!r} is {found[other[0]]!r})."
    ]


def _key(name: str) -> str:
    """Return what is equal for names that differ in blanks around, accents' form or case."""
    return nfc(name.strip()).casefold()


def _stem_key(name: str) -> str:
    """Return the key of a name without its ending, apart from those of whole names."""
    return f"{_key(name)}\0"
