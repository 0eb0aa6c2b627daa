"""From a folder or table on disk to a `ScanTable`: the layout is recognised, and said.

`load_table` chooses among `LAYOUTS`; a wrong guess is overridden by name.
"""

from __future__ import annotations

from pathlib import Path

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.scans.layouts import folders, kermany, tabular
from octoscope.scans.layouts.tree import Tree, walk
from octoscope.scans.readers import IMAGE_SUFFIXES
from octoscope.scans.table import ScanTable

LAYOUTS = {
    "kermany": "files named CLASS-patient-n, in any folders; train, val and test from the path",
    "folders": "[split/]CLASS/file or [split/]CLASS/patient/file",
    "table": "a CSV or Parquet file with the column path (and label, patient, split, mask …)",
}
"""Name → what such data look like."""

__all__ = ["LAYOUTS", "load_table"]


def load_table(data: Path, layout: str = "auto") -> ScanTable:
    """Find the scans below a folder, or those that a table names.

    Nothing is decoded. Files in a folder called ``masks`` are never scans; where they mirror the
    tree of the scans beside them, they become the column `mask`. A ``manifest.csv`` in the folder
    adds its columns (device, eye …) to the scans it names.

    Args:
        data: A folder, or a ``.csv`` or ``.parquet`` file.
        layout: A name of `LAYOUTS`, or ``auto``.

    Returns:
        The table; `layout` says how it was read and `notes` what was assumed.

    Raises:
        OctoscopeError: If there is nothing there, no image in it, an unknown `layout`, or a
            fault in a table.
    """
    data = Path(data)
    if layout not in LAYOUTS and layout != "auto":
        raise OctoscopeError(
            f'"{layout}" is not a layout{did_you_mean(layout, LAYOUTS)}; '
            f"use auto, {', '.join(LAYOUTS)}"
        )
    if not data.exists():
        raise OctoscopeError(f"{data}: no such file or folder; check the path")
    if data.is_file():
        return _from_file(data, layout)
    if layout == "table":
        return tabular.read(tabular.find(data))
    tree = walk(data)
    _require_images(tree)
    if layout == "folders":
        return folders.read(tree)
    names = kermany.read_names(tree, any_class=layout == "kermany")
    if layout == "kermany" or kermany.recognises(names):
        return kermany.read(tree, names)
    return folders.read(tree)


def _from_file(data: Path, layout: str) -> ScanTable:
    """Read a table, or say what else to give."""
    if data.suffix.lower() not in tabular.SUFFIXES:
        raise OctoscopeError(
            f"{data}: is neither a folder nor a CSV or Parquet table; "
            "give the folder that holds the scans"
        )
    if layout not in ("auto", "table"):
        raise OctoscopeError(f'{data}: is a file, which layout "{layout}" cannot be; give a folder')
    return tabular.read(data)


def _require_images(tree: Tree) -> None:
    """Raise unless there are scans, saying what there is instead."""
    if tree.images:
        return
    known = f"scans end in {', '.join(IMAGE_SUFFIXES)}"
    if tree.masks:
        raise OctoscopeError(f"{tree.root}: holds only masks; give the folder above it ({known})")
    if not tree.others:
        raise OctoscopeError(f"{tree.root}: is an empty folder; give one that holds scans")
    kinds = ", ".join(kind or "no suffix" for kind, _ in tree.others.most_common(4))
    raise OctoscopeError(
        f"{tree.root}: holds no scans among its {sum(tree.others.values()):,} files "
        f"(they end in {kinds}; {known})"
    )
