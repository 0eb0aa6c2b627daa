"""What the files of a table hold, whatever they are called and wherever they lie."""

from __future__ import annotations

from collections.abc import Sequence

from octoscope.data.cache import ScanCache
from octoscope.data.decode import fingerprint
from octoscope.data.identity import FileRecord
from octoscope.data.pool import in_order, usable_cores
from octoscope.evaluation.test_scans import TestScans
from octoscope.files import digest_of
from octoscope.progress import track
from octoscope.scans.table import ScanTable
from octoscope.scans.wording import first_of, many


def hashes_of(table: ScanTable) -> list[str]:
    """Return the SHA-256 of every scan, '' where it cannot be read."""
    found = in_order(
        lambda some: [fingerprint(path)[1] for path in some], table.paths, workers=usable_cores()
    )
    return list(track(found, "comparing with the study", len(table)))


def note_copies(table: ScanTable, hashes: Sequence[str]) -> list[str]:
    """Note files that stand in the set more than once."""
    first: dict[str, int] = {}
    again, against = [], []
    for row, content in enumerate(hashes):
        if content and first.setdefault(content, row) != row:
            again.append(table.frame["path"].iloc[row])
            if table.frame["label"].iloc[first[content]] != table.frame["label"].iloc[row]:
                against.append(table.frame["path"].iloc[row])
    notes = []
    if again:
        notes.append(
            f"{many(len(again), 'file')} with the very content of another in the set "
            f"({first_of(again)}): each counts as a scan."
        )
    if against:
        notes.append(f"{len(against)} of them under another label ({first_of(against)}).")
    return notes


def contents_digest(table: ScanTable, hashes: Sequence[str]) -> str:
    """Return 16 hex digits of contents, labels and patients, wherever the files lie."""
    rows = zip(hashes, table.frame["label"], table.groups, strict=True)
    return digest_of(sorted([content, label, str(patient)] for content, label, patient in rows))


def test_scans(cache: ScanCache) -> TestScans:
    """Return which scans the test split of a cache on the disk holds."""
    if cache.folder is None:
        raise ValueError("a cache in memory does not know its files")
    record = FileRecord.load(cache.folder / "files.parquet")
    content = dict(zip(record.paths, record.hashes, strict=True))
    frame = cache.table.frame
    return TestScans.of(content[path] for path in frame.loc[frame["split"] == "test", "path"])
