"""AVIF: one picture, read at 8 bits.

libavif stretches a picture to whatever size the container tells, so the size is compared here
with that of the AV1 stream in it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

from PIL import features

from octoscope.scans.readers.pixels import still
from octoscope.scans.readers.registry import Source, always, reader
from octoscope.scans.scan import Scan

SEQUENCE_HEADER = 1
"""Type of the part of an AV1 stream that holds its size (AV1 specification, section 5.5)."""


@reader(
    "avif",
    suffixes=(".avif",),
    signature=(b"ftypavif", b"ftypavis", b"ftypmif1"),
    offset=4,
    eight_bits=always,
)
def read_avif(source: Source) -> Scan:
    """Read an AVIF file: ``(H, W)`` or ``(3, H, W)`` uint8.

    Raises:
        ScanError: If it is an animation or put together of tiles, if its sizes contradict each
            other, or if Pillow was built without AVIF.
    """
    if not features.check("avif"):
        raise source.fault("is AVIF, which this Pillow cannot read; save it as PNG")
    from PIL.AvifImagePlugin import AvifImageFile  # Pillow before 11.3 lacks the module

    content = source.file.read()
    stored = _stored_size(content, source)
    source.file.seek(0)
    with AvifImageFile(source.file) as image:
        width, height = image.size
        source.require_size(height, width, planes=4, itemsize=4)
        if getattr(image, "n_frames", 1) > 1:
            raise source.fault("is an animation; export the picture that is meant as a file")
        if (height, width) != stored:
            raise source.fault(
                f"says that it is {height}×{width} pixels, but holds {stored[0]}×{stored[1]}; "
                "export it again"
            )
        return still(image, source, "avif")


def _boxes(content: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of the body of each box of an ISO media file."""
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", content, start)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", content, start + 8)
            head = 16
        size = size or end - start
        if size < head or start + size > end:
            raise ValueError("a box is cut short")
        yield name, start + head, start + size
        start += size


def _stored_size(content: bytes, source: Source) -> tuple[int, int]:
    """Return height and width of the AV1 stream of the primary picture.

    Raises:
        ScanError: If the primary picture is no AV1 stream.
    """
    boxes = {name: (at, end) for name, at, end in _boxes(content, 0, len(content))}
    meta, meta_end = boxes[b"meta"]
    inside = {name: (at, end) for name, at, end in _boxes(content, meta + 4, meta_end)}
    _require_told_sizes(content, inside[b"iprp"], source)
    at = inside[b"pitm"][0]
    primary = struct.unpack_from(">I" if content[at] else ">H", content, at + 4)[0]
    where = _extent(content, inside[b"iloc"][0], primary)
    if where is None:
        raise source.fault("is put together of several pictures; export it as PNG")
    return _size_of_stream(content[where[0] : where[0] + where[1]])


def _require_told_sizes(content: bytes, properties: tuple[int, int], source: Source) -> None:
    """Check the greatest size that the container tells, before libavif makes room for it."""
    sizes = [
        struct.unpack_from(">II", content, at + 4)
        for box, start, end in _boxes(content, *properties)
        if box == b"ipco"
        for name, at, _ in _boxes(content, start, end)
        if name == b"ispe"
    ]
    width, height = max(sizes, key=math.prod)
    source.require_size(height, width, planes=4, itemsize=4)


def _extent(content: bytes, at: int, item: int) -> tuple[int, int] | None:
    """Return offset and length of an item from the iloc box at `at`, if it lies in one piece."""
    version = content[at]
    first, second = content[at + 4], content[at + 5]
    offset_size, length_size, base_size = first >> 4, first & 15, second >> 4
    index_size = second & 15 if version else 0
    number, at = _number(content, at + 6, 4 if version == 2 else 2)
    for _ in range(number):
        name, at = _number(content, at, 4 if version == 2 else 2)
        method, at = _number(content, at, 2 if version else 0)
        _, at = _number(content, at, 2)
        base, at = _number(content, at, base_size)
        extents, at = _number(content, at, 2)
        if name != item:
            at += extents * (index_size + offset_size + length_size)
            continue
        if extents != 1 or method & 15:
            return None
        offset, at = _number(content, at + index_size, offset_size)
        return base + offset, _number(content, at, length_size)[0]
    return None


def _number(content: bytes, at: int, size: int) -> tuple[int, int]:
    """Return a whole number of `size` bytes, and where it ends."""
    if at + size > len(content):
        raise ValueError("a box is cut short")
    return int.from_bytes(content[at : at + size], "big"), at + size


def _size_of_stream(stream: bytes) -> tuple[int, int]:
    """Return height and width from the sequence header of an AV1 stream."""
    at = 0
    while at < len(stream):
        header = stream[at]
        at += 2 if header & 4 else 1
        size = shift = 0
        while header & 2:
            size |= (stream[at] & 127) << shift
            shift += 7
            at += 1
            if stream[at - 1] < 128 or shift > 28:
                break
        if not header & 2:
            size = len(stream) - at
        if header >> 3 & 15 == SEQUENCE_HEADER:
            return _size_of_sequence(stream[at : at + size])
        at += size
    raise ValueError("the AV1 stream has no sequence header")


def _size_of_sequence(body: bytes) -> tuple[int, int]:
    """Return height and width from the body of a sequence header (section 5.5.1)."""
    value, left = int.from_bytes(body, "big"), len(body) * 8

    def bits(count: int) -> int:
        nonlocal left
        left -= count
        if left < 0:
            raise ValueError("the sequence header is cut short")
        return value >> left & ((1 << count) - 1)

    bits(4)  # profile, still picture
    if bits(1):  # reduced header
        bits(5)
    else:
        delay_bits = 0
        if bits(1):  # timing
            bits(64)
            if bits(1):  # equal intervals: a number of as many bits as zeros come first
                zeros = 0
                while not bits(1):
                    zeros += 1
                bits(zeros)
            if bits(1):  # decoder model
                delay_bits = bits(5) + 1
                bits(42)
        delayed = bits(1)
        for _ in range(bits(5) + 1):
            bits(12)
            if bits(5) > 7:
                bits(1)
            if delay_bits and bits(1):
                bits(2 * delay_bits + 1)
            if delayed and bits(1):
                bits(4)
    width_bits, height_bits = bits(4) + 1, bits(4) + 1
    width = bits(width_bits) + 1
    return bits(height_bits) + 1, width
