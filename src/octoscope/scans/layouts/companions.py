"""What lies beside the scans of a folder: lesion masks, lesion names, a manifest."""

from __future__ import annotations

import pandas as pd

from octoscope.errors import OctoscopeError
from octoscope.scans.layouts import lesions, tabular
from octoscope.scans.layouts.tree import IMAGES, MASKS, Tree, stem
from octoscope.scans.wording import first_of, many

FROM_TREE = ("label", "patient", "split", "mask")
"""Columns that the tree itself gives; a manifest only fills their gaps."""


def join(tree: Tree, frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[int, str], list[str]]:
    """Add masks and manifest columns to the rows of a tree.

    Returns:
        The frame with `mask` and further columns; lesion names by mask value; notes.
    """
    mask, notes = find_masks(tree, frame["path"].tolist())
    frame = frame.assign(mask=pd.Series(mask, dtype=object))
    names, more = find_lesions(tree)
    frame, yet_more = merge_manifests(tree, frame)
    return frame, names, [*notes, *more, *yet_more]


def find_masks(tree: Tree, paths: list[str]) -> tuple[list[str | None], list[str]]:
    """Find for each scan the file of the same name at the same place below ``masks``.

    ``masks/train/CNV/a.png`` belongs to ``images/train/CNV/a.jpeg`` and to ``train/CNV/a.jpeg``
    in the same folder.
    """
    if not tree.masks:
        return [None] * len(paths), []
    lying: dict[tuple[str, ...], str] = {}
    bases = set()
    for mask in tree.masks:
        parts = stem(mask).split("/")
        at = [part.lower() for part in parts].index(MASKS)
        bases.add(tuple(parts[:at]))
        lying[*parts[:at], MASKS, *parts[at + 1 :]] = mask
    found = [_mask_of(stem(path).split("/"), bases, lying) for path in paths]
    count = sum(mask is not None for mask in found)
    notes = [f"lesion masks found for {count:,} of {many(len(paths), 'scan')}."]
    orphans = sorted(set(lying.values()) - {mask for mask in found if mask is not None})
    if orphans:
        notes.append(f"{many(len(orphans), 'mask')} without a scan ({first_of(orphans)}).")
    return found, notes


def _mask_of(
    parts: list[str], bases: set[tuple[str, ...]], lying: dict[tuple[str, ...], str]
) -> str | None:
    """Return the mask of one scan, from the deepest folder that has one."""
    for at in range(len(parts) - 1, -1, -1):
        if tuple(parts[:at]) not in bases:
            continue
        below = parts[at + 1 :] if parts[at].lower() == IMAGES else parts[at:]
        if (mask := lying.get((*parts[:at], MASKS, *below))) is not None:
            return mask
    return None


def find_lesions(tree: Tree) -> tuple[dict[int, str], list[str]]:
    """Read every ``lesions.json`` of the tree; note if there are masks without one.

    Raises:
        OctoscopeError: If one is damaged or two disagree.
    """
    files = [tree.root / path for path in tree.sidecars if path.lower().endswith(lesions.NAME)]
    if tree.masks and not files:
        return {}, [f"there is no {lesions.NAME}, so the mask values have no names."]
    return lesions.read_lesions(files), []


def merge_manifests(tree: Tree, frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Add the columns of every ``manifest.csv`` to the rows that it names.

    What the tree says of class, patient, split and mask stands; the manifest fills gaps in it, and
    a contradiction is noted.
    """
    notes: list[str] = []
    frame = frame.set_index("path", drop=False)
    for file in tree.sidecars:
        if not file.lower().endswith("manifest.csv"):
            continue
        folder = file.rpartition("/")[0]
        prefix = f"{folder}/" if folder else ""
        try:
            rows = tabular.read_rows(tree.root / file)
        except OctoscopeError as error:
            notes.append(f"a manifest was not used: {error}.")
            continue
        rows.index = pd.Index(prefix + rows["path"].astype(str))
        rows = rows[~rows.index.duplicated()]
        absent = rows.index.difference(frame.index)
        if len(absent):
            notes.append(
                f"{file}: {many(len(absent), 'row')} without a scan ({first_of(list(absent))})."
            )
        if "mask" in rows:
            rows["mask"] = prefix + rows["mask"]
        frame, more = _merge(frame, rows.reindex(frame.index), file)
        notes += more
    return frame.reset_index(drop=True), notes


def _merge(frame: pd.DataFrame, rows: pd.DataFrame, file: str) -> tuple[pd.DataFrame, list[str]]:
    """Merge aligned manifest rows into the frame, column by column."""
    notes = []
    for column in rows.columns.drop("path"):
        given = rows[column]
        if column not in frame:
            frame = frame.assign(**{column: given})
            continue
        own = frame[column]
        if column in FROM_TREE:
            clash = own.notna() & given.notna() & (own.astype(str) != given.astype(str))
            if clash.any():
                notes.append(
                    f"{file}: another {column} for {many(int(clash.sum()), 'scan')} "
                    f"({first_of(list(frame.index[clash]))}); names and folders were believed; "
                    f"to believe it instead, pass {file} itself."
                )
        frame = frame.assign(**{column: own.astype(object).where(own.notna(), given)})
    return frame, notes
