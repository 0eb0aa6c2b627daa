import numpy as np
import pytest

from octoscope.errors import OctoscopeError
from octoscope.scans.borders import SEAM_HALO, SEAM_WAVER, as_grey8, frame_border


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
