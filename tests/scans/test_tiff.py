"""TIFF in its many kinds, with tifffile and plain arrays as oracles."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from octoscope.errors import ScanError
from octoscope.scans.readers import read_mask, read_scan
from octoscope.scans.readers.tiff_pages import MAX_PAGES

RNG = np.random.default_rng(5)
GREY = RNG.integers(0, 256, (40, 50), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)


def refusal(path: Path, **options: int) -> str:
    with pytest.raises(ScanError) as caught:
        read_scan(path, **options)
    assert "\n" not in caught.value.reason
    return caught.value.reason


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    "dtype",
    ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"],
)
def test_every_type_of_number_in_strips_and_tiles(
    tmp_path: Path, dtype: str, order: str, big: bool
) -> None:
    array = (RNG.integers(0, 2**15, (40, 50)) - (99 if dtype[0] == "i" else 0)).astype(dtype)
    if dtype == "uint32":
        array = array + np.uint32(2**31)
    for more in ({}, {"rowsperstrip": 7}, {"tile": (16, 32)}, {"compression": "zlib"}):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, array, byteorder=order, bigtiff=big, **more)
        scan = read_scan(path)
        expected = array.astype(np.float32) if dtype[0] == "f" else array
        assert scan.array.dtype == expected.dtype, (dtype, more)
        assert np.array_equal(scan.array, expected), (dtype, more)
        assert scan.channels == 0


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_colours_of_every_depth(tmp_path: Path, dtype: str, order: str) -> None:
    colour = COLOUR.astype(dtype) * (257 if dtype == "uint16" else 1)
    for more in ({}, {"tile": (16, 16)}, {"compression": "zlib"}, {"rowsperstrip": 9}):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, colour, photometric="rgb", byteorder=order, **more)
        scan = read_scan(path)
        assert scan.channels == 3
        assert np.array_equal(np.moveaxis(scan.array, 0, -1), colour), more
    grey = np.repeat(colour[..., :1], 3, axis=-1)
    tifffile.imwrite(path, grey, photometric="rgb", byteorder=order)
    assert np.array_equal(read_scan(path).array, grey[..., 0])  # all 16 bits of it


def test_differences_of_deep_colours_are_undone(tmp_path: Path) -> None:
    colour = COLOUR.astype(np.uint16) * 257
    path = tmp_path / "a.tif"
    for tile in (None, (16, 16)):
        tifffile.imwrite(
            path, colour, photometric="rgb", compression="zlib", predictor=True, tile=tile
        )
        assert np.array_equal(tifffile.imread(path), colour)
        assert np.array_equal(np.moveaxis(read_scan(path).array, 0, -1), colour)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_same_picture_with_white_or_black_as_zero(tmp_path: Path, bits: int) -> None:
    top = 2**bits - 1
    values = (np.arange(40 * 48).reshape(40, 48) * 7 % (top + 1)).astype(np.uint16)
    for photometric in (0, 1):
        stored = values if photometric else top - values
        (tmp_path / f"{photometric}.tif").write_bytes(packed_tiff(stored, bits, photometric))
    black, white = (read_scan(tmp_path / f"{p}.tif").array for p in (1, 0))
    assert np.array_equal(black, white)
    assert np.array_equal(black, values * (255 // top) if bits < 8 else values)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("photometric", [0, 1])
def test_masks_are_the_numbers_that_are_stored(tmp_path: Path, bits: int, photometric: int) -> None:
    stored = (np.arange(40 * 48).reshape(40, 48) % min(2**bits, 9)).astype(np.uint16)
    (tmp_path / "a.tif").write_bytes(packed_tiff(stored, bits, photometric))
    assert np.array_equal(read_mask(tmp_path / "a.tif"), stored)
    if bits in (1, 8, 16):  # what tifffile decodes without help
        assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), stored)


def test_a_mask_of_yes_and_no_by_tifffile(tmp_path: Path) -> None:
    """tifffile calls white zero for bits, and stores 1 for True all the same."""
    mask = GREY > 128
    tifffile.imwrite(tmp_path / "a.tif", mask)
    assert np.array_equal(read_mask(tmp_path / "a.tif"), mask)


def packed_tiff(values: np.ndarray, bits: int, photometric: int, **tags: int) -> bytes:
    """Return an uncompressed TIFF of `bits` per pixel."""
    if bits == 16:
        data = values.astype("<u2").tobytes()
    else:
        each = (values.astype(np.uint8)[..., None] >> np.arange(bits)[::-1]) & 1
        data = np.packbits(each.reshape(len(values), -1), axis=1).tobytes()
    height, width = values.shape
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1,
               278: height, 279: len(data), **{int(k[1:]): v for k, v in tags.items()}}  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items())
    )
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + bytes(4)


def test_depths_that_are_declared(tmp_path: Path) -> None:
    values = (RNG.integers(0, 4096, (24, 32))).astype(np.uint16)
    (tmp_path / "a.tif").write_bytes(packed_tiff(values, 16, 1, t281=4095))
    assert read_scan(tmp_path / "a.tif").depth == 12
    (tmp_path / "a.tif").write_bytes(packed_tiff(values, 16, 1, t281=4001))  # what occurs
    assert read_scan(tmp_path / "a.tif").depth is None
    data = values.reshape(-1, 2).astype(np.uint32)  # two values in three bytes
    packed = np.stack([data[:, 0] >> 4, (data[:, 0] & 15) << 4 | data[:, 1] >> 8, data[:, 1] & 255])
    content = packed_tiff(values.astype(np.uint16), 16, 1)
    content = content[:8] + packed.T.astype(np.uint8).tobytes() + content[8 + values.size * 2 :]
    size = values.size * 3 // 2
    content = content.replace(
        struct.pack("<HHII", 258, 4, 1, 16), struct.pack("<HHII", 258, 4, 1, 12)
    )
    content = content.replace(
        struct.pack("<HHII", 279, 4, 1, values.size * 2), struct.pack("<HHII", 279, 4, 1, size)
    )
    content = content[:4] + struct.pack("<I", 8 + size) + content[8:]
    (tmp_path / "b.tif").write_bytes(content)
    scan = read_scan(tmp_path / "b.tif")
    assert np.array_equal(scan.array, values)
    assert scan.depth == 12


@pytest.mark.parametrize(
    "compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd"]
)
@pytest.mark.parametrize("kind", ["taller", "wider", "short", "empty"])
@pytest.mark.parametrize("strips", [False, True])
def test_a_page_with_fewer_pixels_than_it_says(
    tmp_path: Path, compression: str | None, kind: str, strips: bool
) -> None:
    stream = io.BytesIO()
    more = {"tiffinfo": {278: 8}} if strips else {}
    Image.fromarray(GREY).save(stream, "TIFF", compression=compression, **more)
    page = tifffile.TiffFile(io.BytesIO(stream.getvalue())).pages[0]
    path = tmp_path / "a.tif"
    path.write_bytes(stream.getvalue())
    assert np.array_equal(read_scan(path).array, GREY)
    changes = {
        "taller": {256: 50, 257: 80, 278: 80 if not strips else 8},
        "wider": {256: 100},
        "short": {279: max(1, page.databytecounts[0] // 2)},
        "empty": {279: 0},
    }[kind]
    path.write_bytes(with_tags(stream.getvalue(), changes))
    assert "cut short" in refusal(path)


def with_tags(content: bytes, changes: dict[int, int]) -> bytes:
    """Return a little-endian TIFF with the first value of some tags replaced."""
    data = bytearray(content)
    for tag in tifffile.TiffFile(io.BytesIO(content)).pages[0].tags.values():
        if tag.code in changes:
            code = {3: "<H", 4: "<I"}[int(tag.dtype)]
            struct.pack_into(code, data, tag.valueoffset, changes[tag.code])
    return bytes(data)


def test_tiles_that_are_missing_or_enormous(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY, tile=(16, 16))
    content = path.read_bytes()
    path.write_bytes(with_tags(content, {257: 80}))
    assert "12 of the 20 tiles" in refusal(path)
    path.write_bytes(with_tags(content, {324: len(content) - 9}))
    assert "cut short" in refusal(path)
    tifffile.imwrite(path, GREY, tile=(16, 16), compression="zlib")
    path.write_bytes(with_tags(path.read_bytes(), {257: 16, 256: 16, 322: 32000, 323: 32000}))
    assert "far larger than its picture" in refusal(path)


def test_strips_beside_tiles_are_not_what_is_read(tmp_path: Path) -> None:
    """Pillow prefers strips; what was checked are the tiles."""
    path = tmp_path / "a.tif"
    path.write_bytes(packed_tiff(GREY.astype(np.uint16), 8, 1, t322=64, t323=48, t324=8, t325=3072))
    assert "cut short" in refusal(path)
    tile = np.zeros((48, 64), np.uint16)
    tile[:40, :50] = GREY
    content = packed_tiff(tile, 8, 1, t322=64, t323=48, t324=8, t325=3072, t273=2, t279=2)
    path.write_bytes(with_tags(content, {256: 50, 257: 40, 278: 40}))
    assert np.array_equal(read_scan(path).array, GREY)


def test_rows_that_the_header_denies(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for compression in (None, "tiff_adobe_deflate", "packbits"):
        stream = io.BytesIO()
        Image.fromarray(GREY).save(stream, "TIFF", compression=compression)
        path.write_bytes(with_tags(stream.getvalue(), {257: 20}))
        assert "more pixels" in refusal(path)
        path.write_bytes(with_tags(stream.getvalue(), {256: 48}))
        assert "more pixels" in refusal(path)


def test_a_last_strip_that_is_filled_up_is_read(tmp_path: Path) -> None:
    values = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50)
    content = packed_tiff(values, 16, 1)
    at = content.index(struct.pack("<HHI", 273, 4, 1))
    whole = content[:8] + values.tobytes() + bytes(24 * 100)  # strips of 32 rows
    place = len(whole)
    whole += struct.pack("<IIII", 8, 8 + 3200, 3200, 3200)
    directory = content[struct.unpack_from("<I", content, 4)[0] :]
    for tag, value in ((273, place), (279, place + 8)):
        at = directory.index(struct.pack("<HHI", tag, 4, 1))
        directory = directory[:at] + struct.pack("<HHII", tag, 4, 2, value) + directory[at + 12 :]
    at = directory.index(struct.pack("<HHI", 278, 4, 1))
    directory = directory[:at] + struct.pack("<HHII", 278, 4, 1, 32) + directory[at + 12 :]
    path = tmp_path / "a.tif"
    path.write_bytes(whole[:4] + struct.pack("<I", len(whole)) + whole[8:] + directory)
    assert np.array_equal(read_scan(path).array, values)


def test_jpeg_in_tiff_is_as_strict_as_jpeg(tmp_path: Path) -> None:
    for picture in (GREY, COLOUR):
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "TIFF", compression="jpeg")
        path = tmp_path / "a.tif"
        path.write_bytes(stream.getvalue())
        assert read_scan(path).spatial_shape == (40, 50)
        page = tifffile.TiffFile(io.BytesIO(stream.getvalue())).pages[0]
        for changes in (
            {257: 80, 278: 80},
            {256: 100},
            {279: page.databytecounts[0] // 2},
            {257: 20},
        ):
            path.write_bytes(with_tags(stream.getvalue(), changes))
            assert "cut short" in refusal(path)


def test_many_pages_and_circles_are_told_at_once(tmp_path: Path) -> None:
    page = packed_tiff(GREY[:8, :8].astype(np.uint16), 8, 1)
    start = struct.unpack_from("<I", page, 4)[0]
    length = len(page) - start
    pages = MAX_PAGES + 1
    directory = page[start:-4]
    content = page[:start] + b"".join(
        directory + struct.pack("<I", start + length * (i + 1) if i + 1 < pages else 0)
        for i in range(pages)
    )
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    assert f"more than {MAX_PAGES:,} pages" in refusal(path)
    path.write_bytes(content[: start + length * 3 - 4] + struct.pack("<I", start))
    assert "circle" in refusal(path)
    path.write_bytes(content[: start + length * 5 - 4] + bytes(4))
    assert read_scan(path).array.shape == (5, 8, 8)
    assert "MiB decoded" in refusal(path, max_bytes=1000)


def test_small_files_that_point_everywhere_do_not_grow(tmp_path: Path) -> None:
    """One long list of numbers, which every tag of every page points to."""
    wanted = [256, 257, 258, 262, 273, 279, 317, 320, 338, 339, 347]
    values = bytes(400_000)
    start = 8 + len(values)
    size = 2 + 12 * len(wanted) + 4
    content = b"II*\0" + struct.pack("<I", start) + values
    for number in range(500):
        content += struct.pack("<H", len(wanted))
        content += b"".join(struct.pack("<HHII", tag, 4, 100_000, 8) for tag in wanted)
        content += struct.pack("<I", start + size * (number + 1) if number < 499 else 0)
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    assert "overlap" in refusal(path)


def test_deep_colours_beyond_what_pillow_decodes_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octoscope.scans.readers.tiff.MOST_WORDS", 40 * 50 * 3 - 1)
    tifffile.imwrite(tmp_path / "a.tif", COLOUR.astype(np.uint16), photometric="rgb")
    assert "3 × 16 bits, above the limit" in refusal(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.uint16))
    assert read_scan(tmp_path / "a.tif").array.shape == (40, 50)


def test_what_cannot_be_checked_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for compression in ("group3", "group4", "tiff_ccitt"):
        Image.fromarray(GREY > 128).save(path, compression=compression)
        assert "fax" in refusal(path)
    planes = np.moveaxis(COLOUR, -1, 0).astype(np.uint16)
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(ScanError, match="side by side"):
        read_scan(path)
    tifffile.imwrite(path, GREY.astype(np.float32), photometric="miniswhite")
    assert "white as zero" in refusal(path)
    (path).write_bytes(packed_tiff(GREY.astype(np.uint16), 8, 1, t259=9999))
    assert "number 9999" in refusal(path)
