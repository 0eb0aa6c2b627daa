"""From a folder or table on disk to a `ScanTable`: the layout is recognised, and said.

`load_table` chooses among `LAYOUTS`; a wrong guess is overridden by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.scans.layouts import folders, kermany, tabular, template
from octoscope.scans.layouts.columns import parse_columns
from octoscope.scans.layouts.left import may_be_scans, named, without_masks
from octoscope.scans.layouts.tree import Tree, ending, walk
from octoscope.scans.readers import IMAGE_SUFFIXES
from octoscope.scans.table import ScanTable

LAYOUTS = {
    "kermany": "files named CLASS-patient-n, in any folders; train, val and test from the path",
    "folders": "[split/]CLASS/file or [split/]CLASS/patient/file, whatever the folders are called",
    "table": "a CSV or Parquet file with the column path (and label, patient, split, mask …)",
}
"""Name → what such data look like. Besides, a layout may be spelled out as a template."""

__all__ = ["LAYOUTS", "load_table"]


def load_table(
    data: Path, layout: str = "auto", columns: str | Mapping[str, str] | None = None
) -> ScanTable:
    """Find the scans below a folder, or those that a table names.

    Nothing is decoded. Pictures in a folder called ``masks``, or in one that mirrors the scans, are
    never scans; where they mirror them, they become the column `mask`. A CSV or Parquet file in the
    folder that names its scans adds what it knows of them.

    Args:
        data: A folder, or a ``.csv``, ``.tsv`` or ``.parquet`` file.
        layout: A name of `LAYOUTS`, ``auto``, or a template like ``{patient}/{class}/*``.
        columns: Which column of a table is which, as ``path=file_name,label=Disease`` or a mapping.

    Returns:
        The table; `layout` says how it was read and `notes` what was assumed.

    Raises:
        OctoscopeError: If there is nothing there, no image in it, an unknown `layout`, a fault in
            a table, or a tree that can be read in several ways.
    """
    data = Path(data)
    if layout not in LAYOUTS and layout != "auto":
        if not template.is_template(layout):
            raise OctoscopeError(
                f'"{layout}" is not a layout{did_you_mean(layout, LAYOUTS)}; '
                f"use auto, {', '.join(LAYOUTS)}, or a template: {template.HELP}"
            )
        template.compile_template(layout)
    mapping = parse_columns(columns)
    if not _exists(data):
        raise OctoscopeError(f"{data}: no such file or folder; check the path")
    if data.is_file():
        return _from_file(data, layout, mapping)
    if layout == "table":
        return tabular.read(tabular.find(data), mapping)
    tree = without_masks(walk(data))
    _require_images(tree)
    if template.is_template(layout):
        return folders.read_template(tree, layout, mapping)
    if layout == "folders":
        return folders.read(tree, mapping, forced=True)
    names = kermany.read_names(tree, any_class=layout == "kermany")
    if layout == "kermany" or kermany.recognises(names):
        return kermany.read(tree, names, mapping)
    return folders.read(tree, mapping)


def _exists(path: Path) -> bool:
    """Say whether there is a file or folder; a name that is too long is none."""
    try:
        return path.exists()
    except OSError:
        return False


def _from_file(data: Path, layout: str, mapping: Mapping[str, str]) -> ScanTable:
    """Read a table, or say what else to give."""
    suffix = data.suffix.lower()
    if suffix in tabular.NOT_TABLES:
        raise OctoscopeError(
            f"{data}: is {tabular.NOT_TABLES[suffix]}, which is not read; save it as CSV"
        )
    if suffix not in tabular.SUFFIXES:
        raise OctoscopeError(
            f"{data}: is neither a folder nor a CSV or Parquet table; "
            "give the folder that holds the scans"
        )
    if layout not in ("auto", "table"):
        raise OctoscopeError(f'{data}: is a file, which layout "{layout}" cannot be; give a folder')
    return tabular.read(data, mapping)


def _require_images(tree: Tree) -> None:
    """Raise unless there are scans, saying what there is instead."""
    if tree.images:
        return
    known = f"scans end in {', '.join(IMAGE_SUFFIXES)}"
    if tree.masks:
        raise OctoscopeError(f"{tree.root}: holds only masks; give the folder above it ({known})")
    kinds: Counter[str] = sum(tree.others.values(), Counter())
    kinds.update(ending(path.lower()) for path in (*tree.tables, *tree.lesions))
    if not kinds:
        raise OctoscopeError(f"{tree.root}: is an empty folder; give one that holds scans")
    what = "convert them to one of these" if any(map(may_be_scans, kinds)) else "check the path"
    raise OctoscopeError(
        f"{tree.root}: holds no scans among its {sum(kinds.values()):,} files "
        f"({named(kinds)}); {known}; {what}"
    )
