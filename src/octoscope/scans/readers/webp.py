"""WebP: one picture, lossy or lossless.

libwebp says when data run out, but not when it reads them in the wrong rows and has some left
over. A truthful file needs its last bytes; so a file that decodes without them lies.
"""

from __future__ import annotations

import io
import struct

from PIL import features
from PIL.WebPImagePlugin import WebPImageFile

from octoscope.scans.readers.pixels import still
from octoscope.scans.readers.registry import Source, always, reader
from octoscope.scans.scan import Scan

ANIMATED = 2
"""Flag of the extended header."""
SPARE = 6
"""Bytes at the end without which no truthful file decodes: of 1,200 files of several kinds, sizes
and qualities, 4 were enough."""


@reader("webp", suffixes=(".webp",), signature=b"WEBP", offset=8, eight_bits=always)
def read_webp(source: Source) -> Scan:
    """Read a WebP file: ``(H, W)`` or ``(3, H, W)`` uint8.

    Raises:
        ScanError: If it is an animation, cut short, lies about its size, or Pillow was built
            without WebP.
    """
    if not features.check("webp"):
        raise source.fault("is WebP, which this Pillow cannot read; save it as PNG")
    content = source.file.read()
    length = struct.unpack_from("<I", content, 4)[0] + 8
    source.require_bytes(len(content), length, max(length + 1, len(content)))
    sizes: list[tuple[int, int]] = []
    shortened = b""
    at = 12
    while at + 8 <= length:
        kind, size = struct.unpack_from("<4sI", content, at)
        body = content[at + 8 : at + 8 + size]
        if len(body) < size:
            raise ValueError("a chunk has no end")
        if kind == b"ANIM" or (kind == b"VP8X" and body[0] & ANIMATED):
            raise source.fault("is an animation; export the picture that is meant as a file")
        if kind in (b"VP8X", b"VP8 ", b"VP8L"):
            sizes.append(_size(kind, body))
            # Before libwebp makes room for the picture.
            source.require_size(*sizes[-1], planes=4, itemsize=4)
        if kind in (b"VP8 ", b"VP8L"):
            shortened = _one_chunk(kind, body[:-SPARE])
        at += 8 + size + size % 2
    if not shortened or len(set(sizes)) != 1:
        raise ValueError("no picture, or several sizes")
    source.file.seek(0)
    with WebPImageFile(source.file) as image:
        scan = still(image, source, "webp")
    if _decodes(shortened):
        raise source.fault(
            "holds other pixels than its header says (some are left over); its size is wrong, so "
            "export it again"
        )
    return scan


def _one_chunk(kind: bytes, body: bytes) -> bytes:
    """Return a file of one chunk."""
    chunk = kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def _decodes(content: bytes) -> bool:
    """Say whether libwebp makes a picture of a file."""
    try:
        with WebPImageFile(io.BytesIO(content)) as image:
            image.load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True


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
