"""PNG: 1 to 16 bits, grey, palette or colour. 16-bit colour is read at 8 bits."""

from __future__ import annotations

from PIL.PngImagePlugin import PngImageFile

from octoscope.scans.readers.pixels import still
from octoscope.scans.readers.registry import Source, reader
from octoscope.scans.scan import Scan


@reader("png", suffixes=(".png",), signature=b"\x89PNG\r\n\x1a\n")
def read_png(source: Source) -> Scan:
    """Read a PNG file: ``(H, W)`` uint8 or uint16, or ``(3, H, W)`` uint8."""
    # The plugin, not Image.open: that one warns by a global limit instead of keeping ours.
    with PngImageFile(source.file) as image:
        return still(image, source, "png")
