"""BMP: 1 to 32 bits, plain or run-length encoded.

Pillow takes a run-length encoding that ends early for black pixels, so the runs are followed here
before it decodes them.
"""

from __future__ import annotations

import struct

from PIL.BmpImagePlugin import BmpImageFile

from octoscope.scans.readers.pixels import decode, grey_or_colour
from octoscope.scans.readers.registry import Source, always, reader
from octoscope.scans.scan import Scan

PLAIN, RLE8, RLE4, BITFIELDS = 0, 1, 2, 3
V5_HEADER = 124
"""Length of the header that knows of a colour profile behind the pixels."""


@reader("bmp", suffixes=(".bmp", ".dib"), signature=b"BM", eight_bits=always)
def read_bmp(source: Source) -> Scan:
    """Read a BMP file: ``(H, W)`` or ``(3, H, W)`` uint8."""
    content = source.file.read()
    start, header = struct.unpack_from("<II", content, 10)
    if header == 12:  # OS/2
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        compression = PLAIN
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", content, 18)
    source.require_size(abs(height), width, planes=3 if bits > 8 else 1, itemsize=4)
    if compression in (RLE8, RLE4):
        _follow_runs(content[start:], width, height, bits, source)
    elif compression in (PLAIN, BITFIELDS):
        expected = (width * bits + 31) // 32 * 4 * abs(height)
        row = expected // abs(height)
        profile = struct.unpack_from("<I", content, 14 + 116)[0] if header >= V5_HEADER else 0
        # Some writers add a few bytes, but less than a row.
        source.require_bytes(len(content) - start, expected, expected + profile + min(row, 64) - 1)
    source.file.seek(0)
    with BmpImageFile(source.file) as image:
        array = decode(image, source)
    return grey_or_colour(array, source, "bmp", colour=array.ndim == 3)


def _follow_runs(runs: bytes, width: int, height: int, bits: int, source: Source) -> None:
    """Check that the runs of an RLE4 or RLE8 file fill every row, or say which pixels they skip.

    Raises:
        ScanError: If a row ends early, is too long, or the end comes before the last row.
    """
    short = source.fault(
        "is cut short or its header lies about its size (its runs do not fill its "
        f"{height}×{width} pixels); copy or export it again"
    )
    column = row = at = 0
    try:
        while True:
            count, value = runs[at], runs[at + 1]
            at += 2
            if count:
                column += count
            elif value > 2:  # so many pixels as they are, to an even byte
                column += value
                at += -(-value * bits // 16) * 2
            elif value == 2:  # a jump, on purpose
                column += runs[at]
                row += runs[at + 1]
                at += 2
            elif value == 1 and (row, column) in ((height, 0), (height - 1, width)):
                return
            elif value == 0 and column == width:
                column, row = 0, row + 1
                continue
            else:
                raise short
            if at > len(runs) or column > width or row >= height:
                raise short
    except IndexError:
        raise short from None
