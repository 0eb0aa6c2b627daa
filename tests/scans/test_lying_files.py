"""Files whose header lies about their size, or whose pixels end early: errors, never black pixels.

Beside each lie lies the truth: the same file with the right header is read as it was written.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from octoscope.errors import ScanError
from octoscope.scans.readers import read_mask, read_scan
from octoscope.scans.readers.gif import count_pixels

HEIGHT, WIDTH = 40, 48
RNG = np.random.default_rng(8)
NOISE = RNG.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
LIES = [(HEIGHT * 2, WIDTH), (HEIGHT, WIDTH * 2), (HEIGHT + 33, WIDTH), (HEIGHT, WIDTH + 33)]


def read(tmp_path: Path, content: bytes) -> np.ndarray:
    path = tmp_path / "a.png"  # the content decides
    path.write_bytes(content)
    return read_scan(path).array


def refusal(tmp_path: Path, content: bytes) -> str:
    with pytest.raises(ScanError) as caught:
        read(tmp_path, content)
    assert "\n" not in caught.value.reason
    return caught.value.reason


def saved(array: np.ndarray, format: str, mode: str | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(stream, format, **options)  # type: ignore[arg-type]
    return stream.getvalue()


# --- PNG ----------------------------------------------------------------------------------------

ADAM7 = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4))
ADAM7 += ((2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    samples: np.ndarray, bits: int, colour_type: int, *, interlaced: bool = False,
    height: int = HEIGHT, width: int = WIDTH, more: bytes = b"", rows: int | None = None,
) -> bytes:  # fmt: skip
    """Return a PNG of ``(H, W)`` or ``(H, W, S)`` samples whose header says what it likes."""
    lines = []
    for top, down, left, across in ADAM7 if interlaced else ((0, 1, 0, 1),):
        for row in samples[top::down, left::across]:
            flat = row.reshape(-1).astype(np.uint32)
            each = (flat[:, None] >> np.arange(bits)[::-1]) & 1
            lines.append(b"\0" + np.packbits(each.astype(np.uint8)).tobytes())
    data = b"".join(lines[:rows])
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more
        + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    )  # fmt: skip


DEEP = RNG.integers(0, 2**16, (HEIGHT, WIDTH))
PALETTE = chunk(b"PLTE", bytes(range(256)) * 3)
PNG_KINDS = {
    "grey": (NOISE, 8, 0, b""),
    "deep": (DEEP, 16, 0, b""),
    "bits": (NOISE % 2, 1, 0, b""),
    "two bits": (NOISE % 4, 2, 0, b""),
    "four bits": (NOISE % 16, 4, 0, b""),
    "palette": (NOISE, 8, 3, PALETTE),
    "small palette": (NOISE % 4, 2, 3, PALETTE),
    "colour": (COLOUR, 8, 2, b""),
    "deep colour": (COLOUR.astype(int) * 256 + 3, 16, 2, b""),
    "grey and alpha": (COLOUR[..., :2], 8, 4, b""),
    "deep grey and alpha": (COLOUR[..., :2].astype(int) * 257, 16, 4, b""),
    "colour and alpha": (np.concatenate([COLOUR, COLOUR[..., :1]], -1), 8, 6, b""),
}


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("kind", PNG_KINDS)
def test_png_is_read_or_refused(tmp_path: Path, kind: str, interlaced: bool) -> None:
    samples, bits, colour_type, more = PNG_KINDS[kind]
    array = read(tmp_path, png(samples, bits, colour_type, interlaced=interlaced, more=more))
    if colour_type in (0, 4):
        grey = samples if colour_type == 0 else samples[..., 0]
        assert np.array_equal(array, grey * (255 // (2**bits - 1)) if bits < 8 else grey)
    elif colour_type in (2, 6):
        assert np.array_equal(np.moveaxis(array, 0, -1), samples[..., :3])
    for height, width in [*LIES, (HEIGHT + 1, WIDTH), (HEIGHT, WIDTH + 8)]:
        lie = png(
            samples, bits, colour_type, interlaced=interlaced, more=more, height=height, width=width
        )
        assert "cut short" in refusal(tmp_path, lie)
    for height, width in ((HEIGHT - 1, WIDTH), (HEIGHT, WIDTH - 8)):
        lie = png(
            samples, bits, colour_type, interlaced=interlaced, more=more, height=height, width=width
        )
        assert "more pixels" in refusal(tmp_path, lie)
    ends = png(samples, bits, colour_type, interlaced=interlaced, more=more, rows=20)
    assert "cut short" in refusal(tmp_path, ends)


@pytest.mark.parametrize("filtered", [0, 1, 2, 3, 4])
def test_deep_colours_of_every_filter(tmp_path: Path, filtered: int) -> None:
    """The five filters of PNG, undone for samples of 16 bits one byte plane at a time."""
    values = RNG.integers(0, 2**16, (12, 9, 3)).astype(">u2")
    rows = np.frombuffer(values.tobytes(), np.uint8).reshape(12, -1).astype(int)
    left, above = np.zeros_like(rows), np.zeros_like(rows)
    left[:, 6:], above[1:] = rows[:, :-6], rows[:-1]
    corner = np.zeros_like(rows)
    corner[1:, 6:] = rows[:-1, :-6]
    guess = left + above - corner
    distances = np.stack([abs(guess - left), abs(guess - above), abs(guess - corner)])
    paeth = np.choose(distances.argmin(axis=0), [left, above, corner])
    predicted = [0 * rows, left, above, (left + above) // 2, paeth][filtered]
    data = b"".join(
        bytes([filtered]) + line.astype(np.uint8).tobytes() for line in (rows - predicted) % 256
    )
    header = struct.pack(">IIBBBBB", 9, 12, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data))
    array = read(tmp_path, content + chunk(b"IEND", b""))
    assert np.array_equal(np.moveaxis(array, 0, -1), values)


def test_png_checksums_bombs_and_texts(tmp_path: Path) -> None:
    good = png(NOISE, 8, 0)
    at = good.index(b"IDAT") + 20
    assert "checksum" in refusal(tmp_path, good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    assert "end is missing" in refusal(tmp_path, good[:-12])
    text = zlib.compress(bytes(10**7))  # 10 MB of text in 10 kB
    texts = b"".join(chunk(b"zTXt", b"a\0\0" + text) for _ in range(20))
    assert np.array_equal(read(tmp_path, png(NOISE, 8, 0, more=texts)), NOISE)
    profile = chunk(b"iCCP", b"a\0\0" + text)
    assert np.array_equal(read(tmp_path, png(NOISE, 8, 0, more=profile)), NOISE)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", text) + chunk(b"IEND", b"")
    )
    assert "more pixels" in refusal(tmp_path, bomb)
    assert "palette is missing" in refusal(tmp_path, png(NOISE, 8, 3))
    assert "animation" in refusal(
        tmp_path, png(NOISE, 8, 0, more=chunk(b"acTL", struct.pack(">II", 3, 0)))
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("colour_type", [0, 3])
def test_mask_indices_of_every_depth(tmp_path: Path, bits: int, colour_type: int) -> None:
    mask = NOISE % min(2**bits, 9)
    more = PALETTE if colour_type else b""
    (tmp_path / "a.png").write_bytes(png(mask, bits, colour_type, more=more))
    assert np.array_equal(read_mask(tmp_path / "a.png"), mask)


# --- BMP ----------------------------------------------------------------------------------------


def rle(rows: np.ndarray, *, four: bool = False, absolute: bool = False) -> bytes:
    """Return the runs of RLE8 or RLE4, one pixel at a time or as they are."""
    runs = b""
    for row in rows[::-1]:
        if absolute:
            values = row.tolist()
            if four:
                body = bytes(a << 4 | b for a, b in zip(values[::2], values[1::2], strict=True))
            else:
                body = bytes(values)
            runs += bytes([0, len(values)]) + body + bytes(len(body) % 2)
        else:
            runs += b"".join(bytes([1, v * 17 if four else v]) for v in row.tolist())
        runs += b"\0\0"
    return runs + b"\0\1"


def bmp(runs: bytes, height: int = HEIGHT, width: int = WIDTH, *, four: bool = False) -> bytes:
    colours = b"".join(bytes([v, v, v, 0]) for v in range(16 if four else 256))
    start = 54 + len(colours)
    head = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, 4 if four else 8, 2 if four else 1, len(runs), 0, 0,
        len(colours) // 4, 0,
    )  # fmt: skip
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + head + colours + runs


@pytest.mark.parametrize("four", [False, True])
@pytest.mark.parametrize("absolute", [False, True])
def test_runs_of_a_bmp_must_fill_it(tmp_path: Path, four: bool, absolute: bool) -> None:
    picture = NOISE % 16 if four else NOISE
    runs = rle(picture, four=four, absolute=absolute)
    assert np.array_equal(read(tmp_path, bmp(runs, four=four)), picture)
    near = [(HEIGHT + 1, WIDTH), (HEIGHT, WIDTH + 1), (HEIGHT - 1, WIDTH), (HEIGHT, WIDTH - 2)]
    for height, width in [*LIES, *near]:
        assert "cut short" in refusal(tmp_path, bmp(runs, height, width, four=four))
    assert "cut short" in refusal(tmp_path, bmp(runs[:-200], four=four))
    assert "cut short" in refusal(tmp_path, bmp(runs[:-200] + b"\0\1", four=four))
    assert "cut short" in refusal(tmp_path, bmp(b"\0\1", four=four))


def test_a_jump_in_the_runs_is_legal(tmp_path: Path) -> None:
    """Two rows from below: 20 pixels, a jump over 28, and a row of its own."""
    rest = rle(NOISE[:-2])
    runs = bytes([20, 7, 0, 2, WIDTH - 20, 0, 0, 0, WIDTH, 9, 0, 0]) + rest
    array = read(tmp_path, bmp(runs))
    assert array[-1].tolist() == [7] * 20 + [0] * (WIDTH - 20)
    assert (array[-2] == 9).all()
    assert np.array_equal(array[:-2], NOISE[:-2])


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_plain_bmp_with_fewer_rows_than_it_says(tmp_path: Path, mode: str) -> None:
    content = saved(NOISE, "BMP", mode)
    read(tmp_path, content)
    for height, width in [*LIES, (-HEIGHT * 2, WIDTH)]:
        assert "cut short" in refusal(
            tmp_path, content[:18] + struct.pack("<ii", width, height) + content[26:]
        )
    assert "cut short" in refusal(tmp_path, content[:-1])
    lie = content[:18] + struct.pack("<ii", WIDTH, HEIGHT // 2) + content[26:]
    assert "more pixels" in refusal(tmp_path, lie)


# --- JPEG, GIF, WebP, AVIF, NumPy ----------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_of_another_size(tmp_path: Path, mode: str, progressive: bool) -> None:
    content = saved(NOISE, "JPEG", mode, progressive=progressive)
    read(tmp_path, content)
    at = content.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    for height, width in LIES:
        lie = content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]
        assert "cut short" in refusal(tmp_path, lie)
    if not progressive:
        lie = content[:at] + struct.pack(">HH", 16, WIDTH) + content[at + 4 :]
        assert "more pixels" in refusal(tmp_path, lie)


def test_gif_of_another_size(tmp_path: Path) -> None:
    content = saved(NOISE, "GIF")
    assert np.array_equal(read(tmp_path, content), NOISE)
    at = content.index(b"\x2c", 13 + 768) + 5
    for height, width in [*LIES, (HEIGHT + 1, WIDTH)]:
        size = struct.pack("<HH", width, height)
        both = content[:6] + size + content[10:at] + size + content[at + 4 :]
        assert "cut short" in refusal(tmp_path, both)
        assert "in a frame of" in refusal(tmp_path, content[:6] + size + content[10:])
    small = struct.pack("<HH", WIDTH, HEIGHT // 2)
    lie = content[:6] + small + content[10:at] + small + content[at + 4 :]
    assert "more pixels" in refusal(tmp_path, lie)
    frames = [Image.fromarray(NOISE), Image.fromarray(NOISE.T.reshape(HEIGHT, WIDTH))]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    assert "animation of 2 pictures" in refusal(tmp_path, stream.getvalue())


@pytest.mark.parametrize("colours", [2, 5, 16, 256])
@pytest.mark.parametrize("shape", [(8, 9), (64, 80), (300, 200)])
def test_pixels_of_gif_codes_are_counted(colours: int, shape: tuple[int, int]) -> None:
    for picture in (
        RNG.integers(0, colours, shape),
        np.zeros(shape),
        np.indices(shape)[1] % colours,
    ):
        content = saved(picture.astype(np.uint8), "GIF")
        at = content.index(b"\x2c", 13 + 3 * 2 ** ((content[10] & 7) + 1)) + 10
        codes, start = b"", at + 1
        while content[start]:
            codes += content[start + 1 : start + 1 + content[start]]
            start += 1 + content[start]
        assert count_pixels(codes, content[at], 10**9) == picture.size
        assert count_pixels(codes[: len(codes) // 2], content[at], 10**9) < picture.size


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_webp_of_another_size(tmp_path: Path, lossless: bool, mode: str) -> None:
    content = saved(NOISE, "WEBP", mode, lossless=lossless)
    array = read(tmp_path, content)
    assert array.shape[-2:] == (HEIGHT, WIDTH)
    assert not lossless or np.array_equal(array, NOISE)
    for height, width in [*LIES, (HEIGHT // 2, WIDTH), (HEIGHT, WIDTH // 2)]:
        assert refusal(tmp_path, resized_webp(content, height, width))
    assert "cut short" in refusal(tmp_path, content[:-20])
    frames = [Image.fromarray(NOISE), Image.fromarray(255 - NOISE)]
    stream = io.BytesIO()
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:])
    assert "animation" in refusal(tmp_path, stream.getvalue())


def resized_webp(content: bytes, height: int, width: int) -> bytes:
    data, at = bytearray(content), 12
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind == b"VP8X":
            data[at + 12 : at + 15] = (width - 1).to_bytes(3, "little")
            data[at + 15 : at + 18] = (height - 1).to_bytes(3, "little")
        elif kind == b"VP8 ":
            data[at + 14 : at + 18] = struct.pack("<HH", width, height)
        elif kind == b"VP8L":
            (packed,) = struct.unpack_from("<I", data, at + 9)
            packed = packed >> 28 << 28 | (height - 1) << 14 | (width - 1)
            struct.pack_into("<I", data, at + 9, packed)
        at += 8 + size + size % 2
    return bytes(data)


def test_truthful_webp_of_many_kinds_is_read(tmp_path: Path) -> None:
    """The test by which lies are found must not refuse the truth: blank, flat, fine, tiny."""
    for number in range(60):
        rng = np.random.default_rng(number)
        height, width = rng.integers(8, 90, 2)
        row, column = np.indices((height, width))
        noise = rng.integers(0, 256, (height, width))
        fine = np.where((row // 5 + column // 7) % 2, 220, 12)
        picture = [noise, 0 * row + 200, row * 2 + column, fine][number % 4].astype(np.uint8)
        options = {"lossless": True} if number % 3 == 0 else {"quality": int(rng.integers(0, 101))}
        content = saved(picture, "WEBP", method=int(rng.integers(0, 7)), **options)
        assert read(tmp_path, content).shape[-2:] == (height, width)


def test_avif_of_another_size(tmp_path: Path) -> None:
    for mode in ("L", "RGB", "RGBA"):
        content = saved(NOISE, "AVIF", mode, speed=10)
        assert read(tmp_path, content).shape[-2:] == (HEIGHT, WIDTH)
        for height, width in [*LIES, (HEIGHT + 1, WIDTH), (HEIGHT // 2, WIDTH)]:
            lie = content.replace(
                b"ispe" + bytes(4) + struct.pack(">II", WIDTH, HEIGHT),
                b"ispe" + bytes(4) + struct.pack(">II", width, height),
            )
            assert "but holds 40×48" in refusal(tmp_path, lie)
        assert "cut short" in refusal(tmp_path, content[:-50])


def test_arrays_of_another_shape(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, NOISE)
    content = stream.getvalue()
    assert np.array_equal(read(tmp_path, content), NOISE)
    for shape in ("(80, 48)", "(40, 96)"):
        assert "cut short" in refusal(tmp_path, content.replace(b"(40, 48)", shape.encode()))
    assert "more pixels" in refusal(tmp_path, content.replace(b"(40, 48)", b"(20, 48)"))


def test_no_reader_lets_pillow_fill_what_is_missing() -> None:
    """Nothing that we import switches that on."""
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_lies_are_errors_even_if_somebody_switches_it_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for format in ("PNG", "GIF", "BMP", "TIFF", "JPEG", "WEBP", "AVIF"):
        content = saved(NOISE, format)
        assert read(tmp_path, content).shape[-2:] == (HEIGHT, WIDTH)
        refusal(tmp_path, content[: len(content) * 2 // 3])
