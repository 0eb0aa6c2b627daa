"""TIFF and BigTIFF: 1 to 32 bits, grey, palette or colour, strips or tiles, one page or many.

Each page is checked here and then handed to Pillow as a file of its own.
"""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL.TiffImagePlugin import TiffImageFile

from octoscope.scans.readers import tiff_pages as tag
from octoscope.scans.readers.inflate import inflate
from octoscope.scans.readers.jpeg import require_whole
from octoscope.scans.readers.pixels import decode, grey_or_colour
from octoscope.scans.readers.registry import Source, reader
from octoscope.scans.readers.tiff_pages import Page, read_pages, rebuilt, require_sound, unpacked
from octoscope.scans.scan import Scan

NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA, ZSTD = 1, 5, 7, 8, 32946, 32773, 34925, 50000
STRICT = (LZW, LZMA, ZSTD)
"""Compressions of which libtiff itself says when they end early."""
FAX = (2, 3, 4, 32771)
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, YCBCR = 0, 1, 2, 6
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
MOST_WORDS = 89_000_000
"""Words of 16 bits of one page, from which on Pillow speaks of a bomb."""
KINDS = {UNSIGNED: "u", SIGNED: "i", FLOAT: "f"}
"""Sample format → what NumPy calls it."""


def _eight_bits(source: Source) -> bool:
    """Say whether no sample has more than 8 bits or a sign."""
    pages = read_pages(source.file.read(), source)
    return all(page.bits <= 8 and page.one(tag.FORMAT, UNSIGNED) != SIGNED for page in pages)


