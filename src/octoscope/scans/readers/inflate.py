"""Deflate with a count: short data are an error, and a bomb is stopped at the size promised."""

from __future__ import annotations

import zlib

from octoscope.scans.readers.registry import Source


def inflate(compressed: bytes, expected: int, source: Source, *, most: int | None = None) -> bytes:
    """Inflate a zlib stream that must hold `expected` bytes.

    Args:
        compressed: The stream.
        expected: How many bytes the size of the picture asks for.
        source: The file, for messages.
        most: How many there may be at most (the last strip of a TIFF may be filled up); by
            default `expected`.

    Returns:
        The first `expected` bytes.

    Raises:
        ScanError: If there are fewer, or more than `most`, or a checksum is wrong.
    """
    stream = zlib.decompressobj()
    most = expected if most is None else most
    try:
        data = stream.decompress(compressed, most + 1)
        while len(data) <= most and not stream.eof and stream.unconsumed_tail:
            data += stream.decompress(stream.unconsumed_tail, most + 1 - len(data))
        if len(data) <= most and not stream.eof:  # what is left is the checksum
            data += stream.flush()
    except zlib.error as error:
        raise source.fault(
            f"is damaged (its pixels cannot be inflated: {error}); copy or export it again"
        ) from None
    source.require_bytes(len(data), expected, most)
    return data[:expected]
