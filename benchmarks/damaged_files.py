"""Small valid image files of every format and kind, and the ways in which they are damaged."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
from PIL import Image

WAYS = ("flip", "splice", "cut", "header", "lie")
HEIGHT, WIDTH = 24, 40
VALUES = (
    0, 1, 2, 7, 8, 9, 15, 16, 63, 255, 256, 4095, 20_000, 65_535, 2**24, 2**31 - 1, 2**31,
    2**32 - 1,
)  # fmt: skip
"""What header fields are replaced with, beside anything."""


def pictures() -> dict[str, np.ndarray]:
    """Return small pictures by kind."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    grey = np.rint(127 + 60 * np.sin(row / 5) + 60 * np.cos(column / 7)).astype(np.uint8)
    grey = np.clip(grey + rng.integers(0, 12, grey.shape), 0, 255).astype(np.uint8)
    return {
        "grey": grey,
        "noise": rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8),
        "colour": np.stack([grey, np.roll(grey, 5, 0), 255 - grey], axis=-1),
        "deep": grey.astype(np.uint16) * 257,
        "float": (grey / 255).astype(np.float32),
    }


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def valid_files(name: str) -> list[bytes]:
    """Return valid files of a format, of as many kinds as there are."""
    made = pictures()
    grey, noise = Image.fromarray(made["grey"]), Image.fromarray(made["noise"])
    colour, deep = Image.fromarray(made["colour"]), Image.fromarray(made["deep"])
    palette = grey.convert("P")
    bits = grey.convert("1")
    if name == "png":
        kinds = [saved(i, "PNG") for i in (grey, noise, colour, deep, palette, bits)]
        return [*kinds, deep_colour_png(), interlaced_png(), saved(colour.convert("RGBA"), "PNG")]
    if name == "jpeg":
        more = [saved(i, "JPEG", progressive=True) for i in (grey, colour)]
        cmyk = saved(colour.convert("CMYK"), "JPEG")
        return [*(saved(i, "JPEG") for i in (grey, noise, colour)), *more, cmyk]
    if name == "bmp":
        runs = [run_length_bmp(made["grey"] // 64 * 64), run_length_bmp(made["noise"])]
        return [*(saved(i, "BMP") for i in (grey, colour, palette, bits)), *runs]
    if name == "tiff":
        kinds = [saved(i, "TIFF") for i in (grey, colour, deep, palette, bits)]
        kinds.append(saved(Image.fromarray(made["float"]), "TIFF"))
        for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
            kinds += [saved(i, "TIFF", compression=compression) for i in (grey, colour)]
        pages = [deep, deep, deep]
        more = {"save_all": True, "append_images": pages[1:], "compression": "tiff_adobe_deflate"}
        strips = saved(grey, "TIFF", tiffinfo={278: 6}, strip_size=WIDTH * 6)
        return [*kinds, saved(deep, "TIFF", **more), strips, tiled_tiff(made["deep"])]
    if name == "npy":
        arrays = [*made.values(), np.stack([made["grey"]] * 3), made["grey"] > 99]
        return [npy_of(array) for array in arrays]
    if name == "gif":
        return [saved(i, "GIF") for i in (grey, noise, palette, colour.convert("P"), bits)]
    if name == "webp":
        lossless = [saved(i, "WEBP", lossless=True) for i in (grey, colour)]
        alpha = saved(colour.convert("RGBA"), "WEBP", exif=b"Exif\0\0II*\0")
        return [*(saved(i, "WEBP") for i in (grey, noise, colour)), *lossless, alpha]
    return [
        *(saved(i, "AVIF", speed=10) for i in (grey, noise, colour)),
        saved(grey, "AVIF", speed=10, quality=100, subsampling="4:4:4"),
        saved(colour.convert("RGBA"), "AVIF", speed=10),
    ]


def npy_of(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(bits: int, colour_type: int, interlaced: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colour_type, 0, 0, interlaced)
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def deep_colour_png() -> bytes:
    deep = (pictures()["colour"].astype(">u2") * 257).astype(">u2")
    return png_of(16, 2, 0, b"".join(b"\0" + row.tobytes() for row in deep))


def interlaced_png() -> bytes:
    grey = pictures()["grey"]
    rows = b""
    for top, down, left, across in ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4),
                                    (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)):  # fmt: skip
        rows += b"".join(b"\0" + row.tobytes() for row in grey[top::down, left::across])
    return png_of(8, 0, 1, rows)


def run_length_bmp(grey: np.ndarray) -> bytes:
    """Return an RLE8 bitmap."""
    runs = b""
    for row in grey[::-1]:
        at = 0
        while at < len(row):
            length = 1
            while at + length < len(row) and row[at + length] == row[at] and length < 255:
                length += 1
            runs += bytes([length, row[at]])
            at += length
        runs += b"\0\0"
    runs += b"\0\1"
    colours = b"".join(bytes([v, v, v, 0]) for v in range(256))
    head = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 8, 1, len(runs), 0, 0, 256, 0)
    start = 14 + 40 + 1024
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + head + colours + runs


