"""Finding the rule of grey levels of a table: a look at its scans before they are decoded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from octoscope.errors import ScanError
from octoscope.progress import track
from octoscope.scans.levels import GreyRange, Levels, find_levels_of
from octoscope.scans.readers import has_eight_bits, read_scan, to_grey

MOST_LOOKED_AT = 2000
"""Scans of a table that decide; more change nothing, and would be decoded twice for it."""


def find_levels(
    paths: Sequence[Path], given: Levels | None = None, *, workers: int | None = None
) -> Levels | None:
    """Find the one rule by which all scans of a table become 8 bits; None where all have them.

    Of files with 8 bits only the head is read. Which scans are looked at in a greater table
    depends on their names alone, not on their order.

    Args:
        paths: The files; those that cannot be read have no say.
        given: A rule that stands; only what it does not know is found.
        workers: Threads; by default one per core.
    """
    chosen = sorted(paths, key=_lot)[:MOST_LOOKED_AT]
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)
    try:
        done = pool.map(grey_range, chosen)
        found = list(track(done, "looking for grey levels", total=len(chosen)))
    finally:
        pool.shutdown(cancel_futures=True)
    return find_levels_of([one for one in found if one is not None], given)


def grey_range(path: Path) -> GreyRange | None:
    """Return what one file says about the range; None if it cannot be read."""
    try:
        if has_eight_bits(path):
            return GreyRange("8 bits")
        scan = read_scan(path, grey=True)
    except (ScanError, OSError, MemoryError):
        return None
    return GreyRange.of(to_grey(scan), scan.depth)


def _lot(path: Path) -> tuple[bytes, str]:
    """Return what decides whether a scan is looked at: its name and folder, wherever they lie."""
    name = "/".join(path.parts[-2:]).encode(errors="replace")
    return hashlib.blake2b(name, digest_size=8).digest(), str(path)
