from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from octoscope.errors import ScanError
from octoscope.scans.framed import read_framed, reduction
from octoscope.scans.framing import Framing, place
from octoscope.scans.readers import read_scan, to_uint8


def speckled(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A dark picture with a bright band and speckle that a JPEG can hold, ``(H, W)`` uint8."""
    random = np.random.default_rng(seed)
    depth = np.linspace(-1, 1, height)[:, None]
    band = 120 * np.exp(-((depth / 0.2) ** 2)) + 20
    speckle = gaussian_filter(random.normal(0, 25, (height, width)), 0.8)
    return np.clip(band + speckle, 0, 200).astype(np.uint8)


def save(path: Path, picture: np.ndarray) -> Path:
    Image.fromarray(picture).save(path, quality=90)
    return path


def whole(path: Path, framing: Framing) -> tuple[np.ndarray, object]:
    """The frame and placement by way of the scan at full size."""
    picture = to_uint8(read_scan(path, grey=True).array)
    placement = place(picture, framing)
    return placement.apply(picture), placement


@settings(deadline=None, max_examples=40)
@given(
    st.integers(8, 120),
    st.integers(8, 120),
    st.sampled_from([8, 13, 20, 32]),
    st.sampled_from([8, 16, 31]),
    st.sampled_from(["pad", "stretch"]),
)
def test_the_placement_is_that_of_the_whole_scan(
    tmp_path_factory, height, width, frame_height, frame_width, mode
):
    framing = Framing(frame_height, frame_width, mode)
    path = save(tmp_path_factory.mktemp("scan") / "a.jpeg", speckled(height, width))
    framed, placement = read_framed(path, framing)
    expected, exact = whole(path, framing)
    assert placement.to_dict() == exact.to_dict()
    assert framed.shape == expected.shape
    assert framed.dtype == np.uint8
    if reduction(framing, height, width) == 1:
        np.testing.assert_array_equal(framed, expected)


def test_halved_scans_look_like_whole_ones(tmp_path):
    framing = Framing(96, 128)
    path = save(tmp_path / "a.jpeg", speckled(248, 384))
    assert read_scan(path, grey=True, reduce=lambda *size: reduction(framing, *size)).reduced == 2
    framed, _ = read_framed(path, framing)
    expected, _ = whole(path, framing)
    difference = np.abs(framed.astype(int) - expected)
    assert 0 < difference.mean() < 1
    assert difference.max() < 16


@pytest.mark.parametrize(
    ("framing", "size", "factor"),
    [
        (Framing(224, 224), (496, 1024), 2),
        (Framing(224, 224), (496, 512), 2),
        (Framing(224, 224), (496, 1536), 2),
        (Framing(224, 224), (447, 1024), 1),  # odd
        (Framing(224, 224), (400, 447), 1),  # less than twice
        (Framing(224, 224, "stretch"), (496, 1024), 2),
        (Framing(224, 224, "stretch"), (446, 1024), 1),  # rows would be missing
        (Framing(224, 224, "band"), (496, 1024), 1),
    ],
)
def test_scans_are_halved_where_nothing_that_is_shown_is_lost(framing, size, factor):
    assert reduction(framing, *size) == factor


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
@pytest.mark.parametrize("thickness", [1, 2, 5, 40])
def test_white_borders_are_found_in_the_files_own_pixels(tmp_path, side, thickness):
    picture = speckled(248, 384)
    turned = {"left": picture.T, "right": picture.T[::-1], "top": picture, "bottom": picture[::-1]}
    turned[side][:thickness] = 255  # a view of the picture
    path = save(tmp_path / "a.jpeg", picture)
    framing = Framing(64, 96)
    framed, placement = read_framed(path, framing)
    expected, exact = whole(path, framing)
    np.testing.assert_array_equal(framed, expected)
    np.testing.assert_array_equal(placement.outside, exact.outside)
    assert placement.outside is not None


def test_a_white_wedge_is_found(tmp_path):
    picture = speckled(248, 384)
    rows, columns = np.mgrid[:248, :384]
    picture[rows + columns / 3 < 40] = 255
    path = save(tmp_path / "a.jpeg", picture)
    framed, _ = read_framed(path, Framing(64, 96))
    np.testing.assert_array_equal(framed, whole(path, Framing(64, 96))[0])


def test_other_formats_and_colours(tmp_path):
    picture = speckled(248, 384)
    framing = Framing(64, 96)
    png, _ = read_framed(save(tmp_path / "a.png", picture), framing)
    np.testing.assert_array_equal(png, place(picture, framing).apply(picture))
    tinted = np.stack([picture, picture // 2, picture // 3], axis=-1)
    colour, _ = read_framed(save(tmp_path / "c.jpeg", tinted), framing)
    luma = tinted @ np.array([0.299, 0.587, 0.114])
    grey, _ = read_framed(save(tmp_path / "l.jpeg", luma.astype(np.uint8)), framing)
    assert np.abs(colour.astype(int) - grey).mean() < 1.5


def test_volumes_and_missing_files_are_refused_by_name(tmp_path):
    np.save(tmp_path / "volume.npy", np.zeros((5, 40, 40), np.uint8))
    with pytest.raises(ScanError, match=r"volume\.npy: is a volume of 5 B-scans"):
        read_framed(tmp_path / "volume.npy", Framing())
    with pytest.raises(ScanError, match=r"gone\.jpeg"):
        read_framed(tmp_path / "gone.jpeg", Framing())


def test_real_scans_halved_and_whole(real_data):
    framing = Framing(224, 224)
    halved = 0
    for path in sorted((real_data / "kermany-lesions" / "images").rglob("*.jpeg"))[::8]:
        framed, placement = read_framed(path, framing)
        expected, exact = whole(path, framing)
        assert placement.to_dict() == exact.to_dict()
        assert (placement.outside is None) == (exact.outside is None)
        difference = np.abs(framed.astype(int) - expected)
        halved += bool(difference.any())
        assert difference.mean() < 2
    assert halved >= 5