def tiled_tiff(deep: np.ndarray) -> bytes:
    """Return a TIFF of deflated tiles of 16 × 16."""
    tiles = []
    for top in range(0, HEIGHT, 16):
        for left in range(0, WIDTH, 16):
            tile = np.zeros((16, 16), "<u2")
            part = deep[top : top + 16, left : left + 16]
            tile[: part.shape[0], : part.shape[1]] = part
            tiles.append(zlib.compress(tile.tobytes()))
    offsets = np.cumsum([8] + [len(tile) for tile in tiles]).tolist()
    values = struct.pack(f"<{len(tiles)}I", *offsets[:-1])
    values += struct.pack(f"<{len(tiles)}I", *map(len, tiles))
    number, place = len(tiles), offsets[-1]
    tags = [
        (256, 4, 1, WIDTH), (257, 4, 1, HEIGHT), (258, 3, 1, 16), (259, 3, 1, 8), (262, 3, 1, 1),
        (277, 3, 1, 1), (322, 3, 1, 16), (323, 3, 1, 16), (324, 4, number, place),
        (325, 4, number, place + 4 * number),
    ]  # fmt: skip
    start = offsets[-1] + len(values)
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<I", start)
    return head + b"".join(tiles) + values + struct.pack("<H", len(tags)) + entries + bytes(4)


# --- changes ------------------------------------------------------------------------------------

Field = tuple[int, str]
"""Where a header field stands, and its struct code."""


def fields_of(name: str, content: bytes) -> list[Field]:
    """Return header fields worth replacing."""
    if name == "png":
        return [(16, ">I"), (20, ">I"), (24, "B"), (25, "B"), (28, "B"), (33, ">I")]
    if name == "jpeg":
        at = next(content.index(m) for m in (b"\xff\xc0", b"\xff\xc2") if m in content)
        codes = ((2, ">H"), (4, "B"), (5, ">H"), (7, ">H"), (9, "B"), (11, "B"))
        return [(at + offset, code) for offset, code in codes]
    if name == "bmp":
        return [(o, "<I") for o in (10, 14, 18, 22, 30, 34, 46)] + [(28, "<H")]
    if name == "tiff":
        (start,) = struct.unpack_from("<I", content, 4)
        (count,) = struct.unpack_from("<H", content, start)
        entries = [start + 2 + 12 * i for i in range(count)]
        found = [
            (at + o, c) for at in entries for o, c in ((0, "<H"), (2, "<H"), (4, "<I"), (8, "<I"))
        ]
        return [(4, "<I"), (start, "<H"), (start + 2 + 12 * count, "<I"), *found]
    if name == "gif":
        at = content.index(b"\x2c", 13 + 3 * 2 ** ((content[10] & 7) + 1) * (content[10] >> 7))
        return [(6, "<H"), (8, "<H"), (10, "B"), (at + 5, "<H"), (at + 7, "<H"), (at + 10, "B")]
    if name == "webp":
        return [(4, "<I"), (16, "<I"), (20, "<I"), (24, "<I"), (26, "<H"), (28, "<H")]
    if name == "npy":
        return [(6, "B"), (8, "<H")]
    found = []
    for box, offsets in ((b"ispe", (4, 8, 12)), (b"iloc", (4, 8, 12, 16, 20)), (b"pixi", (4, 8)),
                         (b"av1C", (4,)), (b"meta", (-4,)), (b"iinf", (4, 8))):  # fmt: skip
        if box in content:
            found += [(content.index(box) + o, ">I") for o in offsets]
    return found


def mended(name: str, content: bytes) -> bytes:
    """Return a PNG whose checksums are right; other formats have none."""
    if name != "png":
        return content
    parts, at = [content[:8]], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        body = content[at + 8 : at + 8 + length]
        parts.append(content[at : at + 8] + body)
        parts.append(struct.pack(">I", zlib.crc32(content[at + 4 : at + 8 + length])))
        at += 12 + length
    return b"".join(parts)


def put(content: bytes, at: int, code: str, value: int) -> bytes:
    size = struct.calcsize(code)
    packed = struct.pack(code, value % 256**size)
    return content[:at] + packed + content[at + size :]


