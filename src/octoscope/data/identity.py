"""Whether the files and the code behind a cache are still the ones it was built from."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

import octoscope
from octoscope.data.decode import Stamp, fingerprint, stamp
from octoscope.data.pool import in_order
from octoscope.errors import OctoscopeError
from octoscope.files import (
    atomic_path,
    digest_of,
    explained_disk_errors,
    read_parquet,
    write_parquet,
)
from octoscope.progress import track

CACHE_VERSION = 1
"""To be raised when the files of a cache change their form."""

DECODE_SOURCES = (
    "data/decode.py",
    "scans/borders.py",
    "scans/framed.py",
    "scans/framing.py",
    "scans/geometry",
    "scans/levels.py",
    "scans/ranges.py",
    "scans/readers",
    "scans/scan.py",
    "scans/seams.py",
)
"""The code that decides the pixels of a cache, below the package's folder."""

DECODERS = ("pillow", "simplejpeg")
"""The packages that decode, whose versions may round differently."""

SETTLED_NS = 2 * 10**9
"""A file changed less than this before it was stamped may change again under the same stamp."""

UNSETTLED = Stamp(-2, -2, -2)


def decode_code() -> str:
    """Return a digest of the code that decides the pixels: our sources and the decoders."""
    package = Path(octoscope.__file__).parent
    sources = hashlib.sha256()
    for name in DECODE_SOURCES:
        place = package / name
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            sources.update(file.relative_to(package).as_posix().encode() + b"\0")
            sources.update(file.read_bytes() + b"\0")
    return digest_of(
        {
            "version": CACHE_VERSION,
            "sources": sources.hexdigest(),
            "decoders": {name: version(name) for name in DECODERS},
        }
    )


@dataclass(frozen=True, eq=False)
class FileRecord:
    """What files looked like when they were read.

    Attributes:
        paths: F paths relative to the root of the table.
        stamps: Size, time of change of the content, time of change of the entry ``(F, 3)`` int64.
        hashes: F SHA-256 in hexadecimal digits, '' for a file that could not be read.
    """

    paths: Sequence[str]
    stamps: np.ndarray
    hashes: Sequence[str]

    @classmethod
    def of(cls, entries: Iterable[tuple[str, Stamp, str]], began_ns: int) -> FileRecord:
        """Gather path, stamp and hash of files.

        Args:
            entries: One per file.
            began_ns: When the first stamp was taken, by the wall clock.
        """
        paths, stamps, hashes = zip(*entries, strict=True)
        settled = [
            mark if max(mark.mtime_ns, mark.ctime_ns) < began_ns - SETTLED_NS else UNSETTLED
            for mark in stamps
        ]
        return cls(paths, np.array(settled, dtype=np.int64), hashes)

    def digest(self) -> str:
        """Return 16 hex digits of the names and contents, whatever the times."""
        return digest_of([list(self.paths), list(self.hashes)])

    def still_holds(self, root: Path, *, workers: int = 1) -> FileRecord | None:
        """Compare with the files as they are now, by stamp, and by content where stamps differ.

        Args:
            root: Folder that the paths are relative to.
            workers: Threads that read contents.

        Returns:
            The record with today's stamps (itself if they are the same), or None if the content
            of any file has changed.
        """
        began = time.time_ns()
        now = np.array([stamp(f"{root}/{path}") for path in self.paths], dtype=np.int64)
        differing = np.flatnonzero((now != self.stamps).any(axis=1)).tolist()
        if len(differing) == 0:
            return self
        stamps = [Stamp(*row) for row in self.stamps.tolist()]
        prints = in_order(
            lambda some: [fingerprint(root / self.paths[i]) for i in some],
            differing,
            workers=workers,
        )
        known = track(prints, "comparing changed files", len(differing))
        for i, (mark, content) in zip(differing, known, strict=True):
            if content != self.hashes[i]:
                return None
            stamps[i] = mark
        return FileRecord.of(zip(self.paths, stamps, self.hashes, strict=True), began)

    def save(self, path: Path) -> None:
        """Write the record as Parquet."""
        size, mtime_ns, ctime_ns = self.stamps.T
        frame = pd.DataFrame(
            {
                "path": list(self.paths),
                "size": size,
                "mtime_ns": mtime_ns,
                "ctime_ns": ctime_ns,
                "sha256": list(self.hashes),
            }
        )
        with atomic_path(path) as temporary:
            write_parquet(frame, temporary)

    @classmethod
    def load(cls, path: Path) -> FileRecord:
        """Read a record that `save` wrote.

        Raises:
            OctoscopeError: If it is missing or damaged.
        """
        try:
            with explained_disk_errors(path):
                frame = read_parquet(path)
            stamps = frame[["size", "mtime_ns", "ctime_ns"]].to_numpy(dtype=np.int64)
            return cls(frame["path"].tolist(), stamps, frame["sha256"].tolist())
        except (OSError, ValueError, KeyError) as error:
            raise OctoscopeError(
                f"{path}: damaged or missing ({error}); delete {path.parent} to build it anew"
            ) from error
