"""A study whose scans lie in another folder by now: found by content, said once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from octoscope.data.cache import ScanCache
from octoscope.data.entry import save_table
from octoscope.data.identity import FileRecord
from octoscope.files import write_json
from octoscope.progress import tell
from octoscope.scans.table import ScanTable
from octoscope.study.folder import RunFolder
from octoscope.study.stage import read_object


def moved_root(table: ScanTable, hashes: Sequence[str], study: ScanCache) -> Path | None:
    """Return the folder that the scans of a study have moved to; None if they have not.

    They have if none of its files is where it was, and each lies below the root of a table under
    the same name with the same content.

    Args:
        table: N scans.
        hashes: SHA-256 of each, '' where it cannot be read.
        study: The cache of the study.
    """
    if study.folder is None or any(path.exists() for path in study.table.paths):
        return None
    record = FileRecord.load(study.folder / "files.parquet")
    known = dict(zip(record.paths, record.hashes, strict=True))
    found = dict(zip(table.frame["path"], hashes, strict=True))
    same = all(found.get(path) == known.get(path) for path in study.table.frame["path"])
    return table.root.resolve() if same else None


def move_study(run: RunFolder, study: ScanCache, root: Path) -> ScanCache:
    """Write into a study where its scans lie by now, say so, and return its cache.

    Args:
        run: A run of the study.
        study: The cache of the study.
        root: Where its scans lie.
    """
    former, table = study.table.root, replace(study.table, root=root)
    if study.folder is not None:
        save_table(study.folder / "table.parquet", table)
    about = read_object(run.study.config)
    if about:
        write_json(run.study.config, {**about, "root": str(root)})
    tell(f"· The scans of the study have moved from {former} to {root}; they are the same.")
    return replace(study, table=table)
