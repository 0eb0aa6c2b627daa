"""Figures: the right pixels, sound SVG, and no reading of names as formulas."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from octoscope.attribution.colours import colour_limit
from octoscope.report.figures.blend import blended, colour_bar, spotlit
from octoscope.report.figures.calibration import reliability_curve
from octoscope.report.figures.cells import (
    Bar,
    Bars,
    Map,
    Picture,
    Scan,
    compact,
    map_picture,
    scan_picture,
)
from octoscope.report.figures.comparison import Row, Seen, blocks, comparison_png
from octoscope.report.figures.confusion import confusion_matrix
from octoscope.report.figures.curves import learning_curves
from octoscope.report.figures.forest import Point, forest
from octoscope.report.figures.heads import Heads, heads_png, stretched, top_mass
from octoscope.report.figures.lettering import fitted, width_of, wrapped
from octoscope.report.figures.occlusion import Covered, occlusion_png
from octoscope.report.figures.outline import lesion_colour, lesion_paths
from octoscope.report.figures.overlay import gradient, overlay_png, scan_jpeg
from octoscope.report.figures.panel import columns_for, panel_png
from octoscope.report.figures.paper import GUTTER, Paper
from octoscope.report.figures.patches import patch_grid, patches_png
from octoscope.report.figures.roc import roc_curves
from octoscope.report.figures.sheet import DPI, Strip, sheet_png


def rgba(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def test_zero_is_transparent_and_the_largest_value_opaque() -> None:
    values = np.array([[0.0, 0.0], [0.0, 5.0]])
    got = rgba(overlay_png(values, (2, 2), signed=False))
    assert got.shape == (2, 2, 4)
    assert got[0, 0, 3] == 0 and got[1, 1, 3] == 255
    assert tuple(got[1, 1, :3]) == (252, 255, 164), "the bright end of inferno"


def test_signed_maps_are_centred_on_zero() -> None:
    values = np.array([[-2.0, 0.0, 2.0, 4.0]])
    got = rgba(overlay_png(values, (1, 4), signed=True)).astype(int)[0]
    assert got[1, 3] == 0, "zero says nothing"
    against, little, most = got[0], got[2], got[3]
    assert against[2] > against[0], "blue is against the class"
    assert little[0] > little[2] and most[0] > most[2], "red is for it"
    mirrored = rgba(overlay_png(-values, (1, 4), signed=True)).astype(int)[0]
    assert abs(mirrored[0, 3] - got[2, 3]) <= 3


def test_a_map_is_interpolated_no_finer_than_the_frame() -> None:
    native = np.arange(12.0).reshape(3, 4)
    assert rgba(overlay_png(native, (300, 400), signed=False)).shape == (24, 32, 4)
    assert rgba(overlay_png(native, (10, 400), signed=False)).shape == (10, 32, 4)


def test_the_scale_of_a_map_does_not_matter() -> None:
    values = np.random.default_rng(0).random((4, 4))
    assert overlay_png(values, (8, 8), signed=False) == overlay_png(
        1e-9 * values, (8, 8), signed=False
    )


def test_the_colour_bar_has_the_colours_of_the_maps() -> None:
    assert gradient(False).startswith("rgba(0,0,4,0.00)") and gradient(False).endswith("1.00)")
    stops = gradient(True).split("), ")
    assert stops[len(stops) // 2].endswith(",0.00"), "the middle of the signed bar is zero"


def test_scans_become_jpegs_of_bounded_width() -> None:
    image = np.tile(np.arange(256, dtype=np.uint8), (64, 4))  # 64 × 1024
    content, size = scan_jpeg(image)
    assert size == (512, 32) and Image.open(io.BytesIO(content)).size == (512, 32)
    assert scan_jpeg(image[:, :200])[1] == (200, 64)


def area(path: str) -> float:
    """The area that closed lines enclose, holes negative or positive by orientation."""
    total = 0.0
    for line in path.split("Z"):
        numbers = np.array([float(v) for v in line.strip().lstrip("M").split()]).reshape(-1, 2)
        x, y = numbers.T
        total += (x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 if len(numbers) else 0
    return abs(total)


def test_outlines_enclose_the_lesion_also_at_the_edge_of_the_frame() -> None:
    mask = np.zeros((20, 30), dtype=np.uint8)
    mask[4:14, 6:22] = 1
    mask[0:5, 25:30] = 3
    first, second = lesion_paths(mask, {1: "subretinal_fluid"})
    assert first["name"] == "subretinal fluid" and second["name"] == "lesion 3"
    assert first["colour"] == lesion_colour(1) != second["colour"]
    assert area(first["path"]) == pytest.approx(160, rel=0.02)
    assert area(second["path"]) == pytest.approx(25, rel=0.05)
    numbers = [float(v) for v in second["path"].replace("M", " ").replace("Z", " ").split()]
    assert min(numbers) >= 0 and max(numbers) <= 30
    assert lesion_paths(np.zeros((5, 5), dtype=np.uint8), {}) == []


LOG = pd.DataFrame(
    {"epoch": [1, 2], "train_loss": [1.0, 0.5], "val_loss": [1.1, np.nan],
     "train_accuracy": [0.4, 0.6], "val_balanced_accuracy": [0.3, 0.5]}
)  # fmt: skip
NAMES = ("$\\frac{1}{", "<b>&amp;", "a_very_long_class_name_that_does_not_fit_anywhere")
BINS = [
    {"low": 0.4, "high": 0.5, "confidence": 0.45, "accuracy": 0.5, "accuracy_low": None,
     "accuracy_high": None, "count": 3},
]  # fmt: skip


@pytest.mark.parametrize(
    "draw",
    [
        lambda: learning_curves([LOG, LOG[:1]], [2, None], 0.25),
        lambda: learning_curves([LOG[["epoch"]]], [1], None),
        lambda: confusion_matrix(np.array([[3, 0, 1], [0, 0, 0], [2, 2, 9]]), NAMES),
        lambda: confusion_matrix(np.array([[3]]), NAMES[:1]),
        lambda: reliability_curve(BINS, BINS),
        lambda: reliability_curve([]),
        lambda: roc_curves(np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 1, 0]), NAMES),
        lambda: forest([Point(n, 2.0, 1.0, None, i) for i, n in enumerate(NAMES)], title="lift",
                       chance=1, logarithmic=True, groups=NAMES),
        lambda: forest([Point("a", 0.5, 0.4, 0.6)], title="$x", limits=(0, 1)),
    ],
)  # fmt: skip
def test_figures_are_sound_svg_and_the_same_twice(draw) -> None:
    content = draw()
    root = ElementTree.fromstring(content)
    assert root.tag.endswith("svg") and b"NaN" not in content
    assert content == draw()


# --- a map over its scan ------------------------------------------------------------------------

GREY = np.full((8, 12), 100, dtype=np.uint8)


def test_a_blend_shows_the_scan_where_the_map_is_zero_and_the_palette_where_it_is_large() -> None:
    values = np.zeros((8, 12))
    values[:, 6:] = 3.0
    got = blended(GREY, values, signed=False)
    assert got.shape == (8, 12, 3) and got.dtype == np.uint8
    assert (got[:, 0] == 100).all(), "zero lets the scan through"
    bright = np.array([252, 255, 164])  # the end of inferno
    np.testing.assert_allclose(got[0, -1], 0.3 * 100 + 0.7 * bright, atol=0.51)


def test_signed_blends_are_red_for_and_blue_against() -> None:
    values = np.array([[-1.0, 0.0, 0.5, 1.0]])
    against, neutral, little, most = blended(GREY[:1, :4], values, signed=True).astype(int)[0]
    assert against[2] > against[0] and little[0] > little[2] and most[0] > most[2]
    assert (neutral == 100).all(), "zero lets the scan through"
    strong = 2 * values.clip(0)  # the scale is that of the largest magnitude, of either sign
    assert np.array_equal(blended(GREY[:1, :4], strong, signed=True)[0, 2], little)


def test_few_far_pixels_do_not_darken_a_map() -> None:
    values = np.full((100, 100), 1.0)
    assert colour_limit(values) == (1.0, False)
    values[0, :10] = 1000.0  # a thousandth of the pixels
    assert colour_limit(-values) == (1.0, True)
    values[:2] = 1000.0  # two in a hundred are no outliers
    assert colour_limit(values) == (1000.0, False)
    assert colour_limit(np.zeros((2, 2))) == (1.0, False)
    lonely = np.zeros((100, 100))
    lonely[0, 0] = 7.0
    assert colour_limit(lonely) == (7.0, False), "a percentile of zero is no scale"


def test_colour_bars_begin_and_end_as_the_map() -> None:
    unsigned, signed = colour_bar(False, 5)[:, 0], colour_bar(True, 5)[:, 0]
    assert unsigned[0].sum() == 0 and tuple(unsigned[-1]) == (252, 255, 164)
    assert signed[0][2] > signed[0][0] and signed[-1][0] > signed[-1][2]
    assert signed[2].sum() < 40


def test_ticks_name_the_ends_and_say_when_values_lie_beyond() -> None:
    assert Bar(2.0, False, False).ticks == [(0.0, "0"), (1.0, "2")]
    assert Bar(1.5e-6, True, True).ticks == [(0.0, "≤−1.5e-6"), (0.5, "0"), (1.0, "≥1.5e-6")]
    assert [compact(v) for v in (0.034, 12.3, 456.7, 12345.6, 0.00099)] == [
        "0.034", "12", "457", "1.2e4", "9.9e-4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("signed", "values", "diverging"),
    [(False, [[0.0, 1.0]], False), (True, [[0.0, 1.0]], True), (False, [[-0.1, 1.0]], True)],
)
def test_colours_diverge_by_method_and_where_there_are_negatives(
    signed: bool, values: list[list[float]], diverging: bool
) -> None:
    picture = map_picture(Scan(GREY), Map("m", np.array(values), signed=signed))
    assert picture.bar is not None and picture.bar.signed is diverging


@pytest.mark.parametrize(("value", "words"), [(0.0, "all zero"), (np.nan, "holds NaN")])
def test_maps_of_nothing_are_pale_and_say_so(value: float, words: str) -> None:
    picture = map_picture(Scan(GREY), Map("m", np.full((2, 3), value)))
    assert picture.words.startswith(words) and picture.bar is None
    assert picture.pixels.min() > 150 and (picture.pixels == picture.pixels[..., :1]).all()


def test_maps_mostly_cut_off_carry_a_warning() -> None:
    seen = Map("m", np.array([[0.0, 1.0]]), clipped=0.95)
    assert "95 %" in map_picture(Scan(GREY), seen).words
    assert map_picture(Scan(GREY), Map("m", seen.values, clipped=0.5)).words == ""


def test_bars_keep_the_explained_class_among_the_likeliest() -> None:
    many = {f"c{i}": 1 - i / 40 for i in range(40)}
    shown = Bars("p", many, explained="c39").shown
    assert len(shown) == 12 and list(shown)[-1] == "c39" and next(iter(shown)) == "c0"
    assert Bars("p", {"a": 0.1, "b": 0.9}).shown == {"a": 0.1, "b": 0.9}


# --- the page -----------------------------------------------------------------------------------


def test_lines_end_where_their_room_does() -> None:
    long = "a method with a name that is much longer than any picture is wide"
    short = fitted(long, 1.5, 8)
    assert short.endswith("…") and width_of(short, 8) <= 1.5 < width_of(long, 8)
    assert fitted("Grad-CAM", 1.5, 8) == "Grad-CAM"
    lines = wrapped(long, 1.5, 8).splitlines()
    assert " ".join(lines) == long and max(width_of(line, 8) for line in lines) <= 1.5


def test_cells_of_a_page_do_not_overlap_and_lie_on_it() -> None:
    paper = Paper(3, 2.0, (1.0, 1.5, 0.5), (True, False, True), notes=2, legend=1)
    boxes = [paper.box(row, column) for row in range(3) for column in range(3)]
    assert paper.box(0, 1)[0] - paper.box(0, 0)[0] == pytest.approx(2.0 + GUTTER)
    for row in range(2):
        above, below = paper.box(row, 0), paper.box(row + 1, 0)
        assert above[1] + above[3] < below[1] - 0.36 + 1e-9, "room for the two lines of the title"
    assert max(left + width for left, _, width, _ in boxes) < paper.width
    assert max(top + height for _, top, _, height in boxes) < paper.height


def size_of(png: bytes) -> tuple[float, float]:
    """Width and height in inches."""
    picture = Image.open(io.BytesIO(png))
    return picture.width / DPI, picture.height / DPI


@pytest.mark.parametrize("shape", [(32, 512), (128, 192), (512, 64), (8, 8)])
def test_scans_of_any_shape_make_a_page_of_sane_size(shape: tuple[int, int]) -> None:
    picture = scan_picture(Scan(np.zeros(shape, dtype=np.uint8)), NAMES[0], NAMES[2])
    width, height = size_of(sheet_png([Strip([picture, None, picture], NAMES[1])], title=NAMES[2]))
    assert 5 < width < 12 and 1 < height < 7


def lesioned(seed: int = 0, shape: tuple[int, int] = (48, 64)) -> Scan:
    """A noise scan with two lesions."""
    image = np.random.default_rng(seed).integers(0, 120, shape, dtype=np.uint8)
    mask = np.zeros(shape, dtype=np.uint8)
    mask[10:30, 20:40], mask[35:40, 5:12] = 1, 4
    return Scan(image, mask, {1: "intraretinal_cyst"})


def test_outlines_are_drawn_in_the_colour_of_the_lesion() -> None:
    drawn = rgba(sheet_png([Strip([scan_picture(lesioned())])], title="t"))
    assert [outline.name for outline in lesioned().outlines] == ["intraretinal cyst", "lesion 4"]
    for value in (1, 4):
        hue = np.array([int(lesion_colour(value)[i : i + 2], 16) for i in (1, 3, 5)])
        near = np.abs(drawn[..., :3].astype(int) - hue).max(2) < 40
        assert near.sum() > 50, "the outline and its key"
    bare = rgba(sheet_png([Strip([scan_picture(Scan(lesioned().image))])], title="t"))
    assert bare.shape[0] < drawn.shape[0], "no key where there are no lesions"


@pytest.mark.parametrize("count", [0, 1, 6, 30])
def test_panels_of_up_to_thirty_methods(count: int) -> None:
    rng = np.random.default_rng(0)
    maps = [Map(NAMES[i % 3], rng.normal(size=(6, 8)), "for CNV, p = 0.5") for i in range(count)]
    drawn = panel_png(
        lesioned(), maps, {"CNV": 0.5, NAMES[0]: 0.5}, explained="CNV", title=NAMES[2]
    )
    width, height = size_of(drawn)
    cells = count + 2
    columns = min(cells, columns_for(cells))
    assert width == pytest.approx(0.3 + columns * (3.0 + GUTTER), abs=0.02)
    assert height > -(-cells // columns) * 3.0 * 48 / 64
    assert columns_for(32) == 6


def test_blocks_are_as_few_and_even_as_can_be() -> None:
    assert blocks(6, 6) == [(0, 6)]
    assert blocks(9, 6) == [(0, 5), (5, 9)]
    assert blocks(30, 6) == [(start, start + 6) for start in range(0, 30, 6)]
    assert blocks(1, 6) == [(0, 1)]


def test_comparisons_of_frames_of_several_shapes_and_of_what_is_not_defined() -> None:
    wide, square = lesioned(0, (24, 96)), lesioned(1, (64, 64))
    seen = [
        Seen(wide, Map("a", np.eye(3), "for CNV, p = 0.5")),
        Seen(square, Map("b", -np.eye(3), "for DME, p = 0.5", signed=True)),
        Seen(square, "is not defined here: " + "the layer has a single position " * 30, "c"),
    ]
    rows = [Row(NAMES[0], wide, seen), Row(NAMES[2], square, seen)]
    width, height = size_of(comparison_png(rows, title=NAMES[1], note="how to read it " * 30))
    assert width > 4 * 2.0 and height > 2 * 2.0


# --- occlusion, heads, patches ------------------------------------------------------------------


def test_occlusion_figure() -> None:
    scan = lesioned()
    before, after = {"CNV": 1.6, "DME": 2.3}, {"CNV": -0.1, "DME": 3.5}
    covered = Covered(np.zeros_like(scan.image), (10, 20, 16, 16), before, after)
    for cam in (Map("Grad-CAM", np.eye(3)), "is not defined here"):
        drawn = occlusion_png(
            scan, cam, Map("Occlusion", np.eye(4) - 0.5, signed=True), covered,
            explained="DME", title=NAMES[0], note="which window",
        )  # fmt: skip
        assert size_of(drawn)[0] > 9


def test_top_mass_is_the_fewest_positions_that_hold_the_share() -> None:
    values = np.array([[5.0, 1.0], [3.0, 1.0]])
    assert top_mass(values, 0.5).tolist() == [[True, False], [False, False]]
    assert top_mass(values, 0.51).tolist() == [[True, False], [True, False]]
    assert top_mass(values, 0.8).tolist() == [[True, False], [True, False]]
    assert top_mass(values, 0.81).all(), "equal values stay together"
    assert not top_mass(np.zeros((2, 2))).any()
    assert top_mass(np.full((3, 3), 0.1)).all()
    assert top_mass(np.array([[-4.0, np.nan, 1.0]])).tolist() == [[False, False, True]]
    rng = np.random.default_rng(0)
    for _ in range(20):  # against every prefix of the order
        values = rng.random((5, 7)) ** 3
        falling = np.sort(values.ravel())[::-1]
        fewest = next(n for n in range(1, 36) if falling[:n].sum() >= 0.6 * values.sum())
        assert top_mass(values, 0.6).sum() == fewest
        assert values[top_mass(values, 0.6)].min() == falling[fewest - 1]


def test_masks_of_patches_are_stretched_by_the_centres_of_the_pixels() -> None:
    mask = np.array([[True, False, True]])
    assert stretched(mask, (2, 6)).tolist() == [[True, True, False, False, True, True]] * 2
    uneven = stretched(mask, (1, 7))[0]
    assert uneven.tolist() == [True, True, False, False, False, True, True]


def test_the_spotlight_leaves_the_chosen_as_it_is_and_veils_the_rest() -> None:
    chosen = np.zeros(GREY.shape, dtype=bool)
    chosen[:, :6] = True
    got = spotlit(np.where(chosen, GREY, 0).astype(np.uint8), chosen)
    assert (got[:, :6] == 100).all()
    assert got[0, -1, 2] > got[0, -1, 0] > 0, "black that is not chosen is not black"


@pytest.mark.parametrize("heads", [1, 3, 12])
def test_heads_figure(heads: int) -> None:
    maps = np.random.default_rng(0).random((heads, 3, 4))
    width, height = size_of(heads_png([Heads(NAMES[0], lesioned(), maps)] * 2, title=NAMES[1]))
    rows = 2 * 2 * len(blocks(heads + 2, 7))
    assert height > rows * 1.9 * 48 / 64 and width < 20


def test_patches_have_the_pixels_of_the_scan_with_gaps_between() -> None:
    image = np.arange(6 * 9, dtype=np.uint8).reshape(6, 9)
    laid = patch_grid(image, (3, 3), 2)
    assert laid.shape == (3 + 2 + 3, 3 + 2 + 3 + 2 + 3)
    assert np.array_equal(laid[:3, :3], image[:3, :3])
    assert np.array_equal(laid[5:, 10:], image[3:, 6:])
    assert (laid[3:5] == 255).all() and (laid[:, 3:5] == 255).all()
    uneven = patch_grid(image, (4, 4), 1)
    assert uneven.shape == (2 * 4 + 1, 3 * 4 + 2)
    assert (uneven[-2:] == 0)[:, :4].all(), "rows that the scan does not have are zero"


def test_patches_figure() -> None:
    width, height = size_of(patches_png(lesioned().image, (16, 8), title="t", extra=1))
    assert 7 < width < 9 and 5 < height < 8
    assert isinstance(scan_picture(lesioned()), Picture)
