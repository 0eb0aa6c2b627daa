import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octoscope.errors import OctoscopeError
from octoscope.scans.framing import NO_RETINA, Framing, Placement, frame_image, place


def disc(height: int, width: int, row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.indices((height, width)) + 0.5
    return ((rows - row) ** 2 + (columns - column) ** 2 < radius**2).astype(np.uint8)


def extent(mask: np.ndarray) -> tuple[int, int]:
    rows, columns = np.nonzero(mask)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


@pytest.mark.parametrize("shape", [(496, 768), (130, 502), (512, 512), (100, 50), (40, 1000)])
def test_pad_keeps_a_circle_round_and_stretch_does_not(shape):
    height, width = shape
    circle = disc(height, width, height / 2, width / 2, 0.4 * min(shape))
    image = np.full(shape, 90, np.uint8)
    kept = place(image, Framing(224, 224)).apply(circle, nearest=True)
    rows, columns = extent(kept)
    assert abs(rows - columns) <= 1
    scale = min(224 / height, 224 / width)
    assert rows == pytest.approx(0.8 * min(shape) * scale, abs=2)
    stretched = place(image, Framing(224, 224, mode="stretch")).apply(circle, nearest=True)
    rows, columns = extent(stretched)
    assert rows / columns == pytest.approx(width / height, rel=0.2)


def test_stretch_says_that_it_distorts():
    assert "DISTORTED" in Framing(mode="stretch").describe()
    assert not Framing(mode="stretch").keeps_aspect
    assert all(Framing(mode=mode).keeps_aspect for mode in ("pad", "band"))


@pytest.mark.parametrize("mode", ["pad", "band", "stretch"])
def test_image_and_mask_stay_on_one_another(mode):
    rng = np.random.default_rng(0)
    image = rng.integers(20, 60, (300, 500)).astype(np.uint8)
    lesion = disc(300, 500, 170, 320, 40)
    image[lesion > 0] = 240
    placement = place(image, Framing(160, 224, mode=mode))
    picture, mask = placement.apply(image), placement.apply(lesion * 3, nearest=True)
    assert picture.dtype == np.uint8 and set(np.unique(mask)) == {0, 3}
    bright = picture > 150
    assert (bright & (mask == 3)).sum() / (bright | (mask == 3)).sum() > 0.93


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    mode=st.sampled_from(["pad", "band", "stretch"]),
    frame=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    value=st.integers(0, 255),
)
def test_any_size_fits_and_keeps_its_values(height, width, mode, frame, value):
    image = np.full((height, width), value, np.uint8)
    framing = Framing(*frame, mode=mode, fill=7)
    placement = place(image, framing)
    framed = placement.apply(image)
    assert framed.shape == frame and framed.dtype == np.uint8
    shown = value if value < 243 else 7  # an all-white frame is nothing but border
    top, left, bottom, right = placement.target
    assert (framed[top:bottom, left:right] == shown).all()
    assert (framed == 7).mean() >= placement.padding_fraction - 1e-9
    assert placement.apply(image, nearest=True).shape == frame
    assert placement.invert(framed.astype(np.float32)).shape == (height, width)


def test_shrinking_averages_so_that_no_stripe_is_lost_or_doubled():
    stripes = np.tile(np.array([0, 200], np.uint8), (300, 300))  # one pixel black, one bright
    framed = frame_image(stripes, Framing(100, 200, wedges="keep"))
    assert np.abs(framed[:, 5:-5].astype(int) - 100).max() <= 12


def test_invert_undoes_apply_up_to_interpolation():
    rows, columns = np.indices((200, 400))
    smooth = (np.sin(rows / 30) * np.cos(columns / 40)).astype(np.float32)
    image = np.full((200, 400), 90, np.uint8)
    placement = place(image, Framing(224, 224))
    back = placement.invert(placement.apply(smooth))
    assert np.abs(back - smooth)[4:-4, 4:-4].max() < 0.01
    assert np.abs(back - smooth).max() < 0.1  # the outermost rows are extrapolated
    assert back.min() < -0.9  # raw and signed


def test_a_peak_in_the_frame_comes_back_to_the_pixel_it_came_from():
    scan = np.zeros((496, 768), np.float32)
    scan[310, 200] = 1
    placement = place(np.full(scan.shape, 90, np.uint8), Framing(128, 256))
    back = placement.invert(placement.apply(scan))
    row, column = np.unravel_index(back.argmax(), back.shape)
    assert abs(row - 310) <= 4 and abs(column - 200) <= 4


def test_white_wedges_become_fill_or_stay():
    image = np.random.default_rng(0).integers(10, 90, (300, 400)).astype(np.uint8)
    image[np.indices(image.shape)[0] > 250] = 255
    assert frame_image(image, Framing(150, 200)).max() < 128
    assert frame_image(image, Framing(150, 200, wedges="keep")).max() == 255


def test_without_a_retina_band_falls_back_to_pad_and_says_so():
    image = np.full((300, 400), 90, np.uint8)
    placement = place(image, Framing(mode="band"))
    assert placement.flags == (NO_RETINA,)
    assert placement.crop == (0, 0, 300, 400)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 4096),
    width=st.integers(1, 4096),
    mode=st.sampled_from(["pad", "band", "stretch"]),
    fill=st.integers(0, 255),
    margin=st.floats(0, 3),
    wedges=st.sampled_from(["fill", "keep"]),
)
def test_framing_survives_json(height, width, mode, fill, margin, wedges):
    framing = Framing(height, width, mode, fill, margin, wedges)
    assert Framing.from_dict(json.loads(json.dumps(framing.to_dict()))) == framing


def test_placement_survives_json_and_still_inverts():
    image = np.full((120, 300), 90, np.uint8)
    placement = place(image, Framing(64, 96))
    again = Placement.from_dict(json.loads(json.dumps(placement.to_dict())))
    assert again.to_dict() == placement.to_dict()
    values = np.random.default_rng(0).normal(size=(64, 96))
    assert (again.invert(values) == placement.invert(values)).all()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"mode": "padd"}, 'did you mean "pad"'),
        ({"hieght": 3}, 'did you mean "height"'),
        ({"height": 0}, "height"),
        ({"width": 2.5}, "width"),
        ({"fill": 256}, "fill"),
        ({"margin": -1}, "margin"),
        ({"wedges": "black"}, "wedges"),
    ],
)
def test_a_wrong_framing_is_named(values, named):
    with pytest.raises(OctoscopeError, match=named):
        Framing.from_dict(values)


def test_arrays_of_another_scan_are_refused():
    placement = place(np.full((20, 30), 90, np.uint8), Framing(10, 10))
    with pytest.raises(OctoscopeError, match=r"\(21, 30\)"):
        placement.apply(np.zeros((21, 30)))
    with pytest.raises(OctoscopeError, match=r"\(7, 7\)"):
        placement.invert(np.zeros((7, 7)))
    with pytest.raises(OctoscopeError):
        place(np.zeros((20, 30, 3), np.uint8), Framing())


def test_a_placement_without_a_field_is_refused():
    with pytest.raises(OctoscopeError, match="crop"):
        Placement.from_dict({"framing": {}, "shape": [1, 1], "target": [0, 0, 1, 1], "flags": []})
