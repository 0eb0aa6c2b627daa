"""What lies beside the scans of a folder: lesion masks, lesion names, tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from octoscope.errors import OctoscopeError
from octoscope.scans.layouts import lesions, tabular
from octoscope.scans.layouts.left import mask_place, scan_places
from octoscope.scans.layouts.locate import DRIVE, refuse_outside
from octoscope.scans.layouts.names import alike, compact, nfc
from octoscope.scans.layouts.tree import Tree, stem
from octoscope.scans.table import COLUMNS
from octoscope.scans.wording import first_of, many

FROM_TREE = ("label", "patient", "split", "mask")
"""Columns that the tree itself gives; a table only fills their gaps."""

OURS = ("manifest", "table")
"""Names of tables all of whose columns are taken; of others, only those that are known."""

MOST_TABLES = 20


@dataclass
class Beside:
    """What the files beside the scans say of them.

    Attributes:
        masks: Mask of each image that has one.
        lesions: Mask value → lesion name.
        tables: Name of each table that names scans → its rows, indexed by image.
        notes: What was found, and what was not used.
    """

    masks: dict[str, str] = field(default_factory=dict)
    lesions: dict[int, str] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def labels_all(self, images: list[str]) -> bool:
        """Say whether the tables give a label to every image."""
        labelled: set[str] = set()
        for rows in self.tables.values():
            if "label" in rows:
                labelled |= set(rows.index[rows["label"].notna()])
        return labelled >= set(images)


def look_beside(tree: Tree, mapping: Mapping[str, str]) -> Beside:
    """Find masks, lesion names and tables.

    Args:
        tree: The files.
        mapping: Which column of the tables is which, as the user says.

    Raises:
        OctoscopeError: If lesion names are damaged or disagree, a table leads out of the folder,
            or no table has the columns that `mapping` names.
    """
    beside = Beside()
    beside.masks, notes = find_masks(tree)
    beside.notes += notes
    files = [tree.root / path for path in tree.lesions]
    beside.lesions = lesions.read_lesions(files)
    if tree.masks and not files:
        beside.notes.append(f"there is no {lesions.NAME}, so the mask values have no names.")
    tables = sorted(tree.tables, key=lambda path: (path.count("/"), path))
    refused = []
    index = _Images(tree)
    for file in tables[:MOST_TABLES]:
        try:
            rows, notes = _rows_of(tree, index, file, mapping)
        except OctoscopeError as error:
            refused.append(f"a table beside the scans was not used: {error}.")
            continue
        if len(rows):
            beside.tables[file] = rows
        beside.notes += notes
    if mapping and not beside.tables:
        why = refused[0] if refused else "there is no table beside the scans."
        raise OctoscopeError(
            f"{tree.root}: no table has the columns {', '.join(filter(None, mapping.values()))} "
            f"that --columns names ({why.rstrip('.')})"
        )
    beside.notes += refused
    if len(tables) > MOST_TABLES:
        beside.notes.append(
            f"{many(len(tables) - MOST_TABLES, 'table')} more beside the scans not read."
        )
    return beside


def find_masks(tree: Tree) -> tuple[dict[str, str], list[str]]:
    """Find for each scan the file of the same name at the same place below a folder of masks.

    ``masks/train/CNV/a.png`` belongs to ``images/train/CNV/a.jpeg`` and to ``train/CNV/a.jpeg``
    in the same folder; the deepest such folder counts.
    """
    lying: dict[object, str] = {}
    for mask in sorted(tree.masks, key=lambda path: ("masks" not in path.lower(), path)):
        place = mask_place(mask)
        if place is not None and not _is_drawn_over(mask):
            lying.setdefault(place, mask)
    if not lying:
        return {}, []
    found: dict[str, str] = {}
    for path in tree.images:
        places = [place for place in scan_places(path) if place in lying]
        if places:
            found[path] = lying[places[0]]
    notes = [f"lesion masks found for {len(found):,} of {many(len(tree.images), 'scan')}."]
    orphans = sorted(set(lying.values()) - set(found.values()))
    if orphans:
        notes.append(f"{many(len(orphans), 'mask')} without a scan ({first_of(orphans)}).")
    return found, notes


def _is_drawn_over(mask: str) -> bool:
    """Say whether a folder holds pictures with drawings in them rather than masks."""
    return any(compact(part).startswith("annot") for part in mask.split("/")[:-1])


def _rows_of(
    tree: Tree, index: _Images, file: str, mapping: Mapping[str, str]
) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of a table that name images of the tree, indexed by image; notes.

    Raises:
        OctoscopeError: If it cannot be read as a table of scans.
    """
    rows, notes = tabular.read_rows(tree.root / file, mapping, quote=False)
    notes = [f"{file}: {note}" for note in notes]
    folder = file.rpartition("/")[0]
    for column in ("path", "mask"):
        if column in rows:
            _require_inside(tree.root / folder, file, rows[column].dropna().tolist())
    prefix = f"{folder}/" if folder else ""
    named = [index.find(path, prefix) for path in rows["path"]]
    absent = rows.loc[[name is None for name in named], "path"].tolist()
    if len(absent) == len(rows):
        return rows[:0], [f"{file} names no scan that is here, and was not used."]
    if absent:
        without = first_of([prefix + path for path in absent])
        notes.append(f"{file}: {many(len(absent), 'row')} without a scan ({without}).")
    if "mask" in rows:
        rows["mask"] = [None if mask is None else prefix + mask for mask in rows["mask"]]
    rows = rows.assign(path=named)[[name is not None for name in named]]
    try:
        rows, more = tabular.without_repeats(rows.reset_index(drop=True))
    except OctoscopeError:
        return rows[:0], [
            f"{file} says different things of one scan in several rows, and was not used.",
        ]
    if Path(file).stem.lower() not in OURS:
        rows = rows[[column for column in rows.columns if column in COLUMNS]]
    if rows.columns.tolist() == ["path"]:
        return rows[:0], [f"{file} names scans, but says nothing of them that is known here."]
    return rows.set_index("path"), [*notes, *(f"{file}: {note}" for note in more)]


