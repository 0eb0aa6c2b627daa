"""WebP: one picture, lossy or lossless. libwebp itself is strict about short data."""

from __future__ import annotations

import struct

from PIL import features
from PIL.WebPImagePlugin import WebPImageFile

from octoscope.scans.readers.pixels import still
from octoscope.scans.readers.registry import Source, always, reader
from octoscope.scans.scan import Scan

ANIMATED = 2
"""Flag of the extended header."""


@reader("webp", suffixes=(".webp",), signature=b"WEBP", offset=8, eight_bits=always)
def read_webp(source: Source) -> Scan:
    """Read a WebP file: ``(H, W)`` or ``(3, H, W)`` uint8.

    Raises:
        ScanError: If it is an animation, cut short, or Pillow was built without WebP.
    """
    if not features.check("webp"):
        raise source.fault("is WebP, which this Pillow cannot read; save it as PNG")
    content = source.file.read()
    length = struct.unpack_from("<I", content, 4)[0] + 8
    source.require_bytes(len(content), length, max(length + 1, len(content)))
    sizes = []
    at = 12
    while at + 8 <= length:
        kind, size = struct.unpack_from("<4sI", content, at)
        body = content[at + 8 : at + 8 + size]
        if len(body) < size:
            raise source.fault(
                "is damaged or cut short (WebP: a chunk has no end); copy or export it again"
            )
        if kind == b"ANIM" or (kind == b"VP8X" and body[0] & ANIMATED):
            raise source.fault("is an animation; export the picture that is meant as a file")
        if kind in (b"VP8X", b"VP8 ", b"VP8L"):
            sizes.append(_size(kind, body))
            # Before libwebp makes room for the picture.
            source.require_size(*sizes[-1], planes=4, itemsize=4)
        at += 8 + size + size % 2
    if not sizes or len(set(sizes)) != 1:
        raise source.fault("is damaged (WebP: no picture, or several sizes); export it again")
    source.file.seek(0)
    with WebPImageFile(source.file) as image:
        return still(image, source, "webp")


def _size(kind: bytes, body: bytes) -> tuple[int, int]:
    """Return height and width that a chunk tells."""
    if kind == b"VP8X":
        width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", body, 6))
    else:
        (packed,) = struct.unpack_from("<I", body, 1)
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    return height, width
