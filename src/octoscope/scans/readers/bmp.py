"""BMP: 1 to 32 bits."""

from __future__ import annotations

from PIL.BmpImagePlugin import BmpImageFile

from octoscope.scans.readers.pixels import still
from octoscope.scans.readers.registry import Source, reader
from octoscope.scans.scan import Scan


@reader("bmp", suffixes=(".bmp", ".dib"), signature=b"BM")
def read_bmp(source: Source) -> Scan:
    """Read a BMP file: ``(H, W)`` or ``(3, H, W)`` uint8."""
    with BmpImageFile(source.file) as image:
        return still(image, source, "bmp")
