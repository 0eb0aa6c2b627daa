"""The pages of a TIFF or BigTIFF file: what each says of itself, and whether its data bear it out.

Pillow and libtiff believe a directory: strips that are missing become black, a short strip is
filled from whatever follows it in the file, and a tile of 30,000 pixels a side is made room for.
So directories are read here, without decoding, and held against the limits and the data first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from octoscope.scans.readers.registry import Source

MAX_PAGES = 2048
"""Pages of one file: twice the B-scans of the densest volumes; each costs a millisecond."""
MAX_TAGS = 1024
"""Entries of one directory; common ones have 12 to 40."""
SPARE_TILE_BYTES = 16 * 2**20
"""How much more than their picture the tiles of a page may take, beside four times its size."""

(
    WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, OFFSETS, SAMPLES, ROWS, COUNTS,
    PLANAR, PREDICTOR, COLOURS, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, EXTRA, FORMAT,
    GREATEST, TABLES,
) = (
    256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339,
    281, 347,
)  # fmt: skip
SIZES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 16: "Q", 17: "q"}
"""Type of a value → how it is stored; rationals and fractions are of no use here."""
WANTED = (*range(256, 267), OFFSETS, SAMPLES, ROWS, COUNTS, 281, PLANAR, PREDICTOR, COLOURS,
          *range(322, 326), EXTRA, FORMAT, TABLES, 530)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Page:
    """One directory.

    Attributes:
        order: ``<`` or ``>``, the byte order of the file.
        tags: Number of a tag → its whole numbers.
    """

    order: str
    tags: dict[int, tuple[int, ...]]

    def one(self, tag: int, default: int) -> int:
        """Return the first value of a tag."""
        return self.tags.get(tag, (default,))[0]

    @property
    def height(self) -> int:
        """Rows."""
        return self.one(HEIGHT, 0)

    @property
    def width(self) -> int:
        """Columns."""
        return self.one(WIDTH, 0)

    @property
    def samples(self) -> int:
        """Samples of a pixel."""
        return self.one(SAMPLES, 1)

    @property
    def bits(self) -> int:
        """Bits of the greatest sample."""
        return max(self.tags.get(BITS, (1,)))

    @property
    def compression(self) -> int:
        """Number of the compression, 1 for none."""
        return self.one(COMPRESSION, 1)

    @property
    def tiled(self) -> bool:
        """Whether the data are cut into tiles, not strips."""
        return TILE_WIDTH in self.tags or TILE_OFFSETS in self.tags

    def blocks(self) -> tuple[int, int, int, int]:
        """Return rows and columns of a strip or tile, and how many lie down and across."""
        if self.tiled:
            rows, columns = self.one(TILE_HEIGHT, 0), self.one(TILE_WIDTH, 0)
        else:
            rows, columns = min(self.one(ROWS, self.height), self.height), self.width
        if min(rows, columns) < 1:
            raise ValueError("strips or tiles without pixels")
        return rows, columns, -(-self.height // rows), -(-self.width // columns)

    def block_bytes(self) -> list[tuple[int, int]]:
        """Return for each strip or tile the least and the most bytes of its pixels.

        The last strip of several may be filled up to the height of the others.
        """
        rows, columns, down, across = self.blocks()
        separate = self.one(PLANAR, 1) == 2
        line = -(-columns * self.bits * (1 if separate else self.samples) // 8)
        whole = (rows * line, rows * line)
        last = whole if self.tiled else ((self.height - (down - 1) * rows) * line, rows * line)
        plane = [whole] * ((down - 1) * across) + [last] * across
        return plane * (self.samples if separate else 1)

    def stored(self) -> list[tuple[int, int]]:
        """Return offset and length of every strip or tile as it lies in the file."""
        offsets = self.tags.get(TILE_OFFSETS if self.tiled else OFFSETS, ())
        counts = self.tags.get(TILE_COUNTS if self.tiled else COUNTS, ())
        return list(zip(offsets, counts, strict=True))


def read_pages(content: bytes, source: Source) -> list[Page]:
    """Read the chain of directories.

    Raises:
        ScanError: If there are more than `MAX_PAGES`, or the chain bites its own tail.
        struct.error: If it leads out of the file.
    """
    order = "<" if content[:2] == b"II" else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    at = struct.unpack_from(order + "Q", content, 8)[0] if big else 0
    at = at or struct.unpack_from(order + "I", content, 4)[0]
    pages: list[Page] = []
    seen: set[int] = set()
    left = len(content)
    while at:
        if at in seen:
            raise ValueError("its pages run in a circle")
        if len(pages) == MAX_PAGES:
            raise source.fault(f"has more than {MAX_PAGES:,} pages; split it into several files")
        seen.add(at)
        tags, at, used = _directory(content, at, order, big, source)
        left -= used  # or a small file whose tags all point to one place would fill the memory
        if left < 0:
            raise ValueError("its directories overlap")
        pages.append(Page(order, tags))
    return pages


def _directory(
    content: bytes, at: int, order: str, big: bool, source: Source
) -> tuple[dict[int, tuple[int, ...]], int, int]:
    """Read one directory: the tags that matter here, where the next one lies, and its bytes."""
    count_code, entry, inline, long = ("Q", 20, 8, "Q") if big else ("H", 12, 4, "I")
    (count,) = struct.unpack_from(order + count_code, content, at)
    if count > MAX_TAGS:
        raise ValueError(f"{count:,} entries in a directory")
    at += struct.calcsize(count_code)
    used = entry * count
    tags: dict[int, tuple[int, ...]] = {}
    for _ in range(count):
        tag, kind, number = struct.unpack_from(f"{order}HH{long}", content, at)
        if tag in WANTED and tag not in tags and kind in SIZES and number:
            size = struct.calcsize(SIZES[kind])
            where = at + entry - inline
            if number * size > inline:
                (where,) = struct.unpack_from(order + long, content, where)
                used += number * size
            if where + number * size > len(content):
                raise ValueError("a directory points behind its end")
            tags[tag] = struct.unpack_from(f"{order}{number}{SIZES[kind]}", content, where)
        at += entry
    return tags, struct.unpack_from(order + long, content, at)[0], used


def require_sound(page: Page, content: bytes, source: Source) -> None:
    """Check the blocks of a page against the limits and the file, before anything is decoded.

    Raises:
        ScanError: If strips or tiles are missing, lie outside of the file, or are far larger than
            the picture.
    """
    rows, columns, down, across = page.blocks()
    planes = page.samples if page.one(PLANAR, 1) == 2 else 1
    line = -(-columns * page.bits * (page.samples // planes) // 8)
    shown = page.height * -(-page.width * page.bits * page.samples // 8)
    taken = rows * line * down * across * planes
    if page.tiled and taken > 4 * shown + SPARE_TILE_BYTES:
        raise source.fault(
            f"has tiles of {rows}×{columns} pixels, far larger than its picture of "
            f"{page.height}×{page.width}; export it again"
        )
    what = "tiles" if page.tiled else "strips"
    numbers = [
        len(page.tags.get(tag, ()))
        for tag in ((TILE_OFFSETS, TILE_COUNTS) if page.tiled else (OFFSETS, COUNTS))
    ]
    needed = down * across * planes
    if numbers != [needed, needed]:
        raise source.fault(
            f"is cut short or its header lies about its size (it lists {min(numbers):,} of the "
            f"{needed:,} {what} that {page.height}×{page.width} pixels take); export it again"
            if min(numbers) < needed
            else f"holds more pixels than its header says ({max(numbers):,} {what} instead of "
            f"{needed:,}); its size is wrong, so export it again"
        )
    for offset, count in page.stored():
        if count < 1 or offset + count > len(content) or offset < 8:
            raise ValueError(f"{what} of pixels are missing")


def rebuilt(page: Page, content: bytes, changes: dict[int, tuple[int, ...] | None]) -> bytes:
    """Return a TIFF file of this page alone, with some tags changed.

    It holds no metadata, nothing that points elsewhere, and the page's data as they are.

    Args:
        page: The page.
        content: The file that it comes from.
        changes: Tag → new values, or None to leave it out.
    """
    blocks = [content[offset : offset + count] for offset, count in page.stored()]
    start, offsets = 8, []
    for block in blocks:
        offsets.append(start)
        start += len(block) + len(block) % 2
    strips, tiles = (OFFSETS, COUNTS, ROWS), (TILE_OFFSETS, TILE_COUNTS, TILE_WIDTH, TILE_HEIGHT)
    unused = dict.fromkeys((GREATEST, *(strips if page.tiled else tiles)))
    merged = {**page.tags, **changes, **unused}
    tags = {tag: values for tag, values in merged.items() if values is not None}
    tags[TILE_OFFSETS if page.tiled else OFFSETS] = tuple(offsets)
    data = b"".join(block + bytes(len(block) % 2) for block in blocks)
    directory, after = b"", start + 2 + 12 * len(tags) + 4
    values = b""
    for tag in sorted(tags):
        kind, body = _stored_values(tag, tags[tag], page.order)
        number = len(tags[tag])
        if len(body) > 4:
            place = struct.pack(page.order + "I", after + len(values))
            values += body + bytes(len(body) % 2)
        else:
            place = body.ljust(4, b"\0")
        directory += struct.pack(page.order + "HHI", tag, kind, number) + place
    head = (b"II*\0" if page.order == "<" else b"MM\0*") + struct.pack(page.order + "I", start)
    count = struct.pack(page.order + "H", len(tags))
    return head + data + count + directory + bytes(4) + values


def _stored_values(tag: int, values: Sequence[int], order: str) -> tuple[int, bytes]:
    """Return the type and the bytes in which a tag's values are stored."""
    if tag == TABLES:
        return 7, bytes(values)
    wide = max(values) > 65535 or tag in (OFFSETS, COUNTS, TILE_OFFSETS, TILE_COUNTS)
    code = "I" if wide else "H"
    return (4 if wide else 3), struct.pack(f"{order}{len(values)}{code}", *values)


def unpacked(page: Page, content: bytes) -> Iterator[bytes]:
    """Yield the strips or tiles of a page as they lie in the file."""
    for offset, count in page.stored():
        yield content[offset : offset + count]