def _require_inside(folder: Path, file: str, paths: list[str]) -> None:
    """Refuse a table that leads out of its folder, by name."""
    try:
        refuse_outside((path.lstrip("/") for path in paths), folder)
    except OctoscopeError as error:
        raise OctoscopeError(f"{file}: {error}") from None


class _Images:
    """The images of a tree, by the names that a table may call them."""

    def __init__(self, tree: Tree) -> None:
        self.root = tree.root.absolute().as_posix()
        self.exact = {nfc(path): path for path in tree.images}
        self.by_name: dict[str, list[str]] = {}
        for path in tree.images:
            name = nfc(path.rpartition("/")[2]).casefold()
            for key in {name, stem(name)}:
                self.by_name.setdefault(key, []).append(path)

    def find(self, path: str, prefix: str) -> str | None:
        """Return the image that a table in the folder `prefix` names."""
        if path.startswith("/") or DRIVE.match(path):
            path = path.removeprefix(self.root + "/")
        for candidate in (prefix + path, path):
            if (found := self.exact.get(nfc(candidate))) is not None:
                return found
        *above, name = nfc(path.strip()).casefold().split("/")
        fitting = [
            image
            for image in self.by_name.get(name, [])
            if image.startswith(prefix)
            and (not above or nfc(image).casefold().split("/")[-2:-1] == above[-1:])
        ]
        return fitting[0] if len(fitting) == 1 else None


def merge(frame: pd.DataFrame, beside: Beside) -> tuple[pd.DataFrame, list[str]]:
    """Add masks and the columns of tables to the rows of a tree.

    What the tree says of class, patient, split and mask stands; a table fills gaps in it, and a
    contradiction is noted.
    """
    notes: list[str] = []
    masks = [beside.masks.get(path) for path in frame["path"]]
    frame = frame.assign(mask=pd.Series(masks, dtype=object)).set_index("path", drop=False)
    for file, rows in beside.tables.items():
        frame, more = _merge_one(frame, rows.reindex(frame.index), file)
        notes += more
    return frame.reset_index(drop=True), notes


def _merge_one(
    frame: pd.DataFrame, rows: pd.DataFrame, file: str
) -> tuple[pd.DataFrame, list[str]]:
    """Merge aligned rows of a table into the frame, column by column."""
    notes, gave = [], []
    for column in rows.columns:
        given = rows[column]
        if column not in frame:
            frame = frame.assign(**{column: given})
            gave.append(column)
            continue
        own = frame[column]
        if column in FROM_TREE:
            both = own.notna() & given.notna()
            clash = both.copy()
            clash[both] = own[both].map(alike) != given[both].map(alike)
            if clash.any():
                notes.append(
                    f"{file}: another {column} for {many(int(clash.sum()), 'scan')} "
                    f"({first_of(list(frame.index[clash]))}); names and folders were believed; "
                    f"to believe it instead, pass {file} itself."
                )
        if (own.isna() & given.notna()).any():
            gave.append(column)
        frame = frame.assign(**{column: own.astype(object).where(own.notna(), given)})
    named = f"; it gives {', '.join(gave)}" if gave else "" if notes else ", and says nothing new"
    notes.insert(0, f"{file} names {many(int(rows.notna().any(axis=1).sum()), 'scan')}{named}.")
    return frame, notes
