import numpy as np
import pytest
from scipy import ndimage

from octoscope.errors import OctoscopeError
from octoscope.scans.borders import SEAM_HALO, SEAM_WAVER, as_grey8, frame_border
from octoscope.scans.phantom.artefacts import Marked, registered


def speckled(height: int = 200, width: int = 300, seed: int = 0) -> np.ndarray:
    """A frame without borders: noise, with a saturated bright band from side to side."""
    rng = np.random.default_rng(seed)
    image = rng.gamma(2, 12, (height, width)).clip(0, 200)
    image[height // 2 : height // 2 + 12] = 255
    return image.astype(np.uint8)


def test_a_plain_frame_has_no_border_though_its_rpe_is_saturated():
    border = frame_border(speckled())
    assert border.valid.all()
    assert border.white_fraction == border.black_fraction == 0


@pytest.mark.parametrize("value", [255, 0])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_wedge_is_found_to_the_pixel_but_for_its_halo(value, turns):
    image = np.rot90(speckled(), turns).copy()
    rows, columns = np.indices(image.shape)
    wedge = rows < 60 - 0.25 * columns
    image[wedge] = value
    border = frame_border(image)
    found = border.white if value else border.black
    other = border.black if value else border.white
    assert (found | ~wedge).all()
    beyond = SEAM_HALO + SEAM_WAVER + 1 + 0.25 * 12  # the seam falls by 3 behind the bright band
    near = rows < 60 - 0.25 * columns + beyond
    assert not (found & ~near).any()
    assert not other.any()


def test_a_thin_white_side_is_found_behind_a_darker_outermost_column():
    image = speckled()
    image[:, -4:] = 255
    image[:, -1] = 120
    border = frame_border(image)
    assert border.white[:, -4:].all()
    assert not border.white[:100, : -4 - SEAM_HALO].any()
    assert not border.white[:, : -4 - SEAM_HALO - SEAM_WAVER].any()


def test_a_tilted_scan_leaves_four_wedges():
    image = np.full((300, 400), 255, np.uint8)
    rows, columns = np.indices(image.shape)
    across = (columns - 200) + 0.1 * (rows - 150)
    along = (rows - 150) - 0.1 * (columns - 200)
    scan = (np.abs(across) < 180) & (np.abs(along) < 120)
    image[scan] = np.random.default_rng(1).gamma(2, 12, scan.sum()).clip(0, 200)
    border = frame_border(image)
    assert border.white_fraction == pytest.approx(1 - scan.mean(), abs=0.06)
    assert border.white[~scan].mean() > 0.999


def test_a_plain_black_vitreous_is_no_border():
    image = speckled()
    columns = np.arange(300)
    ilm = 60 + 12 * np.sin(columns / 20) + 6 * np.sin(columns / 7)
    image[np.arange(200)[:, None] < ilm] = 0
    assert frame_border(image).black_fraction < 0.01


def test_a_bright_spot_in_the_middle_of_a_side_is_tissue():
    image = speckled()
    image[80:140, :40] = 255
    assert frame_border(image).white_fraction == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2), (3, 5)])
@pytest.mark.parametrize("value", [0, 77, 255])
def test_tiny_and_constant_frames(shape, value):
    border = frame_border(np.full(shape, value, np.uint8))
    assert border.valid.shape == shape
    assert border.valid.all() == (value == 77)
    assert border.white.all() == (value == 255)


def test_the_image_is_left_as_it_was():
    image = speckled()
    image[:20] = 255
    before = image.copy()
    frame_border(image)
    assert (image == before).all()


def test_float_in_unit_range_gives_what_uint8_gives():
    image = speckled()
    image[:20] = 255
    assert (frame_border(image / 255).white == frame_border(image).white).all()


@pytest.mark.parametrize(
    "image", [np.zeros((0, 4), np.uint8), np.zeros((2, 4, 3), np.uint8), np.full((4, 4), 300.0)]
)
def test_what_is_no_grey_picture_is_refused(image):
    with pytest.raises(OctoscopeError):
        as_grey8(image)


# Borders of any grey value, by their seam


def tilted(fill: int, quality: int | None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A speckled frame, tilted and shifted, and where it then shows nothing."""
    frame = np.random.default_rng(seed).gamma(2, 12, (300, 420)).clip(0, 200).astype(np.uint8)
    nowhere = np.full(420, np.nan)
    how = {"degrees": 5.0, "down": 25.0, "right": -18.0}
    scan = registered(Marked(frame, nowhere, nowhere), fill=fill, quality=quality, **how)
    white = registered(Marked(np.full_like(frame, 255), nowhere, nowhere), fill=0, **how)
    return scan.image, white.image < 128


@pytest.mark.parametrize("fill", [0, 8, 15, 30, 90, 180, 255])
@pytest.mark.parametrize("quality", [None, 75, 95])
def test_a_tilted_scan_leaves_borders_of_any_grey_value(fill, quality):
    image, outside = tilted(fill, quality)
    border = frame_border(image)
    assert border.valid[outside].mean() < 0.02
    assert border.valid[~outside].mean() > 0.95
    kind = border.black if fill <= 40 else border.grey if fill < 243 else border.white
    assert kind[outside].mean() > 0.95
    together = border.black.astype(int) + border.grey + border.white
    assert together.max() == 1


@pytest.mark.parametrize("grey", [0, 12, 60])
def test_a_flat_vitreous_above_a_retina_is_no_border(grey):
    image = speckled()
    columns = np.arange(300)
    image[np.arange(200)[:, None] < 70 - 25 * np.exp(-(((columns - 150) / 40) ** 2))] = grey
    assert frame_border(image).valid.mean() > 0.99
    image = speckled()
    image[np.arange(200)[:, None] < 90 + 0.1 * columns] = grey  # straight, and tissue all along
    image[100:160] = np.maximum(
        image[100:160], 170 * (np.arange(200)[100:160, None] >= 90 + 0.1 * columns)
    )
    assert frame_border(image).valid.mean() > 0.99


@pytest.mark.parametrize("fill", [0, 77])
def test_padding_is_a_border_without_a_halo(fill):
    image = np.full((240, 300), fill, np.uint8)
    image[60:180] = speckled(120)
    border = frame_border(image)
    assert (border.valid == (np.indices(image.shape)[0] // 60 % 3 != 0)).mean() > 0.99


def test_smooth_tissue_at_the_edge_is_no_border():
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=(200, 300)), 6)
    image = speckled()
    image[170:] = (90 + 120 * smooth[170:]).clip(0, 255)
    assert frame_border(image).valid.all()


@pytest.mark.parametrize("depth", [3, 10, 21, 22, 24, 40, 51])
def test_padding_ends_at_the_row_where_the_scan_begins(depth: int) -> None:
    """A seam along a row lies on that row, and not by a rounding error below it."""
    scan = np.random.default_rng(depth).integers(12, 60, (96, 128)).astype(np.uint8)
    for rows, turns in ((slice(None, depth), 0), (slice(-depth, None), 2)):
        padded = scan.copy()
        padded[rows] = 0
        expected = np.ones(scan.shape, bool)
        expected[rows] = False
        np.testing.assert_array_equal(frame_border(padded).valid, expected)
        turned = np.ascontiguousarray(np.rot90(padded, 1 + turns))
        np.testing.assert_array_equal(frame_border(turned).valid, np.rot90(expected, 1 + turns))
