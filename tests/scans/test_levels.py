"""One rule of grey levels per data set: what it is, that no single scan moves it, what it does."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from octoscope.errors import OctoscopeError
from octoscope.scans.framed import read_framed
from octoscope.scans.framing import Framing
from octoscope.scans.levels import (
    DEPTHS,
    GreyRange,
    Levels,
    find_levels_of,
    find_range,
    levels_from,
    to_uint8,
)
from octoscope.scans.ranges import find_levels, grey_range
from octoscope.scans.readers import read_scan

SHAPE = (40, 60)


def scan(seed: int, gain: float = 1.0) -> np.ndarray:
    """A picture of fractions in [0, 1], bright at the top of its range."""
    rng = np.random.default_rng(seed)
    row = np.mgrid[: SHAPE[0], : SHAPE[1]][0]
    picture = 0.15 + 0.8 * np.exp(-(((row - 20) / 6) ** 2)) + rng.normal(0, 0.02, SHAPE)
    return np.clip(picture, 0, 1) * gain


def measured(arrays: list[np.ndarray], depth: int | None = None) -> list[GreyRange]:
    found = [GreyRange.of(array, depth) for array in arrays]
    assert None not in found
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("bits", DEPTHS)
def test_the_depth_of_a_camera_is_found_whatever_single_scans_do(bits: int) -> None:
    white = 2**bits - 1
    # The gain differs, so that dark scans alone would pass for fewer bits.
    arrays = [(scan(n, 0.1 + 0.9 * (n % 10) / 9) * white).astype(np.uint16) for n in range(40)]
    expected = (0, white)
    assert find_range(measured(arrays)) == expected
    for n in range(0, 40, 3):
        arrays[n][5, 7] = 65535  # a hot pixel
    assert find_range(measured(arrays)) == expected
    arrays[3] = np.full(SHAPE, 65535, np.uint16)  # a scan from elsewhere
    assert find_range(measured(arrays)) == expected
    arrays[4] = np.zeros(SHAPE, np.uint16)
    assert find_range(measured(arrays)) == expected
    assert find_range(measured(arrays[::-1])) == expected
    if bits < 16:
        over = [np.minimum(a.astype(int) * 1.03, 65535).astype(np.uint16) for a in arrays]
        assert find_range(measured(over)) == expected  # 3 % beyond is no other depth


@settings(max_examples=60, deadline=None)
@given(
    highs=st.lists(st.floats(0.3, 1.0), min_size=3, max_size=30),
    bits=st.sampled_from(DEPTHS),
    stranger=st.floats(0, 65535),
    seed=st.integers(0, 99),
)
def test_neither_order_nor_one_scan_decides(
    highs: list[float], bits: int, stranger: float, seed: int
) -> None:
    ranges = [GreyRange("whole", 0, round(h * (2**bits - 1))) for h in highs]
    rule = find_range(ranges)
    shuffled = [ranges[i] for i in np.random.default_rng(seed).permutation(len(ranges))]
    assert find_range(shuffled) == rule
    # Every scan lies within half of the rule or more, so one more changes nothing.
    several = ranges * 2
    assert find_range([*several, GreyRange("whole", 0, round(stranger))]) in (
        find_range(several),
        rule,
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda a: a, (0, 1)),
        (lambda a: a * 1.003, (0, 1)),
        (lambda a: np.minimum(a / np.percentile(a, 99.5), 1.05), (0, 1)),
        (lambda a: a * 1.04 - 0.02, (0, 1)),  # resampling swings below black
        (lambda a: a * 2 - 1, (-1, 1)),
        (lambda a: a * 255, (0, 255)),
        (lambda a: a * 258, (0, 255)),
        (lambda a: np.rint(a * 4095), (0, 4095)),
        (lambda a: np.rint(a * 65535), (0, 65535)),
        (lambda a: np.rint(a * 255), (0, 255)),
    ],
)
def test_ranges_of_fractions(
    change: Callable[[np.ndarray], np.ndarray], expected: tuple[float, float]
) -> None:
    arrays = [change(scan(n)).astype(np.float32) for n in range(12)]
    assert find_range(measured(arrays)) == expected
    arrays[2][3, 4] = np.nan
    arrays[5][1, 1] = np.inf
    arrays[7][2, 2] = -1e30
    assert find_range(measured(arrays)) == expected
    grey = to_uint8(arrays[0], Levels(fractions=expected, scans=12))
    assert 150 < int(grey.max()) <= 255
    assert np.ptp(grey) > 100


def test_an_unknown_range_is_that_of_the_table() -> None:
    decibels = [(scan(n, 1 + n / 20) * 60 - 20).astype(np.float32) for n in range(20)]
    black, white = find_range(measured(decibels))
    assert -20 <= black < -5
    assert 70 < white < 95
    levels = Levels(fractions=(black, white), scans=20)
    dark, bright = (float(to_uint8(decibels[n], levels).mean()) for n in (0, 19))
    assert bright > dark * 1.2  # the order of brightness is kept, not made alike
    dim = [(scan(n) * 0.06).astype(np.float32) for n in range(20)]  # 12 bits by 65535
    assert find_range(measured(dim))[1] == pytest.approx(0.06, rel=0.1)
    signed = [(scan(n) * 900 - 400).astype(np.int16) for n in range(20)]
    black, white = find_range(measured(signed))
    assert -350 < black < 0 < white < 500
    assert find_range(measured([np.full(SHAPE, 7.5, np.float32)] * 3)) == (7.5, 8.5)


def test_a_declared_depth_counts_where_the_values_keep_it() -> None:
    dark = [(scan(n) * 900).astype(np.uint16) for n in range(9)]
    assert find_range(measured(dark)) == (0, 1023)
    assert find_range(measured(dark, depth=12)) == (0, 4095)
    spread = [(scan(n) * 65520).astype(np.uint16) for n in range(9)]  # as the PNG standard asks
    assert find_range(measured(spread, depth=12)) == (0, 65535)


def test_rules_of_kinds_side_by_side() -> None:
    eight = GreyRange("8 bits")
    assert find_levels_of([eight] * 5) is None
    whole = measured([(scan(n) * 4095).astype(np.uint16) for n in range(5)])
    parts = measured([scan(n).astype(np.float32) for n in range(5)])
    levels = find_levels_of([eight, *whole, *parts])
    assert levels == Levels((0, 4095), (0, 1), scans=10)
    assert "0…4095 (12 bits)" in levels.describe()
    assert "found over 10 scans" in levels.describe()
    given = Levels((0, 65535), None, scans=300)
    assert find_levels_of([eight, *whole], given) is given  # the rule of a model stands
    assert find_levels_of(parts, given) == Levels((0, 65535), (0, 1), scans=5)
    assert Levels().describe() == ""


def test_scaling_keeps_the_ratio_and_cuts_off() -> None:
    levels = Levels((0, 4095), (-1, 1), scans=4)
    values = np.array([0, 1, 2048, 4095, 4096, 65535], np.uint16)
    assert to_uint8(values, levels).tolist() == [0, 0, 128, 255, 255, 255]
    fractions = np.array([-5, -1, 0, 1, 7, np.nan, np.inf, -np.inf], np.float32)
    assert to_uint8(fractions, levels).tolist() == [0, 0, 128, 255, 255, 0, 0, 0]
    eight = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_uint8(eight, levels), eight)
    for whole in (np.int16, np.int32, np.int64, np.uint32):
        assert to_uint8(values[:5].astype(whole), levels).tolist() == [0, 0, 128, 255, 255]


def test_a_rule_survives_being_written_and_is_checked() -> None:
    framing = Framing(levels=Levels((0, 4095), (0.5, 2.25), 7))
    assert Framing.from_dict(framing.to_dict()) == framing
    old = {k: v for k, v in Framing().to_dict().items() if k != "levels"}
    assert Framing.from_dict(old) == Framing()
    assert levels_from(None) is None
    for wrong in (
        {"whole": [5, 1]}, {"whole": [1]}, {"fractions": [0, "x"]}, {"whole": [0, float("nan")]},
        {"white": 3}, [0, 1], {"whole": 4095},
    ):  # fmt: skip
        with pytest.raises(OctoscopeError, match="levels"):
            levels_from(wrong)


# --- files --------------------------------------------------------------------------------------


def written(folder: Path, arrays: list[np.ndarray], suffix: str = ".png") -> list[Path]:
    paths = []
    for n, array in enumerate(arrays):
        paths.append(folder / f"{n:03}{suffix}")
        np.save(paths[-1], array) if suffix == ".npy" else Image.fromarray(array).save(paths[-1])
    return paths


def test_the_rule_of_files_and_the_scans_it_makes(tmp_path: Path) -> None:
    """Twelve bits in sixteen, a hot pixel in every third scan: all are as bright as before."""
    truth = [scan(n, 0.2 + 0.8 * (n % 5) / 4) for n in range(15)]
    arrays = [(t * 4095).astype(np.uint16) for t in truth]
    for array in arrays[::3]:
        array[0, 0] = 4096 + array[5, 5]
    paths = written(tmp_path, arrays)
    levels = find_levels(paths)
    assert levels == Levels((0, 4095), None, 15)
    framing = Framing(height=SHAPE[0], width=SHAPE[1], wedges="keep", levels=levels)
    for path, expected in zip(paths, truth, strict=True):
        seen = read_framed(path, framing)[0].astype(float)
        seen[0, 0] = expected[0, 0] * 255
        assert np.abs(seen - expected * 255).max() <= 1
    assert find_levels(paths[::-1]) == levels
    assert find_levels([*paths, tmp_path / "absent.png"]) == levels


def test_significant_bits_of_a_png_are_heard(tmp_path: Path) -> None:
    """Dark scans of 12 bits: alone they would pass for fewer, and the file says better."""
    values = (scan(1) * 230).astype(np.uint16)
    [path] = written(tmp_path, [values])
    assert find_levels([path]) == Levels((0, 255), None, 1)
    content = path.read_bytes()
    body = b"sBIT" + bytes([12])
    bits = struct.pack(">I", 1) + body + struct.pack(">I", zlib.crc32(body))
    at = content.index(b"IDAT") - 4
    path.write_bytes(content[:at] + bits + content[at:])
    assert read_scan(path).depth == 12
    assert find_levels([path]) == Levels((0, 4095), None, 1)
    framed = read_framed(path, Framing(height=SHAPE[0], width=SHAPE[1], wedges="keep"))[0]
    assert np.array_equal(framed, np.rint(values * (255 / 4095)).astype(np.uint8))


def test_only_files_of_more_than_eight_bits_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eight = (scan(1) * 255).astype(np.uint8)
    suffixes = (".png", ".jpeg", ".bmp", ".tif", ".gif", ".webp", ".avif", ".npy")
    paths = [written(tmp_path, [eight], suffix)[0] for suffix in suffixes]
    renamed = written(tmp_path / "..", [(scan(2) * 4095).astype(np.uint16)])[0]
    renamed.rename(tmp_path / "deep.jpeg")
    for path in paths:
        assert grey_range(path) == GreyRange("8 bits")
    found = grey_range(tmp_path / "deep.jpeg")  # the content decides
    assert found is not None
    assert found.kind == "whole"
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "text.tif").write_text("Dear colleague")
    assert grey_range(tmp_path / "broken.png") is None
    assert grey_range(tmp_path / "text.tif") is None

    def refuse(path: Path, **options: object) -> None:
        raise AssertionError(f"{path} was decoded")

    monkeypatch.setattr("octoscope.scans.ranges.read_scan", refuse)
    assert find_levels(paths) is None


def test_a_great_table_is_judged_by_a_part_that_names_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octoscope.scans.ranges.MOST_LOOKED_AT", 5)
    paths = written(tmp_path, [(scan(n) * 4095).astype(np.uint16) for n in range(12)])
    looked_at: list[Path] = []
    monkeypatch.setattr(
        "octoscope.scans.ranges.grey_range", lambda path: looked_at.append(path) or grey_range(path)
    )
    find_levels(paths, workers=1)
    first = list(looked_at)
    looked_at.clear()
    find_levels(paths[::-1], workers=1)
    assert looked_at == first
    assert len(first) == 5