@reader(
    "tiff",
    suffixes=(".tif", ".tiff"),
    signature=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    eight_bits=_eight_bits,
)
def read_tiff(source: Source) -> Scan:
    """Read a TIFF file: ``(H, W)``, or ``(Z, H, W)`` of Z pages; colour in front.

    Raises:
        ScanError: If the pages differ in size or in kind, are stored in a way that is not known,
            or their data are short.
    """
    content = source.file.read()
    pages = read_pages(content, source)
    if not pages:
        raise ValueError("it has no page")
    height, width = pages[0].height, pages[0].width
    planes = len(pages) * pages[0].samples
    source.require_size(height, width, planes=planes, itemsize=max(4, pages[0].bits // 8))
    arrays = []
    for number, page in enumerate(pages, 1):
        if (page.height, page.width) != (height, width):
            raise source.fault(
                f"page {number} of {len(pages)} is {page.height}×{page.width} pixels and page 1 "
                f"is {height}×{width}; a volume has pages of one size, so split it"
            )
        require_sound(page, content, source)
        _require_filled(page, content, source)
        arrays.append(_pixels(page, content, source))
        if arrays[-1].shape != arrays[0].shape or arrays[-1].dtype != arrays[0].dtype:
            raise source.fault(
                f"page {number} of {len(pages)} is of another kind (colour or bits) than page 1; "
                "export all pages alike"
            )
    array = arrays[0] if len(pages) == 1 else np.stack(arrays)
    scan = grey_or_colour(array, source, "tiff", colour=arrays[0].ndim == 3)
    return replace(scan, depth=_depth(pages[0]))


def _depth(page: Page) -> int | None:
    """Return the bits that a page says its whole numbers use, if their type holds more."""
    depth = page.bits
    greatest = page.one(tag.GREATEST, 0)
    if page.one(tag.FORMAT, UNSIGNED) == UNSIGNED and greatest & (greatest + 1) == 0 and greatest:
        depth = min(depth, greatest.bit_length())  # a number as 4095, not what happened to occur
    return depth if 8 < depth < 16 else None


def _require_filled(page: Page, content: bytes, source: Source) -> None:
    """Check that every strip or tile holds as many pixels as it must.

    Raises:
        ScanError: If one does not, the compression does not let it be known, or there are more
            deep numbers than Pillow decodes.
    """
    compression = page.compression
    if compression in FAX:
        raise source.fault(
            "is compressed as a fax (CCITT), in which missing lines look white; save it with LZW "
            "or Deflate"
        )
    if compression not in (NONE, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS, *STRICT):
        raise source.fault(
            f"has a compression that is not known (number {compression}); save it with LZW or "
            "Deflate"
        )
    if source.indices and compression == JPEG:
        raise source.fault("is compressed as JPEG, which changes class indices; save it as PNG")
    if page.one(tag.PHOTOMETRIC, BLACK_IS_ZERO) == YCBCR and compression != JPEG:
        raise source.fault("has YCbCr colours without JPEG; save it as RGB or grey")
    if page.height * page.width * page.samples * (page.bits // 16) > MOST_WORDS:
        raise source.fault(
            f"is {page.height}×{page.width} pixels of {page.samples} × {page.bits} bits, above "
            "the limit for such numbers; save it as grey with 16 bits"
        )
    rows, columns, down, across = page.blocks()
    tables = bytes(page.tags.get(tag.TABLES, ()))
    for number, (block, (least, most)) in enumerate(
        zip(unpacked(page, content), page.block_bytes(), strict=True)
    ):
        if compression == NONE:
            source.require_bytes(len(block), least, max(most, least + 3))
        elif compression in (DEFLATE, OLD_DEFLATE):
            inflate(block, least, source, most=most)
        elif compression == PACKBITS:
            source.require_bytes(_packed_length(block), least, most)
        elif compression == JPEG:
            last = not page.tiled and number % (down * across) >= (down - 1) * across
            height = page.height - (down - 1) * rows if last else rows
            stream = tables[:-2] + block[2:] if tables else block
            require_whole(stream, height, columns, source)


def _packed_length(block: bytes) -> int:
    """Return how many bytes a PackBits run stands for."""
    length = at = 0
    while at < len(block):
        code = block[at]
        if code < 128:
            length += min(code + 1, len(block) - at - 1)
            at += code + 2
        else:
            length += 257 - code if code > 128 and at + 1 < len(block) else 0
            at += 1 if code == 128 else 2
    return length


def _pixels(page: Page, content: bytes, source: Source) -> np.ndarray:
    """Return the pixels of a page, ``(H, W)`` or ``(H, W, 3)``, black the least.

    A mask keeps the numbers that are stored, also where white is zero.
    """
    photometric = page.one(tag.PHOTOMETRIC, BLACK_IS_ZERO)
    if len(set(page.tags.get(tag.BITS, (1,)))) != 1:
        raise source.fault("has channels of several bit depths; save all alike")
    if page.bits in (16, 32, 64) and photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        array = _words(page, content, source)
    elif photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        array = _small(page, content, source)
    else:
        return _by_pillow(page, content, {}, source)
    if photometric != WHITE_IS_ZERO or source.indices:
        return array
    if array.dtype.kind != "u":
        raise source.fault("has white as zero in numbers without a greatest one; save it anew")
    greatest = 255 if page.bits < 8 else 2**page.bits - 1
    return np.subtract(greatest, array, dtype=array.dtype)


def _small(page: Page, content: bytes, source: Source) -> np.ndarray:
    """Return grey samples of 1 to 12 bits as they are stored, those of 2 and 4 over 0…255."""
    array = _by_pillow(page, content, {tag.PHOTOMETRIC: (BLACK_IS_ZERO,)}, source)
    if page.bits == 8 and page.one(tag.FORMAT, UNSIGNED) == SIGNED:
        return array.view(np.int8)
    if source.indices and page.bits in (2, 4):
        return array // (255 // (2**page.bits - 1))
    return array


def _words(page: Page, content: bytes, source: Source) -> np.ndarray:
    """Return samples of 16, 32 or 64 bits as they are stored.

    Pillow keeps 8 bits of deep colours, takes unsigned numbers for signed ones, and swaps the
    bytes of compressed big-endian files twice. But it decodes grey pictures of 16 bits rightly,
    and samples that lie side by side are such a picture of so many times the width.
    """
    predictor, kind = page.one(tag.PREDICTOR, 1), page.one(tag.FORMAT, UNSIGNED)
    samples, words = page.samples, page.bits // 16
    separate = samples > 1 and page.one(tag.PLANAR, 1) != 1
    if separate or predictor > 2 or page.compression == JPEG or kind not in KINDS:
        raise source.fault(
            f"stores {page.bits} bits in a way that is not known; save it without predictor, "
            "the channels of a pixel side by side"
        )
    changes: dict[int, tuple[int, ...] | None] = {
        tag.WIDTH: (page.width * samples * words,),
        tag.SAMPLES: (1,),
        tag.BITS: (16,),
        tag.PHOTOMETRIC: (BLACK_IS_ZERO,),
        tag.FORMAT: (UNSIGNED,),
        tag.PREDICTOR: None,
        tag.EXTRA: None,
    }
    if page.tiled:
        changes[tag.TILE_WIDTH] = (page.one(tag.TILE_WIDTH, 0) * samples * words,)
    parts = _by_pillow(page, content, changes, source).reshape(page.height, page.width, samples, -1)
    if page.order == "<":
        parts = parts[..., ::-1]
    whole = parts[..., 0].astype(f"u{page.bits // 8}")
    for word in range(1, words):  # the most significant came first
        whole = whole << np.array(16, whole.dtype) | parts[..., word].astype(whole.dtype)
    if predictor == 2:  # each sample is the difference to its neighbour in the same tile
        columns = page.blocks()[1]
        for at in range(0, page.width, columns):
            block = whole[:, at : at + columns]
            np.cumsum(block, axis=1, dtype=whole.dtype, out=block)
    array = whole.view(f"{KINDS[kind]}{page.bits // 8}")
    array = array.astype(np.float32) if kind == FLOAT else array
    return array[..., :3] if samples > 2 else array[..., 0]


def _by_pillow(
    page: Page, content: bytes, changes: dict[int, tuple[int, ...] | None], source: Source
) -> np.ndarray:
    """Decode a page as Pillow does, with some of its tags changed."""
    try:
        image = TiffImageFile(io.BytesIO(rebuilt(page, content, changes)))
    except SyntaxError:
        kinds = {UNSIGNED: "whole numbers", SIGNED: "signed numbers", FLOAT: "fractions"}
        kind = kinds.get(page.one(tag.FORMAT, UNSIGNED), "numbers")
        raise source.fault(
            f"stores {kind} of {page.bits} bits in a way that is not known; save it as grey with "
            "8 or 16 bits"
        ) from None
    with image:
        return decode(image, source)