def lying(name: str, content: bytes, rng: random.Random) -> bytes:
    """Return a file that claims a size for which it has too few pixels."""
    tall = rng.random() < 0.6
    # From 32 on, for less hides in what a row of bits or a block of pixels is filled up with.
    more = rng.choice([32, 33, 48, 100, 3 * HEIGHT, 1000])
    height, width = (HEIGHT + more, WIDTH) if tall else (HEIGHT, WIDTH + more)
    if name == "png":
        content = put(put(content, 16, ">I", width), 20, ">I", height)
        return mended(name, content)
    if name == "jpeg":
        at = next(content.index(m) for m in (b"\xff\xc0", b"\xff\xc2") if m in content)
        return put(put(content, at + 5, ">H", height), at + 7, ">H", width)
    if name == "bmp":
        return put(put(content, 18, "<I", width), 22, "<I", height)
    if name == "gif":
        at = content.index(b"\x2c", 13 + 3 * 2 ** ((content[10] & 7) + 1) * (content[10] >> 7))
        for where in (6, at + 5):
            content = put(put(content, where, "<H", width), where + 2, "<H", height)
        return content
    if name == "npy":
        shape = f"{HEIGHT}, {WIDTH}".encode()
        new = f"{height}, {width}".encode()
        end = content.index(b"\n")
        head = content[10:end].replace(shape, new).rstrip()
        return content[:10] + head.ljust(end - 10) + content[end:]
    if name == "webp":
        return lying_webp(content, height, width)
    if name == "avif":
        at = content.index(b"ispe") + 8
        while at > 7:
            content = put(put(content, at, ">I", width), at + 4, ">I", height)
            at = content.find(b"ispe", at) + 8
        return content
    return lying_tiff(content, height, width, rng)


def lying_webp(content: bytes, height: int, width: int) -> bytes:
    at = 12
    while at + 8 <= len(content):
        kind, size = struct.unpack_from("<4sI", content, at)
        if kind == b"VP8X":
            content = content[: at + 12] + (width - 1).to_bytes(3, "little") + content[at + 15 :]
            content = content[: at + 15] + (height - 1).to_bytes(3, "little") + content[at + 18 :]
        elif kind == b"VP8 ":
            content = put(put(content, at + 14, "<H", width), at + 16, "<H", height)
        elif kind == b"VP8L":
            (packed,) = struct.unpack_from("<I", content, at + 9)
            packed = packed >> 28 << 28 | (height - 1) << 14 | (width - 1)
            content = put(content, at + 9, "<I", packed)
        at += 8 + size + size % 2
    return content


def lying_tiff(content: bytes, height: int, width: int, rng: random.Random) -> bytes:
    """Enlarge every page, with strips as tall as the picture or as they were; or shorten strips."""
    (at,) = struct.unpack_from("<I", content, 4)
    whole_strips = rng.random() < 0.5
    short = rng.random() < 0.2 and struct.pack("<HHI", 279, 4, 1) in content
    while at:
        (count,) = struct.unpack_from("<H", content, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from("<HHI", content, entry)
            code = "<H" if kind == 3 else "<I"
            (value,) = struct.unpack_from(code, content, entry + 8)
            if short and tag in (279, 325) and number == 1:
                content = put(content, entry + 8, code, rng.randrange(value * 3 // 4))
            elif not short:
                new = {256: width, 257: height}.get(tag, value)
                new = height if tag == 278 and whole_strips else new
                content = put(content, entry + 8, code, new)
        (at,) = struct.unpack_from("<I", content, at + 2 + 12 * count)
    return content


def changed(name: str, content: bytes, way: str, rng: random.Random) -> bytes:
    """Return a file changed in one of the `WAYS`."""
    if way == "lie":
        return lying(name, content, rng)
    data = bytearray(content)
    if way == "flip":
        near = rng.choice([64, 256, len(data), len(data)])
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(min(near, len(data)))] ^= 1 << rng.randrange(8)
    elif way == "splice":
        for _ in range(rng.randint(1, 4)):
            at, source = rng.randrange(len(data)), rng.randrange(len(data))
            piece = data[source : source + rng.randint(1, 64)]
            kind = rng.choice(["over", "in", "out"])
            if kind == "over":
                data[at : at + len(piece)] = piece
            elif kind == "in":
                data[at:at] = piece
            elif len(data) > 80:
                del data[at : at + rng.randint(1, 32)]
    elif way == "cut":
        at = rng.randrange(len(data))
        data[at:] = b"" if rng.random() < 0.6 else bytes(len(data) - at)
    else:
        for _ in range(rng.randint(1, 3)):
            at, code = rng.choice(fields_of(name, content))
            size = struct.calcsize(code)
            value = rng.choice([*VALUES, rng.getrandbits(8 * size)])
            data = bytearray(put(bytes(data), at, code, value))
    return mended(name, bytes(data)) if rng.random() < 0.8 else bytes(data)
