"""GIF: one picture with a palette.

Pillow shows what a GIF lacks in the first colour of its palette, so the pixels that its LZW codes
stand for are counted here.
"""

from __future__ import annotations

import struct

from PIL.GifImagePlugin import GifImageFile

from octoscope.scans.readers.pixels import still
from octoscope.scans.readers.registry import Source, always, reader
from octoscope.scans.scan import Scan

EXTENSION, PICTURE, END = 0x21, 0x2C, 0x3B
MOST_CODES = 4096


@reader("gif", suffixes=(".gif",), signature=(b"GIF87a", b"GIF89a"), eight_bits=always)
def read_gif(source: Source) -> Scan:
    """Read a GIF file: ``(H, W)`` or ``(3, H, W)`` uint8.

    Raises:
        ScanError: If it is an animation, or its picture is short or does not fill its frame.
    """
    content = source.file.read()
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    source.require_size(height, width, planes=3, itemsize=4)
    pictures = 0
    at = 13 + _colour_bytes(flags)
    while at < len(content) and content[at] != END:
        if content[at] == EXTENSION:
            _, at = _blocks(content, at + 2, source)
            continue
        if content[at] != PICTURE:
            raise ValueError("an unknown block")
        box = struct.unpack_from("<HHHH", content, at + 1)
        at += 10 + _colour_bytes(content[at + 9])
        codes, behind = _blocks(content, at + 1, source)
        pictures += 1
        if pictures == 1 and box != (0, 0, width, height):
            raise source.fault(
                f"shows a picture of {box[3]}×{box[2]} pixels in a frame of {height}×{width}; "
                "export it again"
            )
        if pictures == 1:
            found = count_pixels(codes, content[at], width * height)
            source.require_bytes(found, width * height)
        at = behind
    if at >= len(content):
        raise ValueError("its end is missing")
    if pictures != 1:
        raise source.fault(
            f"is an animation of {pictures} pictures; export the one that is meant as a file"
            if pictures
            else "holds no picture; export it again"
        )
    source.file.seek(0)
    with GifImageFile(source.file) as image:
        return still(image, source, "gif")


def _colour_bytes(flags: int) -> int:
    """Return the length of the palette that these flags announce."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 128 else 0


def _blocks(content: bytes, at: int, source: Source) -> tuple[bytes, int]:
    """Return what lies in a chain of blocks of up to 255 bytes, and where the chain ends."""
    parts = []
    while at < len(content) and (length := content[at]):
        parts.append(content[at + 1 : at + 1 + length])
        at += 1 + length
    if at >= len(content):
        raise ValueError("its end is missing")
    return b"".join(parts), at + 1


def count_pixels(codes: bytes, literal_bits: int, most: int) -> int:
    """Return how many pixels LZW codes stand for, without decoding them.

    Args:
        codes: The codes, least significant bit first, as GIF packs them.
        literal_bits: Bits of a code that stands for one pixel.
        most: Where to stop counting: one pixel more is reported as more.
    """
    clear = 1 << literal_bits
    if not 2 <= literal_bits <= 8:
        return 0
    lengths = [1] * clear + [0, 0]  # pixels that each code stands for
    fresh = len(lengths)
    bits, previous, total = literal_bits + 1, -1, 0
    held = held_bits = 0
    for byte in codes:
        held |= byte << held_bits
        held_bits += 8
        while held_bits >= bits:
            code = held & ((1 << bits) - 1)
            held >>= bits
            held_bits -= bits
            if code == clear:
                del lengths[fresh:]
                bits, previous = literal_bits + 1, -1
                continue
            known = len(lengths)
            if code == clear + 1 or code > known or (code == known and previous < 0):
                return total
            grown = lengths[previous] + 1 if previous >= 0 else 0
            total += grown if code == known else lengths[code]
            if total > most:
                return total
            if previous >= 0 and known < MOST_CODES:
                lengths.append(grown)
                if known + 1 == 1 << bits and bits < 12:
                    bits += 1
            previous = code
    return total
