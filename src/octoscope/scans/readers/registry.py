"""The registry of readers, and the open file that each of them is handed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from octoscope.errors import ScanError
from octoscope.scans.scan import Scan

LEAST_SIDE = 8
"""Pixels that a scan must have in height and in width; anything smaller is a broken export."""

HEAD_BYTES = 512
"""Bytes from the beginning of a file that signatures are looked for in."""


Reduce = Callable[[int, int], int]


@dataclass(frozen=True, eq=False)
class Source:
    """An open file on its way through a reader, with the limits it must keep.

    Attributes:
        path: Its name, for messages and `Scan.source`.
        file: The file, open for reading at its beginning.
        size: Its length in bytes.
        max_pixels: Most pixels ``H × W`` of one B-scan.
        max_bytes: Most bytes of the decoded array.
        grey: The caller wants luminance only, so colour need not be decoded.
        indices: The file is a mask: palette entries and single bits stay the indices they are.
        reduce: Given height and width of the file, the factor (1, 2, 4 or 8, dividing both) by
            which the caller takes a smaller copy; a reader that cannot be faster passes it by.
    """

    path: Path
    file: BinaryIO
    size: int
    max_pixels: int
    max_bytes: int
    grey: bool = False
    indices: bool = False
    reduce: Reduce | None = None

    def fault(self, reason: str) -> ScanError:
        """Return the error to raise: this file, and `reason` as a clause."""
        return ScanError(self.path, reason)

    def require_size(self, height: int, width: int, *, planes: int = 1, itemsize: int = 1) -> None:
        """Check the size that the header promises, before anything is decoded.

        Args:
            height: Rows of one B-scan.
            width: Columns of one B-scan.
            planes: B-scans times channels.
            itemsize: Bytes of one value once decoded.

        Raises:
            ScanError: If a side is below `LEAST_SIDE`, or the size above a limit.
        """
        if min(height, width) < LEAST_SIDE:
            raise self.fault(
                f"is {height}×{width} pixels, less than the {LEAST_SIDE}×{LEAST_SIDE} that a scan "
                "must have; remove it or export it again"
            )
        if height * width > self.max_pixels:
            raise self.fault(
                f"is {height}×{width} pixels, above the limit of {self.max_pixels:,}; "
                "crop or shrink it, or raise max_pixels"
            )
        if height * width * planes * itemsize > self.max_bytes:
            raise self.fault(
                f"would take {height * width * planes * itemsize / 2**20:,.0f} MiB decoded, above "
                f"the limit of {self.max_bytes / 2**20:,.0f} MiB; split it or raise max_bytes"
            )

    def require_bytes(self, found: int, expected: int, most: int | None = None) -> None:
        """Check that the pixel data are as long as the size in the header says.

        Args:
            found: Bytes that there are.
            expected: Bytes that the pixels take.
            most: How many there may be at most; by default `expected`.

        Raises:
            ScanError: If bytes are missing (they would be shown black), or left over (the
                header hides a part of the picture, or its rows are shifted).
        """
        if found < expected:
            raise self.fault(
                f"is cut short or its header lies about its size ({expected - found:,} of "
                f"{expected:,} bytes of pixels are missing); copy or export it again"
            )
        if found > (expected if most is None else most):
            raise self.fault(
                f"holds more pixels than its header says ({expected:,} bytes); its size is wrong, "
                "so export it again"
            )


@dataclass(frozen=True)
class Reader:
    """One file format.

    Attributes:
        name: Name of the format, as it stands in `Scan.format`.
        suffixes: Lower-case suffixes with the dot, e.g. ``(".nii", ".nii.gz")``.
        signatures: Byte strings one of which such a file carries at `offset`; a format without
            any is chosen by suffix, after all others have declined.
        offset: Where the signature stands.
        read: The function that reads it.
        eight_bits: Says from an opened file, without decoding, whether its values have 8 bits.
    """

    name: str
    suffixes: tuple[str, ...]
    signatures: tuple[bytes, ...]
    offset: int
    read: Callable[[Source], Scan]
    eight_bits: Callable[[Source], bool]

    def recognises(self, head: bytes) -> bool:
        """Say whether the first bytes of a file carry a signature of this format."""
        return any(head.startswith(signature, self.offset) for signature in self.signatures)

    def named(self, name: str) -> bool:
        """Say whether a file name ends like this format."""
        return name.lower().endswith(self.suffixes)


def always(source: Source) -> bool:
    """Say of a format that its values have 8 bits, whatever the file."""
    return True


READERS: dict[str, Reader] = {}
"""Every registered reader by name."""


def reader(
    name: str,
    *,
    suffixes: tuple[str, ...],
    signature: bytes | tuple[bytes, ...] = (),
    offset: int = 0,
    eight_bits: Callable[[Source], bool] = lambda source: False,
) -> Callable[[Callable[[Source], Scan]], Callable[[Source], Scan]]:
    """Register a function as the reader of a format.

    The function may raise anything on a damaged file: `read_scan` turns it into a `ScanError`. It
    calls `Source.require_size` as soon as it knows the size, before it decodes.

    Args:
        name: Name of the format.
        suffixes: Lower-case suffixes with the dot.
        signature: What such files begin with (or several, of which any will do).
        offset: Where in the file the signature stands, if not at the beginning.
        eight_bits: Says without decoding whether a file's values have 8 bits, so that their range
            is known; a format that does not say is decoded to find out.
    """
    signatures = (signature,) if isinstance(signature, bytes) else signature

    def register(read: Callable[[Source], Scan]) -> Callable[[Source], Scan]:
        READERS[name] = Reader(name, suffixes, signatures, offset, read, eight_bits)
        return read

    return register


def reader_for(name: str, head: bytes) -> Reader | None:
    """Return the reader for a file with this name and these first bytes, or None.

    Content decides; the name decides between formats that share a signature, and where a format
    has none.
    """
    fitting = [known for known in READERS.values() if known.recognises(head)]
    if not fitting:
        fitting = [known for known in READERS.values() if not known.signatures]
        return next((known for known in fitting if known.named(name)), None)
    return next((known for known in fitting if known.named(name)), fitting[0])
