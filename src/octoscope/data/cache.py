"""Scans decoded once: framed uint8 pixels in a file that is mapped into memory.

A cache folder holds one folder per framing (and list of files), which is complete or not there:

- ``images.npy`` ``(N, height, width)`` uint8, and ``masks.npy`` alike where the table has masks;
- ``files.parquet``: size, times and SHA-256 of every file that was read;
- ``table.parquet`` and ``cache.json``: the rows, and everything else.

A later build with the same files, contents, framing and code opens what is there. Labels, splits
and patients are always those of the table that was given last; they need no decoding.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from octoscope.data.entry import (
    Entry,
    load_entry,
    load_table,
    save_table,
    write_entry,
)
from octoscope.data.identity import FileRecord, decode_code
from octoscope.data.lock import exclusive
from octoscope.data.pool import usable_cores
from octoscope.errors import OctoscopeError
from octoscope.files import atomic_folder, digest_of, explained_disk_errors
from octoscope.scans.framing import Framing
from octoscope.scans.ranges import find_levels
from octoscope.scans.table import ScanTable

SPARE_BYTES = 2**20
"""Room on the disk beyond the pixels, for the tables."""


@dataclass(frozen=True, eq=False)
class ScanCache:
    """Framed scans and their table, in one order.

    Attributes:
        images: ``(N, height, width)`` uint8, mapped from the file and not writable.
        masks: Lesion class indices ``(N, height, width)`` uint8 in the same placement, 0 where
            nothing is; None if no row has a mask.
        table: The N readable rows.
        framing: How scans were brought into the frame, with the grey levels that were found.
        quarantined: ``path`` and ``reason`` of every scan that could not be read (it has no
            row), and of every mask that could not (its scan has a row without a mask).
        flagged: ``path`` and ``flag`` of every scan that the framing could not treat by its rule.
        pixels: Digest of the files' contents, the framing and the code that read them.
        folder: Where it lies, None if only in memory.
    """

    images: np.ndarray
    masks: np.ndarray | None
    table: ScanTable
    framing: Framing
    quarantined: list[dict[str, str]] = field(default_factory=list)
    flagged: list[dict[str, str]] = field(default_factory=list)
    pixels: str = ""
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.table)

    @property
    def has_mask(self) -> np.ndarray:
        """Which rows have a lesion mask ``(N,)`` bool."""
        return self.table.frame["mask"].notna().to_numpy(dtype=bool)

    @cached_property
    def digest(self) -> str:
        """16 hex digits that change with any pixel, label, split or patient."""
        return digest_of([self.pixels, self.table.digest()])

    @classmethod
    def build(
        cls, table: ScanTable, framing: Framing, folder: Path, *, workers: int | None = None
    ) -> ScanCache:
        """Open the cache of these scans below `folder`, decoding them first if need be.

        Args:
            table: The scans; only ``path`` and ``mask`` decide whether it must be built anew.
            framing: How scans are brought into the frame. What its `levels` do not say is found
                over the scans of the table.
            folder: Holds the caches of one study; made if need be.
            workers: How many scans are decoded at a time; by default one per core.

        Raises:
            OctoscopeError: If no scan is readable, or the disk is full or not writable. What
                stood below `folder` before is intact then.
        """
        folder = Path(folder)
        workers = workers or usable_cores()
        request = _request(table, framing)
        with exclusive(folder / f".{request}.lock", f"building the cache {folder}") as alone:
            entry, outdated = _matching(folder, request, table.root, workers)
            if entry is None:
                if alone:
                    _remove_leftovers(folder, request)
                entry = _build(folder, request, table, framing, workers)
                for old in outdated:
                    shutil.rmtree(old, ignore_errors=True)
            if os.access(entry.folder, os.W_OK):
                save_table(entry.folder / "table.parquet", table)
            return cls._of(entry, table)

    @classmethod
    def find(
        cls, table: ScanTable, framing: Framing, folder: Path, *, workers: int | None = None
    ) -> ScanCache | None:
        """Return what `build` would open, None if it would decode the scans; nothing is written.

        Args:
            table: As of `build`.
            framing: Likewise.
            folder: Likewise.
            workers: Likewise.
        """
        request, workers = _request(table, framing), workers or usable_cores()
        entry, _ = _matching(Path(folder), request, table.root, workers, keep=False)
        return None if entry is None else cls._of(entry, table)

    @classmethod
    def open(cls, folder: Path, digest: str | None = None) -> ScanCache:
        """Open a finished cache with the table that was last given to `build`.

        Args:
            folder: What was given to `build`, or one of the folders in it.
            digest: The expected `digest`.

        Raises:
            OctoscopeError: If there is none, more than one, a damaged one or one of another
                digest.
        """
        folder = Path(folder)
        found = [folder] if (folder / "cache.json").is_file() else _finished(folder)
        if not found:
            raise OctoscopeError(f"{folder}: holds no finished cache; build it first")
        fitting: list[ScanCache] = []
        faults: list[str] = []
        for place in found:
            try:
                cache = cls._of(load_entry(place), load_table(place / "table.parquet"))
            except OctoscopeError as error:
                faults.append(str(error))
                continue
            if digest in (None, cache.digest):
                fitting.append(cache)
            else:
                faults.append(
                    f"{place}: is the cache {cache.digest}, not {digest} (scans, labels or "
                    "framing have changed); build it anew"
                )
        if not fitting:
            raise OctoscopeError(faults[0])
        if len(fitting) > 1:
            names = ", ".join(str(cache.folder) for cache in fitting)
            raise OctoscopeError(f"{folder}: holds several caches; name one of {names}")
        return fitting[0]

    @classmethod
    def _of(cls, entry: Entry, table: ScanTable) -> ScanCache:
        """Join the pixels of an entry with the readable rows of the table they were read for."""
        readable = entry.readable_rows(table)
        rule = entry.framing.levels.describe() if entry.framing.levels else ""
        if rule and rule not in readable.notes:
            readable = readable.noting(rule)
        masked = entry.masks is not None and readable.frame["mask"].notna().any()
        return cls(
            images=entry.images,
            masks=entry.masks if masked else None,
            table=readable,
            framing=entry.framing,
            quarantined=entry.quarantined,
            flagged=entry.flagged,
            pixels=entry.pixels,
            folder=entry.folder,
        )


def _request(table: ScanTable, framing: Framing) -> str:
    """Return a digest of which files are asked for in which frame."""
    rows = table.frame[["path", "mask"]].to_numpy(dtype=object).tolist()
    return digest_of({"rows": rows, "framing": framing.to_dict()})


def _finished(folder: Path, request: str = "") -> list[Path]:
    """Return the finished caches below `folder` that answer `request`."""
    return sorted(path.parent for path in folder.glob(f"{request or '[!.]'}*/cache.json"))


def _matching(
    folder: Path, request: str, root: Path, workers: int, *, keep: bool = True
) -> tuple[Entry | None, list[Path]]:
    """Return the entry whose files and code are still the same, and those out of date.

    Files of another time whose content is the same are remembered with their new times, if `keep`.
    """
    code = decode_code()
    outdated = []
    for place in _finished(folder, request):
        try:
            entry = load_entry(place)
            record = FileRecord.load(place / "files.parquet")
        except OctoscopeError:  # damaged from outside
            outdated.append(place)
            continue
        today = record.still_holds(root, workers=workers) if entry.code == code else None
        if today is not None:
            if keep and today is not record and os.access(place, os.W_OK):
                today.save(place / "files.parquet")
            return entry, []
        outdated.append(place)
    return None, outdated


def _remove_leftovers(folder: Path, request: str) -> None:
    """Remove what a killed build of the same cache left (no other can be at it now)."""
    for leftover in folder.glob(f".{request}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _build(folder: Path, request: str, table: ScanTable, framing: Framing, workers: int) -> Entry:
    """Decode all scans into a new entry below `folder`.

    Raises:
        OctoscopeError: If no scan is readable, or the disk is full or not writable.
    """
    planes = 2 if table.frame["mask"].notna().any() else 1
    needed = planes * framing.height * framing.width * len(table) + SPARE_BYTES
    with explained_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    if needed > free:
        raise OctoscopeError(
            f"{folder}: the cache takes {needed / 2**20:,.0f} MiB but only {free / 2**20:,.0f} MiB "
            "of the disk are free; free some space, or choose another folder or a smaller frame "
            "(what was finished before is intact)"
        )
    levels = find_levels(table.paths, framing.levels, workers=workers)
    framing = replace(framing, levels=levels)
    place = folder / f"{request}-{time.time_ns():x}"
    with atomic_folder(place) as temporary:
        write_entry(temporary, table, framing, workers=workers)
        save_table(temporary / "table.parquet", table)
    return load_entry(place)
