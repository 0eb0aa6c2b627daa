"""PNG: 1 to 16 bits, grey, palette or colour.

Pillow paints what a file lacks black and never looks at its checksums. So the chunks are walked
here, the pixel data are inflated and counted against the size in the header, and Pillow is handed
a file of nothing but header, palette and those data. Texts, colour profiles and all other chunks
are passed over unread.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from octoscope.scans.readers.inflate import inflate
from octoscope.scans.readers.pixels import decode, grey_or_colour
from octoscope.scans.readers.registry import Source, reader
from octoscope.scans.scan import Scan

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type → samples of a pixel: grey, colour, palette, grey + alpha, colour + alpha."""
BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
PALETTE = 3
DEEP_BYTES = 12
"""Bytes that a sample of a deep colour takes at the most while it is decoded (measured: 11.5)."""
ADAM7 = (
    (0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2),
    (1, 2, 0, 1),
)  # fmt: skip
"""First row, step, first column, step of each pass of an interlaced file."""


@dataclass(frozen=True)
class Header:
    """The IHDR chunk."""

    width: int
    height: int
    bits: int
    colour_type: int
    interlaced: int

    @property
    def samples(self) -> int:
        """Samples of one pixel."""
        return SAMPLES[self.colour_type]

    def passes(self) -> list[tuple[int, int]]:
        """Return rows and columns of every pass that holds any pixel."""
        steps = ADAM7 if self.interlaced else ((0, 1, 0, 1),)
        sizes = [
            (-(-(self.height - row) // down), -(-(self.width - column) // across))
            for row, down, column, across in steps
        ]
        return [(rows, columns) for rows, columns in sizes if rows > 0 and columns > 0]

    def row_bytes(self, columns: int) -> int:
        """Return the bytes of one row of `columns` pixels, without its filter type."""
        return -(-columns * self.samples * self.bits // 8)

    def packed(self) -> bytes:
        """Return the body of the chunk."""
        return struct.pack(
            ">IIBBBBB",
            self.width,
            self.height,
            self.bits,
            self.colour_type,
            0,
            0,
            self.interlaced,
        )


def _eight_bits(source: Source) -> bool:
    """Say whether no sample has more than 8 bits."""
    return source.file.read(25)[24] <= 8


@reader("png", suffixes=(".png",), signature=SIGNATURE, eight_bits=_eight_bits)
def read_png(source: Source) -> Scan:
    """Read a PNG file: ``(H, W)`` uint8 or uint16, or ``(3, H, W)`` alike."""
    header, others, compressed = _chunks(source)
    expected = sum(rows * (1 + header.row_bytes(columns)) for rows, columns in header.passes())
    data = inflate(compressed, expected, source)
    if header.bits == 16 and header.samples > 1:
        array = _deep(header, data, source)
    else:
        array = _decoded(header, others.get(b"PLTE"), data, source)
    shown = array if array.ndim == 2 else array[..., 0] if array.shape[-1] < 3 else array[..., :3]
    depth = others[b"sBIT"][0] if header.bits == 16 and others.get(b"sBIT") else None
    scan = grey_or_colour(shown, source, "png", colour=shown.ndim == 3)
    return replace(scan, depth=depth if depth and depth < 16 else None)


def _chunks(source: Source) -> tuple[Header, dict[bytes, bytes], bytes]:
    """Return header, palette and significant bits by chunk name, and the compressed pixels.

    Raises:
        ValueError: If a chunk is cut short, out of order, or its checksum is wrong.
    """
    header: Header | None = None
    kept: dict[bytes, bytes] = {}
    pixels: list[bytes] = []
    for kind, body in _walk(source):
        if kind == b"IHDR":
            header = _header(body, source)
            # Before anything of that size is made. Deep colours are decoded byte by byte.
            itemsize = DEEP_BYTES if header.bits == 16 and header.samples > 1 else 4
            source.require_size(
                header.height, header.width, planes=header.samples, itemsize=itemsize
            )
        elif kind in (b"PLTE", b"sBIT"):
            kept[kind] = body
        elif kind == b"IDAT":
            pixels.append(body)
        elif kind == b"acTL" and len(body) == 8 and struct.unpack(">I", body[:4])[0] > 1:
            raise source.fault("is an animation; export the picture that is meant as a file")
    if header is None or not pixels:
        raise ValueError("no header or no pixels")
    if header.colour_type == PALETTE and b"PLTE" not in kept:
        raise ValueError("the palette is missing")
    return header, kept, b"".join(pixels)


def _walk(source: Source) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and body of the chunks that are read, checksums compared."""
    content = source.file.read()
    view, at = memoryview(content), len(SIGNATURE)
    while True:
        if at + 12 > len(content):
            raise ValueError("its end is missing")
        length, kind = struct.unpack_from(">I4s", content, at)
        if at + 12 + length > len(content):
            raise ValueError("a chunk has no end")
        body = view[at + 8 : at + 8 + length]
        if kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"sBIT", b"acTL"):
            checksum = zlib.crc32(body, zlib.crc32(kind))
            if checksum != int.from_bytes(view[at + 8 + length : at + 12 + length], "big"):
                name = kind.decode()
                raise ValueError(f"wrong checksum of {name}")
            yield kind, bytes(body)
        elif not kind[0] & 32:  # a capital: cannot be shown without it
            raise ValueError("unknown chunk")
        if kind == b"IEND":
            return
        at += 12 + length


def _header(body: bytes, source: Source) -> Header:
    """Return what IHDR says.

    Raises:
        ScanError: If it says what PNG does not know.
    """
    if len(body) != 13:
        raise ValueError("bad header")
    width, height, bits, colour_type, method, filters, interlaced = struct.unpack(">IIBBBBB", body)
    if bits not in BITS.get(colour_type, ()) or method or filters or interlaced > 1:
        raise ValueError(f"{bits} bits of colour type {colour_type}")
    return Header(width, height, bits, colour_type, interlaced)


def _decoded(header: Header, palette: bytes | None, data: bytes, source: Source) -> np.ndarray:
    """Return inflated `data` as pixels ``(H, W)`` or ``(H, W, 3)``, by Pillow."""
    chunks = [(b"IHDR", header.packed())]
    if header.colour_type == PALETTE and palette:
        chunks.append((b"PLTE", palette))
    chunks += [(b"IDAT", zlib.compress(data, 0)), (b"IEND", b"")]
    content = SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    # The plugin, not Image.open: that one warns by a global limit instead of keeping ours.
    with PngImageFile(io.BytesIO(content)) as image:
        array = decode(image, source)
    if source.indices and header.colour_type == 0 and header.bits in (2, 4):
        array = array // (255 // (2**header.bits - 1))  # Pillow spreads them over 0…255
    return array


def _deep(header: Header, data: bytes, source: Source) -> np.ndarray:
    """Return 16-bit samples ``(H, W, S)`` uint16, of which Pillow would keep the upper 8 bits.

    The filters of a row work on every S·2nd byte apart, so each of those bytes is a grey picture
    of 8 bits on its own.
    """
    each = header.samples * 2
    grey = replace(header, bits=8, colour_type=0)
    planes: list[list[np.ndarray]] = [[] for _ in range(each)]
    at = 0
    for rows, columns in header.passes():
        size = rows * (1 + columns * each)
        lines = np.frombuffer(data, np.uint8, size, at).reshape(rows, -1)
        for plane, parts in enumerate(planes):
            parts.append(np.concatenate([lines[:, :1], lines[:, 1 + plane :: each]], axis=1))
        at += size
    pixels = [
        _decoded(grey, None, b"".join(part.tobytes() for part in parts), source) for parts in planes
    ]
    high, low = np.stack(pixels[::2], axis=-1), np.stack(pixels[1::2], axis=-1)
    return high.astype(np.uint16) << 8 | low
