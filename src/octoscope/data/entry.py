"""One finished cache on the disk: writing it, reading it, and the table that goes with it."""

from __future__ import annotations

import io
import json
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from octoscope.data.decode import Stamp, decode_rows
from octoscope.data.identity import CACHE_VERSION, FileRecord, decode_code
from octoscope.data.pool import in_order
from octoscope.data.rows import RowWriter
from octoscope.errors import OctoscopeError
from octoscope.files import atomic_path, digest_of, read_json, read_parquet, write_json
from octoscope.progress import track
from octoscope.scans.framing import Framing
from octoscope.scans.table import ScanTable

PROCESSES_FROM = 200
"""Looking for the retina holds Python's lock, so from this many scans on it takes processes."""

TABLE_KEY = b"octoscope"
"""Where, in the metadata of the Parquet file, what is no column of the table stands."""


@dataclass(frozen=True, eq=False)
class Entry:
    """What lies in one folder of a cache, see `octoscope.data.cache.ScanCache`."""

    folder: Path
    images: np.ndarray
    masks: np.ndarray | None
    framing: Framing
    quarantined: list[dict[str, str]]
    flagged: list[dict[str, str]]
    pixels: str
    code: str

    def readable_rows(self, table: ScanTable) -> ScanTable:
        """Return the rows of `table` that have an image, without the masks that have none."""
        bad = [entry["path"] for entry in self.quarantined]
        kept = table.rows(np.flatnonzero(~table.frame["path"].isin(bad)))
        masks = kept.frame["mask"]
        return kept.noting(mask=masks.where(~masks.isin(bad), None))


def write_entry(folder: Path, table: ScanTable, framing: Framing, *, workers: int) -> None:
    """Read all scans of a table and write images, masks, and what is known of their files.

    Args:
        folder: An empty folder.
        table: The scans.
        framing: How they are brought into the frame.
        workers: How many scans are decoded at a time.

    Raises:
        OctoscopeError: If no scan is readable.
        OSError: If the disk is full.
    """
    began = time.time_ns()
    shape = (framing.height, framing.width)
    files: list[tuple[str, Stamp, str]] = []
    quarantined: list[dict[str, str]] = []
    flagged: list[dict[str, str]] = []
    names = zip(table.frame["path"], table.frame["mask"], strict=True)
    decoded = in_order(
        partial(decode_rows, framing=framing),
        zip(table.paths, table.mask_paths, strict=True),
        workers=workers,
        processes=framing.mode == "band" and workers > 1 and len(table) >= PROCESSES_FROM,
    )
    with ExitStack() as stack:
        stack.enter_context(closing(decoded))
        images = stack.enter_context(RowWriter(folder / "images.npy", shape, len(table)))
        masks = None
        if table.frame["mask"].notna().any():
            masks = stack.enter_context(RowWriter(folder / "masks.npy", shape, len(table)))
        seen = track(decoded, "reading scans", len(table))
        for (path, mask_path), row in zip(names, seen, strict=True):
            files.append((path, *row.scan_file))
            if row.mask_file is not None:
                files.append((mask_path, *row.mask_file))
            for name, fault in ((path, row.fault), (mask_path, row.mask_fault)):
                if fault:
                    quarantined.append({"path": name, "reason": fault})
            flagged += [{"path": path, "flag": flag} for flag in row.flags]
            if row.image is not None:
                images.append(row.image)
                if masks is not None:
                    masks.append(np.zeros_like(row.image) if row.mask is None else row.mask)
    if images.count == 0:
        raise OctoscopeError(
            f"{table.root}: none of the {len(table)} scans can be read; the first, "
            f"{quarantined[0]['path']}: {quarantined[0]['reason']}"
        )
    record = FileRecord.of(files, began)
    record.save(folder / "files.parquet")
    code = decode_code()
    write_json(
        folder / "cache.json",
        {
            "version": CACHE_VERSION,
            "code": code,
            "pixels": digest_of([code, framing.to_dict(), record.digest()]),
            "framing": framing.to_dict(),
            "scans": images.count,
            "masks": masks is not None,
            "quarantined": quarantined,
            "flagged": flagged,
        },
    )


def load_entry(folder: Path) -> Entry:
    """Map a finished cache into memory.

    Raises:
        OctoscopeError: If it is missing or damaged.
    """
    facts = read_json(folder / "cache.json")
    try:
        if facts["version"] != CACHE_VERSION:
            raise ValueError(f"written by version {facts['version']} of the cache")
        framing = Framing.from_dict(facts["framing"])
        shape = (facts["scans"], framing.height, framing.width)
        images = _mapped(folder / "images.npy", shape)
        masks = folder / "masks.npy"
        return Entry(
            folder,
            images,
            _mapped(masks, shape) if facts.get("masks", masks.exists()) else None,
            framing,
            facts["quarantined"],
            facts["flagged"],
            facts["pixels"],
            facts["code"],
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise OctoscopeError(
            f"{folder}: not a whole cache ({error}); delete it to build it anew"
        ) from error


def save_table(path: Path, table: ScanTable) -> None:
    """Write a table as one Parquet file that also holds classes, root, notes and lesions.

    A file that holds just this table is left as it is.

    Raises:
        OctoscopeError: If a column has values of several types, or the disk is full.
    """
    beside = {
        "root": str(table.root),
        "classes": list(table.classes),
        "layout": table.layout,
        "notes": list(table.notes),
        "lesions": [[int(value), name] for value, name in table.lesions.items()],
    }
    content = io.BytesIO()
    try:
        arrow = pa.Table.from_pandas(table.frame, preserve_index=False)
    except pa.ArrowException as error:
        raise OctoscopeError(
            f"{table.root}: the table cannot be stored ({'; '.join(map(str, error.args))}); "
            "give each column values of one type"
        ) from error
    metadata = {**(arrow.schema.metadata or {}), TABLE_KEY: json.dumps(beside)}
    pq.write_table(arrow.replace_schema_metadata(metadata), content)
    if path.is_file() and path.read_bytes() == content.getvalue():
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getvalue())


def load_table(path: Path) -> ScanTable:
    """Read a table that `save_table` wrote.

    Raises:
        OctoscopeError: If it is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            beside = json.loads(pq.read_schema(file).metadata[TABLE_KEY])
        return ScanTable.from_frame(
            read_parquet(path),
            Path(beside["root"]),
            classes=beside["classes"],
            layout=beside["layout"],
            notes=beside["notes"],
            lesions={int(value): name for value, name in beside["lesions"]},
        )
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise OctoscopeError(
            f"{path}: damaged or missing ({error}); delete {path.parent} to build it anew"
        ) from error


def _mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Map an array of uint8 into memory, not writable.

    Raises:
        ValueError: If it is not of this shape.
    """
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.shape != shape or array.dtype != np.uint8:
        raise ValueError(f"{path.name} is {array.shape} {array.dtype} instead of {shape} uint8")
    return array
