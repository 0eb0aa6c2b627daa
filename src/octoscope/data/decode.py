"""From a row of the table to its frame, its mask, and the fingerprints of its files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from octoscope.errors import OctoscopeError, ScanError
from octoscope.scans.framed import read_framed
from octoscope.scans.framing import Framing, Placement
from octoscope.scans.readers import read_content, read_mask


class Stamp(NamedTuple):
    """What the file system says about a file; all -1 for a file that is not there."""

    size: int
    mtime_ns: int
    ctime_ns: int


ABSENT = Stamp(-1, -1, -1)


@dataclass(frozen=True)
class Decoded:
    """One row of the table as it was read.

    Attributes:
        image: ``(height, width)`` uint8, or None where the scan is not readable.
        mask: ``(height, width)`` uint8 lesion class indices, or None.
        fault: Why the scan is not readable, or ''.
        mask_fault: Why the mask is not usable, or ''.
        flags: What did not go by the rule when the scan was placed.
        scan_file: Stamp and SHA-256 of the scan's file.
        mask_file: The same of the mask's file, None where there is none.
    """

    image: np.ndarray | None
    mask: np.ndarray | None
    fault: str
    mask_fault: str
    flags: tuple[str, ...]
    scan_file: tuple[Stamp, str]
    mask_file: tuple[Stamp, str] | None


def decode_rows(rows: Sequence[tuple[Path, Path | None]], framing: Framing) -> list[Decoded]:
    """Read some scans, each with its mask, see `decode_row`."""
    return [decode_row(path, mask, framing) for path, mask in rows]


def decode_row(path: Path, mask_path: Path | None, framing: Framing) -> Decoded:
    """Read one scan and its mask into the frame; what is wrong with a file is told, not raised.

    The stamp is taken before the bytes are read, and hashed and decoded are the same bytes, so a
    file that changes meanwhile does not match what is recorded.
    """
    scan_file, content = _read_once(path)
    mask_file = None if mask_path is None else fingerprint(mask_path)
    image = mask = placement = None
    fault = mask_fault = ""
    try:
        image, placement = read_framed(path, framing, content=content)
    except (OctoscopeError, OSError, MemoryError) as error:
        fault = _reason(error)
    if placement is not None and mask_path is not None:
        try:
            mask = _placed_mask(mask_path, placement)
        except (OctoscopeError, OSError, MemoryError) as error:
            mask_fault = f"{_reason(error)}; its scan is used, without lesions"
    flags = () if placement is None else placement.flags
    return Decoded(image, mask, fault, mask_fault, flags, scan_file, mask_file)


def fingerprint(path: Path) -> tuple[Stamp, str]:
    """Return a file's stamp and SHA-256 in hexadecimal digits, '' where it cannot be read."""
    before = stamp(path)
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return before, ""
        with path.open("rb") as file:
            return before, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return before, ""


def _read_once(path: Path) -> tuple[tuple[Stamp, str], bytes | None]:
    """Return the fingerprint of a scan's file and, if it can be read as a scan, its bytes."""
    before = stamp(path)
    try:
        content = read_content(path)
    except (ScanError, MemoryError):
        return fingerprint(path), None
    return (before, hashlib.sha256(content).hexdigest()), content


def stamp(path: Path | str) -> Stamp:
    """Return size and times of a file."""
    try:
        status = os.stat(path)  # noqa: PTH116 -- half the time of Path.stat, 100,000 times
    except OSError:
        return ABSENT
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _placed_mask(path: Path, placement: Placement) -> np.ndarray:
    """Read a mask and bring it into the frame of its scan."""
    mask = read_mask(path)
    if mask.shape != placement.shape:
        height, width = placement.shape
        raise ScanError(
            path, f"is {mask.shape[0]}×{mask.shape[1]} pixels, but its scan is {height}×{width}"
        )
    return placement.apply(mask, nearest=True)


def _reason(error: BaseException) -> str:
    """Return what is wrong, without the file's name in front of it."""
    if isinstance(error, ScanError):
        return error.reason
    if isinstance(error, MemoryError):
        return "needs more memory than there is"
    return str(error)
