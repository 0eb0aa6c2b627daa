"""Every registered reader, and what a user can do to a file."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from octoscope.errors import OctoscopeError, ScanError
from octoscope.scans.readers import (
    IMAGE_SUFFIXES,
    READERS,
    read_mask,
    read_scan,
    reader,
    to_grey,
    to_uint8,
)
from octoscope.scans.readers.registry import Source, reader_for
from octoscope.scans.scan import Scan


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A grey image without sharp edges, which JPEG keeps nearly."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:height, :width]
    phase = rng.uniform(0, 6, 2)
    wave = np.sin(row / 7 + phase[0]) + np.cos(column / 9 + phase[1])
    return np.rint(127 + 60 * wave).astype(np.uint8)


def with_pillow(format: str) -> Callable[[Path, np.ndarray], None]:
    def write(path: Path, array: np.ndarray) -> None:
        pages = [Image.fromarray(page) for page in (array if array.ndim == 3 else [array])]
        more = {"save_all": True, "append_images": pages[1:]} if len(pages) > 1 else {}
        quality = {
            "JPEG": {"quality": 95},
            "WEBP": {"lossless": True},
            "AVIF": {"quality": 100, "subsampling": "4:4:4", "speed": 10},
        }.get(format, {})
        pages[0].save(path, format, **more, **quality)

    return write


# One writer per registered reader, what it can hold without loss, and whether JPEG-like losses
# are allowed. A reader without a line here fails the common test.
WRITERS = {
    "png": (with_pillow("PNG"), ("uint8", "uint16"), (2,)),
    "jpeg": (with_pillow("JPEG"), ("uint8",), (2,)),
    "bmp": (with_pillow("BMP"), ("uint8",), (2,)),
    "tiff": (with_pillow("TIFF"), ("uint8", "uint16", "float32"), (2, 3)),
    "npy": (np.save, ("uint8", "uint16", "int32", "float32"), (2, 3)),
    "gif": (with_pillow("GIF"), ("uint8",), (2,)),
    "webp": (with_pillow("WEBP"), ("uint8",), (2,)),
    "avif": (with_pillow("AVIF"), ("uint8",), (2,)),
}
LOSSY = {"jpeg": 3, "avif": 2}
CASES = [
    (name, dtype, ndim)
    for name in READERS
    for dtype in WRITERS.get(name, (None, ("missing",), (0,)))[1]
    for ndim in WRITERS.get(name, (None, ("missing",), (0,)))[2]
]


@pytest.mark.parametrize(("name", "dtype", "ndim"), CASES)
def test_every_reader_gives_back_what_was_written(
    tmp_path: Path, name: str, dtype: str, ndim: int
) -> None:
    assert name in WRITERS, f"add a writer of {name} to WRITERS, so that its reader is tested"
    write = WRITERS[name][0]
    array = np.stack([smooth(31, 45, seed) for seed in range(4)]) if ndim == 3 else smooth(31, 45)
    array = (array.astype(np.float64) * (200 if dtype == "uint16" else 1)).astype(dtype)
    for suffix in READERS[name].suffixes:
        path = tmp_path / f"scan{suffix}"
        write(path, array)
        scan = read_scan(path)
        assert scan.array.shape == array.shape
        assert scan.array.dtype == array.dtype
        assert np.abs(scan.array.astype(float) - array).max() <= LOSSY.get(name, 0)
        assert (scan.format, scan.source, scan.channels) == (name, path, 0)
        assert scan.spatial_shape == array.shape
        assert path.name.lower().endswith(IMAGE_SUFFIXES)


@pytest.mark.parametrize("name", list(READERS))
@pytest.mark.parametrize("wrong", [".png", ".jpeg", ".npy", ".tif", ".bmp"])
def test_content_decides_when_the_suffix_is_wrong(tmp_path: Path, name: str, wrong: str) -> None:
    write = WRITERS[name][0]
    path = tmp_path / f"scan{READERS[name].suffixes[0]}"
    write(path, smooth(20, 20))
    renamed = path.rename(tmp_path / f"renamed{wrong}")
    scan = read_scan(renamed)
    assert scan.format == name
    assert np.abs(scan.array.astype(int) - smooth(20, 20)).max() <= LOSSY.get(name, 0)


# --- colour -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA"])
def test_grey_in_colour_clothes_is_grey(tmp_path: Path, mode: str) -> None:
    grey = smooth(24, 30)
    Image.fromarray(grey).convert(mode).save(tmp_path / "a.png")
    scan = read_scan(tmp_path / "a.png")
    assert scan.channels == 0
    assert np.array_equal(scan.array, grey)


def test_colour_jpeg_of_a_grey_scan_is_grey(tmp_path: Path) -> None:
    grey = smooth(40, 56)
    Image.fromarray(grey).convert("RGB").save(tmp_path / "a.jpeg", quality=95)
    scan = read_scan(tmp_path / "a.jpeg")
    assert scan.channels == 0
    assert np.abs(scan.array.astype(int) - grey).max() <= 3


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".npy"])
def test_colour_stays_and_has_a_luminance(tmp_path: Path, suffix: str) -> None:
    colour = np.stack([smooth(24, 30, seed) for seed in range(3)], axis=-1)
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, colour)
    else:
        Image.fromarray(colour).save(path)
    scan = read_scan(path)
    assert scan.channels == 3
    assert scan.array.shape == (3, 24, 30)
    assert scan.spatial_shape == (24, 30)
    assert np.array_equal(scan.array, np.moveaxis(colour, -1, 0))
    luminance = np.asarray(Image.fromarray(colour).convert("L")).astype(int)
    assert np.abs(to_grey(scan).astype(int) - luminance).max() <= 1  # Pillow truncates
    assert np.array_equal(read_scan(path, grey=True).array, to_grey(scan))


def test_luminance_of_a_colour_jpeg_is_its_luminance_channel(tmp_path: Path) -> None:
    colour = np.stack([smooth(48, 64, seed) for seed in range(3)], axis=-1)
    path = tmp_path / "a.jpeg"
    Image.fromarray(colour).save(path, quality=95, subsampling=0)
    oracle = np.asarray(Image.open(path).convert("L")).astype(int)
    fast = read_scan(path, grey=True)
    assert fast.channels == 0
    assert np.abs(fast.array.astype(int) - oracle).max() <= 2


def test_a_cmyk_jpeg_which_the_fast_path_declines_is_read(tmp_path: Path) -> None:
    Image.fromarray(smooth(32, 32)).convert("RGB").convert("CMYK").save(tmp_path / "a.jpg")
    assert read_scan(tmp_path / "a.jpg").spatial_shape == (32, 32)


def test_sixteen_bits_of_either_byte_order_and_compression(tmp_path: Path) -> None:
    array = smooth(20, 33).astype(np.uint16) * 200
    Image.fromarray(array).save(tmp_path / "deflate.tif", compression="tiff_adobe_deflate")
    Image.fromarray(smooth(20, 33)).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    big = struct.pack(">2sHI", b"MM", 42, 8)
    tags = [
        (256, 3, 33 << 16),  # width
        (257, 3, 20 << 16),
        (258, 3, 16 << 16),  # bits
        (259, 3, 1 << 16),
        (262, 3, 1 << 16),  # black is zero
        (273, 4, 8 + 2 + 8 * 12 + 4),  # offset of the strip
        (278, 3, 20 << 16),
        (279, 4, 20 * 33 * 2),
    ]
    directory = struct.pack(">H", len(tags))
    directory += b"".join(struct.pack(">HHII", tag, kind, 1, value) for tag, kind, value in tags)
    content = big + directory + struct.pack(">I", 0) + array.astype(">u2").tobytes()
    (tmp_path / "big.tif").write_bytes(content)
    assert np.array_equal(read_scan(tmp_path / "deflate.tif").array, array)
    assert np.array_equal(read_scan(tmp_path / "lzw.tif").array, smooth(20, 33))
    back = read_scan(tmp_path / "big.tif").array
    assert np.array_equal(back, array)
    assert back.dtype.isnative


# --- what is not an image -----------------------------------------------------------------------


def sentence_of(path: Path, **options: int) -> str:
    with pytest.raises(ScanError) as caught:
        read_scan(path, **options)
    assert isinstance(caught.value, OctoscopeError)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith(caught.value.reason)
    assert "\n" not in message
    return caught.value.reason


def test_what_is_no_image_is_named_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.jpeg").write_text("Dear colleague, here is the scan you asked for.")
    assert "is not an image but text" in sentence_of(tmp_path / "text.jpeg")
    (tmp_path / "noise.png").write_bytes(bytes(range(128, 256)) * 4)
    assert "known format" in sentence_of(tmp_path / "noise.png")
    (tmp_path / "empty.png").touch()
    assert "0 bytes" in sentence_of(tmp_path / "empty.png")
    (tmp_path / "folder.png").mkdir()
    assert "is a folder" in sentence_of(tmp_path / "folder.png")
    assert "no such file" in sentence_of(tmp_path / "absent.png")
    (tmp_path / "broken.png").symlink_to(tmp_path / "absent.png")
    assert "no such file" in sentence_of(tmp_path / "broken.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert "cannot be opened" in sentence_of(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert "pipe" in sentence_of(tmp_path / "pipe.png")
    assert "cannot be opened" in sentence_of(Path("bad\0name.png"))


@pytest.mark.parametrize("name", list(READERS))
def test_tiny_images_are_told_with_their_size(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"a{READERS[name].suffixes[0]}"
    WRITERS[name][0](path, np.zeros((1, 1), np.uint8))
    assert "is 1×1 pixels" in sentence_of(path)
    WRITERS[name][0](path, np.zeros((8, 7), np.uint8))
    assert "is 8×7 pixels" in sentence_of(path)
    WRITERS[name][0](path, np.zeros((8, 8), np.uint8))
    assert read_scan(path).array.shape == (8, 8)


def huge_png(side: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)


@pytest.mark.parametrize("name", list(READERS))
def test_size_is_capped_from_the_header(tmp_path: Path, name: str) -> None:
    """The pixels are missing, so an error about them would mean that decoding was tried."""
    path = tmp_path / f"a{READERS[name].suffixes[0]}"
    if name == "png":
        path.write_bytes(huge_png(20_000))
    else:
        small = io.BytesIO()
        array = np.zeros((200, 200), np.uint8)
        if name == "npy":
            np.lib.format.write_array_header_1_0(
                small, {"descr": "|u1", "fortran_order": False, "shape": (20_000, 20_000)}
            )
        else:
            Image.fromarray(array).save(small, name.upper())
        content = small.getvalue()
        if name == "bmp":
            content = content[:18] + struct.pack("<ii", 20_000, 20_000) + content[26:]
        if name == "tiff":
            for tag in (256, 257):
                at = content.index(struct.pack("<HHI", tag, 4, 1)) + 8
                content = content[:at] + struct.pack("<I", 20_000) + content[at + 4 :]
        if name == "jpeg":
            at = content.index(b"\xff\xc0") + 5
            content = content[:at] + struct.pack(">HH", 20_000, 20_000) + content[at + 4 :]
        if name == "gif":
            content = content[:6] + struct.pack("<HH", 20_000, 20_000) + content[10:]
        if name == "webp":  # a lossy frame, which has 14 bits for a side
            content = b"RIFF" + struct.pack("<I", 40) + b"WEBPVP8X" + struct.pack("<I", 10)
            content += bytes(4) + (19_999).to_bytes(3, "little") * 2 + bytes(18)
        if name == "avif":
            at = content.index(b"ispe") + 8
            content = content[:at] + struct.pack(">II", 20_000, 20_000) + content[at + 8 :]
        path.write_bytes(content)
    reason = sentence_of(path)
    assert "20000×20000" in reason
    assert "limit" in reason


def test_caps_can_be_raised_and_lowered(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((40, 50, 60), np.uint8))
    assert read_scan(tmp_path / "a.npy", max_pixels=3000).array.shape == (40, 50, 60)
    assert "50×60" in sentence_of(tmp_path / "a.npy", max_pixels=2999)
    assert "max_bytes" in sentence_of(tmp_path / "a.npy", max_bytes=100_000)
    with_pillow("TIFF")(tmp_path / "a.tif", np.zeros((40, 50, 60), np.uint8))
    assert "max_bytes" in sentence_of(tmp_path / "a.tif", max_bytes=200_000)


@pytest.mark.parametrize("name", list(READERS))
@pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.9, 0.98])
def test_truncated_files_are_errors_not_half_images(tmp_path: Path, name: str, kept: float) -> None:
    path = tmp_path / f"a{READERS[name].suffixes[0]}"
    noise = np.random.default_rng(3).integers(0, 255, (64, 96), dtype=np.uint8)
    WRITERS[name][0](path, noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    reason = sentence_of(path)
    assert "cut short" in reason or "not an image" in reason


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_anywhere_in_its_pixels_is_an_error(
    tmp_path: Path, mode: str, progressive: bool
) -> None:
    path = tmp_path / "a.jpeg"
    noise = np.random.default_rng(4).integers(0, 255, (64, 96), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path, progressive=progressive)
    content = path.read_bytes()
    for end in range(content.index(b"\xff\xda") + 4, len(content) - 2, 37):
        path.write_bytes(content[:end])
        assert "cut short" in sentence_of(path)
        # The same with the rest of the file zero, as an interrupted download leaves it: Pillow
        # alone would return an image that is grey from there on.
        path.write_bytes(content[:end] + bytes(len(content) - end))
        assert "cut short" in sentence_of(path)


def test_a_smaller_copy_of_a_jpeg_is_as_strict(tmp_path: Path) -> None:
    path = tmp_path / "a.jpeg"
    with_pillow("JPEG")(path, smooth(64, 96))
    scan = read_scan(path, reduce=lambda height, width: 2)
    assert (scan.array.shape, scan.reduced) == ((32, 48), 2)
    blocks = smooth(64, 96).reshape(32, 2, 48, 2).mean(axis=(1, 3))
    assert np.abs(scan.array - blocks).max() < 4
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(ScanError, match="cut short"):
        read_scan(path, reduce=lambda height, width: 2)


def test_harmless_jpeg_oddities_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jpeg"
    with_pillow("JPEG")(path, smooth(32, 40))
    whole = read_scan(path).array
    content = path.read_bytes()
    path.write_bytes(content + b"appended by a camera")
    assert np.array_equal(read_scan(path).array, whole)
    path.write_bytes(content[:-2] + b"\0\0\0" + content[-2:])  # extraneous bytes before EOI
    assert np.array_equal(read_scan(path).array, whole)


@pytest.mark.parametrize("shape", [(64,), (2, 2, 64, 64), (0, 64, 64), (64, 64, 2)])
def test_arrays_that_are_no_image(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    assert "shape" in (reason := sentence_of(tmp_path / "a.npy")) or "pixels" in reason


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[object()]] * 10), allow_pickle=True)
    assert "instead of numbers" in sentence_of(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.zeros((16, 16), complex))
    assert "instead of numbers" in sentence_of(tmp_path / "b.npy")


def test_pages_of_different_size_or_kind(tmp_path: Path) -> None:
    first = Image.fromarray(smooth(20, 20))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[Image.fromarray(smooth(20, 30))])
    assert "page 2 of 2 is 20×30" in sentence_of(tmp_path / "a.tif")
    first.save(tmp_path / "b.tif", save_all=True, append_images=[first.convert("RGB")])
    assert "another kind" in sentence_of(tmp_path / "b.tif")


# --- mutations ----------------------------------------------------------------------------------


def valid_files() -> list[tuple[str, bytes]]:
    files = []
    grey, colour = smooth(24, 40), np.stack([smooth(24, 40, s) for s in range(3)], axis=-1)
    for name in ("png", "bmp", "tiff", "jpeg", "gif", "webp", "avif"):
        for image in (Image.fromarray(grey), Image.fromarray(colour)):
            stream = io.BytesIO()
            image.save(stream, name.upper())
            files.append((READERS[name].suffixes[0], stream.getvalue()))
    stream = io.BytesIO()
    pages = [Image.fromarray(grey.astype(np.uint16) * 99)] * 3
    pages[0].save(
        stream, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_adobe_deflate"
    )
    files.append((".tif", stream.getvalue()))
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "JPEG", progressive=True)
    files.append((".jpg", stream.getvalue()))
    stream = io.BytesIO()
    Image.fromarray(grey).convert("P").save(stream, "PNG")
    files.append((".png", stream.getvalue()))
    for array in (grey, np.stack([grey] * 3).astype(np.float32)):
        stream = io.BytesIO()
        np.save(stream, array)
        files.append((".npy", stream.getvalue()))
    return files


VALID = valid_files()


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """A valid file with bytes changed (mostly in its header), removed or doubled."""
    suffix, valid = draw(st.sampled_from(VALID))
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 6))):
        near = draw(st.sampled_from([64, 256, len(content)]))
        at = draw(st.integers(0, max(0, min(near, len(content)) - 1)))
        kind = draw(st.sampled_from(["set", "set", "set", "cut", "drop", "double"]))
        if kind == "set":
            new = draw(st.binary(min_size=1, max_size=4))
            content[at : at + len(new)] = new
        elif kind == "cut":
            del content[at:]
        elif kind == "drop":
            del content[at : at + draw(st.integers(1, 16))]
        else:
            content[at:at] = content[at : at + draw(st.integers(1, 16))]
    return suffix, bytes(content)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=mutated(), as_mask=st.booleans())
@pytest.mark.filterwarnings("ignore")
def test_a_mutated_file_reads_or_raises_scan_error(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[str, bytes], as_mask: bool
) -> None:
    suffix, content = case
    path = tmp_path_factory.getbasetemp() / f"mutated{suffix}"
    path.write_bytes(content)
    try:
        if as_mask:
            mask = read_mask(path, max_pixels=10**6, max_bytes=2**24)
            assert mask.ndim == 2
            assert mask.dtype == np.uint8
        else:
            scan = read_scan(path, max_pixels=10**6, max_bytes=2**24)
            assert min(scan.spatial_shape[-2:]) >= 8
            assert to_uint8(scan.array).shape == scan.array.shape
    except ScanError as error:
        assert str(error).startswith(str(path))
        assert "\n" not in str(error)


# --- masks --------------------------------------------------------------------------------------


def test_masks_keep_their_indices(tmp_path: Path) -> None:
    mask = np.zeros((16, 20), np.uint8)
    mask[4:9, 3:12] = 3
    mask[10:, 15:] = 8
    Image.fromarray(mask).save(tmp_path / "grey.png")
    palette = Image.fromarray(mask).convert("P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255] * 80)
    palette.save(tmp_path / "palette.png")
    np.save(tmp_path / "array.npy", mask.astype(np.int64))
    Image.fromarray(mask).save(tmp_path / "grey.bmp")
    Image.fromarray(mask.astype(np.uint16)).save(tmp_path / "grey16.tif")
    for name in ("grey.png", "palette.png", "array.npy", "grey.bmp", "grey16.tif"):
        got = read_mask(tmp_path / name)
        assert np.array_equal(got, mask), name
        assert got.dtype == np.uint8
    Image.fromarray(mask > 0).save(tmp_path / "bits.png")
    np.save(tmp_path / "bits.npy", mask > 0)
    for name in ("bits.png", "bits.npy"):
        assert np.array_equal(read_mask(tmp_path / name), (mask > 0).astype(np.uint8))


def test_what_is_no_mask(tmp_path: Path) -> None:
    colour = np.zeros((16, 16, 3), np.uint8)
    colour[3:, :, 0] = 200
    Image.fromarray(colour).save(tmp_path / "colour.png")
    Image.fromarray(smooth(16, 16)).save(tmp_path / "lossy.jpg")
    Image.fromarray(smooth(16, 16)).save(tmp_path / "lossy.tif", compression="jpeg")
    for suffix in ("webp", "avif", "gif"):
        Image.fromarray(smooth(16, 16) // 50).save(tmp_path / f"mask.{suffix}")
    np.save(tmp_path / "fractions.npy", np.ones((16, 16)))
    np.save(tmp_path / "negative.npy", np.full((16, 16), -1))
    np.save(tmp_path / "pages.npy", np.zeros((4, 16, 16), np.uint8))
    for name, word in {
        "colour.png": "colours",
        "lossy.jpg": "JPEG",
        "lossy.tif": "JPEG",
        "mask.webp": "WEBP",
        "mask.avif": "AVIF",
        "mask.gif": "GIF, which numbers its colours",
        "fractions.npy": "indices",
        "negative.npy": "indices",
        "pages.npy": "4 pages",
    }.items():
        with pytest.raises(ScanError, match=word):
            read_mask(tmp_path / name)


# --- grey levels --------------------------------------------------------------------------------


def test_to_uint8_keeps_known_ranges() -> None:
    assert to_uint8(np.array([0, 7, 255], np.uint8)).tolist() == [0, 7, 255]
    assert to_uint8(np.array([0, 65535, 257], np.uint16)).tolist() == [0, 255, 1]
    assert to_uint8(np.array([0, 4095], np.uint16)).tolist() == [0, 255]
    assert to_uint8(np.array([0, 200], np.uint16)).tolist() == [0, 200]
    assert to_uint8(np.array([0, 200], np.int64)).tolist() == [0, 200]
    assert to_uint8(np.array([False, True])).tolist() == [0, 255]
    assert to_uint8(np.array([0.0, 0.5, 1.0], np.float32)).tolist() == [0, 128, 255]
    assert to_uint8(np.array([0.0, 99.6, 254.0], np.float32)).tolist() == [0, 100, 254]


def test_to_uint8_of_an_unknown_range_is_robust() -> None:
    values = np.linspace(-50, 3000, 10_001)
    values[[17, 5000]] = [1e9, np.nan]
    got = to_uint8(values)
    assert got[0] == 0
    assert got[-1] == 255
    assert got[5000] == 0
    assert abs(int(got[5001]) - 127) <= 2  # one wild value moves nothing
    assert to_uint8(np.full((4, 4), np.nan)).tolist() == [[0] * 4] * 4
    assert to_uint8(np.full((4, 4), -3.0)).tolist() == [[0] * 4] * 4


# --- the registry -------------------------------------------------------------------------------


def test_later_formats_plug_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A signature behind a preamble as in DICOM, and a format known by suffix only."""
    monkeypatch.setattr("octoscope.scans.readers.registry.READERS", dict(READERS))

    @reader("preamble", suffixes=(".pre",), signature=b"DICM", offset=128)
    def read_preamble(source: Source) -> Scan:
        return Scan(np.zeros((8, 8), np.uint8), source.path, "preamble", patient="p")

    @reader("bare", suffixes=(".bare", ".bare.gz"))
    def read_bare(source: Source) -> Scan:
        return Scan(np.zeros((9, 9), np.uint8), source.path, "bare")

    (tmp_path / "a.anything").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "b.BARE.gz").write_bytes(b"\x1f\x8bxyz")
    assert read_scan(tmp_path / "a.anything").patient == "p"
    assert read_scan(tmp_path / "b.BARE.gz").format == "bare"
    assert reader_for("c.gz", b"\x1f\x8bxyz") is None


def test_registry_is_sound() -> None:
    suffixes = [suffix for known in READERS.values() for suffix in known.suffixes]
    assert len(suffixes) == len(set(suffixes)) == len(IMAGE_SUFFIXES)
    assert all(s.startswith(".") and s == s.lower() for s in suffixes)


# --- real scans ---------------------------------------------------------------------------------


def test_real_files_are_read(real_data: Path) -> None:
    volume = read_scan(real_data / "volumes" / "macular-hole" / "mh.tif")
    assert volume.array.shape == (49, 200, 200)
    image = next((real_data / "kermany-lesions" / "images" / "val").rglob("*.jpeg"))
    scan = read_scan(image)
    assert scan.channels == 0  # stored as colour
    relative = image.relative_to(real_data / "kermany-lesions" / "images").with_suffix(".png")
    mask = read_mask(real_data / "kermany-lesions" / "masks" / relative)
    assert mask.shape == scan.array.shape
    assert set(np.unique(mask)) <= set(range(9))
    assert np.array_equal(scan.array, np.asarray(Image.open(image).convert("L")))
