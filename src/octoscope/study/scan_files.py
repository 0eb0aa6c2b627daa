"""The scan files that a user means by naming files, folders and tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from octoscope.errors import OctoscopeError
from octoscope.scans.layouts import load_table
from octoscope.scans.layouts.left import note_others, without_masks
from octoscope.scans.layouts.tabular import SUFFIXES as TABLES
from octoscope.scans.layouts.tree import walk
from octoscope.scans.readers import IMAGE_SUFFIXES
from octoscope.scans.wording import many


@dataclass(frozen=True)
class Found:
    """The scans that one place holds.

    Attributes:
        paths: Files, in the order of their names or of the table's rows.
        notes: What was passed over.
        listed: Whether they were found in a folder or table, not named each.
    """

    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    listed: bool = False


def scan_files(places: Sequence[Path], columns: str | None = None) -> Iterator[Found]:
    """Find the scans of every place: a file, a folder with all below it, or a table.

    Files in folders called ``masks`` are never scans. A file that is named is taken as it is, also
    if it is missing or no picture: reading it will say so.

    Args:
        places: Files, folders and tables.
        columns: Which column of a table is which, as ``path=file_name``.

    Raises:
        OctoscopeError: If a folder holds no scans, or a table cannot be read.
    """
    for place in places:
        if place.is_dir():
            yield _of_folder(place)
        elif place.suffix.lower() in TABLES:
            table = load_table(place, "table", columns)
            yield Found(tuple(table.paths), listed=True)
        else:
            yield Found((place,))


def _of_folder(folder: Path) -> Found:
    """Return the scans below a folder."""
    tree = without_masks(walk(folder))
    if not tree.images:
        only = "holds only masks" if tree.masks else "holds no scans"
        raise OctoscopeError(f"{folder}: {only} (they end in {', '.join(IMAGE_SUFFIXES)})")
    notes = list(tree.notes)
    if tree.masks:
        notes.append(f"{many(len(tree.masks), 'file')} in folders of masks passed over.")
    notes += note_others(tree)
    paths = tuple(folder / name for name in tree.images)
    return Found(paths, tuple(f"{folder}: {note}" for note in notes), listed=True)
