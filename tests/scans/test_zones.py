import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octoscope.scans.framing import Framing, place
from octoscope.scans.geometry import RetinaLayers, segment_retina
from octoscope.scans.geometry.zones import (
    BORDER,
    RETINA,
    TITLES,
    UNKNOWN,
    ZONES,
    content_box,
    corner_areas,
    edge_strip,
    frame_zones,
)
from octoscope.scans.phantom import CLASSES, draw_acquisition, draw_eye, render

(VITREOUS, INNER, OUTER, BAND, CHOROID, EDGE, CORNER, PADDING) = range(8)


def flat(width: int, ilm: float, rpe: float, found: bool = True) -> RetinaLayers:
    """A retina between two level surfaces."""
    one = np.ones(width)
    return RetinaLayers(ilm * one, rpe * one, one, np.ones(width, bool), found)


def picture(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A scan without padding and without borders: no grey value that either could have."""
    return np.random.default_rng(seed).integers(40, 200, shape).astype(np.uint8)


def test_every_zone_has_a_title():
    assert set(TITLES) == set(ZONES) and set(RETINA) < set(ZONES) and len(ZONES) == UNKNOWN


def test_zones_of_a_drawn_scan_by_hand():
    zones = frame_zones(flat(80, 29.5, 49.5), picture((80, 80)))
    # 20 rows of retina, from 30: ten inner, eight outer, then the band from 48 to 52.
    down = zones[:, 40]
    assert (down[:4] == EDGE).all() and (down[4:30] == VITREOUS).all()
    assert (down[30:40] == INNER).all() and (down[40:48] == OUTER).all()
    assert (down[48:52] == BAND).all() and (down[52:76] == CHOROID).all()
    assert (down[76:] == EDGE).all()
    # The retina reaches the edge; a corner is 10 × 10, the border 4 wide.
    assert (zones[30:40, 0] == INNER).all() and (zones[30:40, -1] == INNER).all()
    assert (zones[:10, :10] == CORNER).all() and (zones[-10:, -10:] == CORNER).all()
    assert (zones[10:30, :4] == EDGE).all() and (zones[10:30, 4:76] == VITREOUS).all()
    assert zones.dtype == np.uint8 and zones.shape == (80, 80)


def test_a_retina_in_the_corner_is_retina_and_the_corner_wins_over_the_border():
    zones = frame_zones(flat(80, -0.5, 4.5), picture((80, 80)))
    assert (zones[:3, 0] == [INNER, INNER, OUTER]).all()
    assert (zones[6:10, :10] == CORNER).all()
    assert (zones[10, :4] == EDGE).all() and zones[10, 4] == CHOROID


def test_padding_is_always_outside():
    image = np.full((100, 80), 7, np.uint8)
    image[10:90] = picture((80, 80))
    zones = frame_zones(flat(80, 5.0, 49.5), image, fill=7)  # an ILM that strays into the padding
    assert (zones[:10] == PADDING).all() and (zones[90:] == PADDING).all()
    assert not (zones[10:90] == PADDING).any()
    np.testing.assert_array_equal(
        zones[10:90], frame_zones(flat(80, -5.0, 39.5), image[10:90], fill=7)
    )


def test_a_known_box_is_believed():
    image = picture((100, 80))
    image[:30] = 0  # a vitreous that was cut to black looks like padding
    layers = flat(80, 49.5, 69.5)
    assert (frame_zones(layers, image)[:30] == PADDING).all()
    zones = frame_zones(layers, image, box=(0, 0, 100, 80))
    assert not (zones == PADDING).any()


@pytest.mark.parametrize("fill", [0, 128, 255])
@pytest.mark.parametrize("grey", ["white", "fill"])
def test_registration_borders_are_border_not_retina(fill, grey):
    image = picture((120, 120))
    wedge = np.arange(120)[None, :] + 0 * np.arange(120)[:, None] < 25
    image[wedge] = fill if grey == "fill" else 255
    zones = frame_zones(flat(120, 49.5, 79.5), image, fill, box=(0, 0, 120, 120))
    assert (zones[50:80, :25] == EDGE).all() and (zones[20:40, :25] == EDGE).all()
    assert (zones[50:65, 30:] == INNER).all()


def test_columns_without_scan_hold_no_retina():
    layers = flat(80, 29.5, 49.5)
    layers.valid[:20] = False
    zones = frame_zones(layers, picture((80, 80)))
    assert (zones[10:70, :20] == EDGE).all() and (zones[30:40, 20:] == INNER).all()


def test_without_a_retina_what_hangs_on_it_is_unknown():
    image = np.zeros((100, 80), np.uint8)
    image[10:90] = picture((80, 80))
    zones = frame_zones(flat(80, 39.5, 59.5, found=False), image)
    assert (zones[14:86, 10:70] == UNKNOWN).all() and (zones[:10] == PADDING).all()
    assert (zones[20:80, :4] == EDGE).all() and (zones[10:20, :10] == CORNER).all()


def test_a_frame_of_nothing_but_fill_is_outside():
    zones = frame_zones(flat(30, 9.5, 19.5), np.full((30, 30), 9, np.uint8), 9)
    assert (zones == PADDING).all()


@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    seed=st.integers(0, 2**32 - 1),
    found=st.booleans(),
    fill=st.sampled_from([0, 90, 255]),
)
@settings(max_examples=150, deadline=None)
def test_every_pixel_has_exactly_one_zone_and_they_lie_in_order(shape, seed, found, fill):
    rng = np.random.default_rng(seed)
    height, width = shape
    ilm = rng.uniform(-0.5, height - 0.5, width)
    rpe = np.minimum(ilm + rng.uniform(0, height, width), height - 0.5)
    layers = RetinaLayers(ilm, rpe, np.ones(width), rng.random(width) < 0.9, found)
    image = picture(shape, seed % 1000)
    image[: rng.integers(0, height + 1)] = fill
    before = image.copy()
    zones = frame_zones(layers, image, fill)
    box = content_box(image, fill)
    np.testing.assert_array_equal(image, before)
    assert zones.shape == shape and zones.max() <= (PADDING if found else UNKNOWN)
    outside = np.ones(shape, bool)
    outside[box[0] : box[2], box[1] : box[3]] = False
    np.testing.assert_array_equal(zones == PADDING, outside)
    # Nothing shown of the retina belongs to anything else, and depth only goes on.
    retina = np.isin(zones, [INNER, OUTER, BAND])
    core = layers.mask(shape)
    assert not (retina & ~layers.valid[None]).any()
    assert not ((zones == VITREOUS) & core).any() and not ((zones == CHOROID) & core).any()
    for column in zones.T:
        by_depth = column[column <= CHOROID].astype(int)
        assert (np.diff(by_depth) >= 0).all()


def test_the_content_box():
    image = np.full((20, 30), 5, np.uint8)
    assert content_box(image, 5) == (0, 0, 0, 0)
    image[3, 7] = image[12, 20] = 6
    assert content_box(image, 5) == (3, 7, 13, 21)
    assert content_box(image, 0) == (0, 0, 20, 30)


@pytest.mark.parametrize(("height", "width"), [(496, 512), (200, 900), (700, 300)])
@pytest.mark.parametrize("fill", [0, 17])
def test_the_content_box_is_where_the_framing_put_the_scan(height, width, fill):
    scan = picture((height, width))
    placed = place(scan, Framing(fill=fill))
    assert content_box(placed.apply(scan), fill) == placed.target


def test_edge_strip_and_corners_by_hand():
    box = (10, 20, 50, 100)  # 40 rows, 80 columns
    strip, corners = edge_strip((60, 120), box, 0.1), corner_areas((60, 120), box, 8)
    inner = np.zeros((60, 120), bool)
    inner[14:46, 28:92] = True
    whole = np.zeros((60, 120), bool)
    whole[10:50, 20:100] = True
    np.testing.assert_array_equal(strip, whole & ~inner)
    expected = np.zeros((60, 120), bool)
    for rows in (slice(10, 15), slice(45, 50)):
        for columns in (slice(20, 30), slice(90, 100)):
            expected[rows, columns] = True
    np.testing.assert_array_equal(corners, expected)
    assert not edge_strip((60, 120), (0, 0, 0, 0)).any()
    assert not corner_areas((60, 120), (0, 0, 0, 0)).any()
    np.testing.assert_array_equal(edge_strip((60, 120), box, 0.5), whole)
    assert not edge_strip((60, 120), box, 0).any()
    assert edge_strip((60, 120), (0, 0, 10, 10), BORDER).sum() == 36  # one pixel at least


@pytest.mark.parametrize("label", CLASSES)
@pytest.mark.parametrize("device", ["spectralis", "cirrus", "topcon"])
def test_zones_agree_with_the_truth_of_phantoms(label, device):
    """In the model's frame, from the picture alone, against the surfaces it was drawn from."""
    eye = draw_eye("p", label, 0.6, 5, device=device)
    scan = render(eye, draw_acquisition(eye, 496, 512, 11))
    truth = RetinaLayers(
        scan.surfaces["ILM"], scan.surfaces["RPE base"], np.ones(512), np.ones(512, bool), True
    )
    full = (0, 0, 496, 512)
    in_scan = frame_zones(truth, np.full((496, 512), 128, np.uint8), box=full)
    placed = place(scan.image, Framing())
    framed = placed.apply(scan.image)
    zones = frame_zones(segment_retina(framed), framed)
    top, left, bottom, right = placed.target
    seen, true = zones[top:bottom, left:right], placed.apply(in_scan, nearest=True)
    true = true[top:bottom, left:right]
    assert (zones == PADDING).mean() == pytest.approx(placed.padding_fraction)
    assert np.mean(seen == true) > 0.98
    for part, least in ((INNER, 0.9), (OUTER, 0.85), (BAND, 0.7)):
        both = np.sum((seen == part) & (true == part))
        assert both / np.sum((seen == part) | (true == part)) > least, ZONES[part]
    retina = [INNER, OUTER, BAND]
    both = np.isin(seen, retina) & np.isin(true, retina)
    assert both.sum() / (np.isin(seen, retina) | np.isin(true, retina)).sum() > 0.94
