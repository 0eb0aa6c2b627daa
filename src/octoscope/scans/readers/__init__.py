"""Files into `Scan`s. One small module per format; each registers itself with `@reader`.

A new format is a new module here with one decorated function, imported below, and one writer in
the common test that runs over every registered reader.
"""

from __future__ import annotations

from octoscope.scans.levels import to_uint8
from octoscope.scans.readers import (  # noqa: F401  (they register)
    avif,
    bmp,
    gif,
    jpeg,
    npy,
    png,
    tiff,
    webp,
)
from octoscope.scans.readers.colour import to_grey
from octoscope.scans.readers.reading import has_eight_bits, read_content, read_mask, read_scan
from octoscope.scans.readers.registry import LEAST_SIDE, READERS, Reader, Source, reader

IMAGE_SUFFIXES: tuple[str, ...] = tuple(
    suffix for known in READERS.values() for suffix in known.suffixes
)
"""Lower-case suffixes, with the dot, by which a file is taken for a scan."""

__all__ = [
    "IMAGE_SUFFIXES",
    "LEAST_SIDE",
    "READERS",
    "Reader",
    "Source",
    "has_eight_bits",
    "read_content",
    "read_mask",
    "read_scan",
    "reader",
    "to_grey",
    "to_uint8",
]
