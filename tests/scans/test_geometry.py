import itertools
import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from octoscope.scans.geometry import RetinaLayers, segment_retina
from octoscope.scans.geometry.continued import without_borders
from octoscope.scans.geometry.cut import below_the_frame
from octoscope.scans.geometry.opinion import distance
from octoscope.scans.geometry.path import cheapest_pair, cheapest_path
from octoscope.scans.geometry.profiles import means_beside
from octoscope.scans.phantom import CLASSES, draw_acquisition, draw_eye, render
from octoscope.scans.phantom.artefacts import (
    Marked,
    clipped,
    faint,
    registered,
    with_exudates,
    with_hyaloid,
    without_retina,
)

DEVICES = ("spectralis", "cirrus", "topcon")
HEIGHT, WIDTH = 496, 512


def layered(slope: float = 0.0, bow: float = 0.0, looks: int = 4, seed: int = 0):
    """A retina of five layers with speckle; its two surfaces by formula, rows of the image."""
    column = np.arange(WIDTH) - WIDTH / 2
    rpe = 260 + slope * column + bow * column**2 / WIDTH
    pit = np.exp(-((column / 60) ** 2))
    ilm = rpe - 80 + 28 * pit
    depth = (np.arange(HEIGHT)[:, None] - ilm) / (rpe - ilm)
    layers = np.select(
        [depth < 0, depth < 0.12, depth < 0.55, depth < 0.75, depth < 0.9, depth < 1],
        [0.01, 0.16, 0.06, 0.03, 0.015, 0.35],
        0.07 * np.exp(-np.maximum(depth - 1, 0) * 1.2),
    )
    blurred = ndimage.gaussian_filter(layers, (0.7, 0.7))
    speckle = np.random.default_rng(seed).gamma(looks, 1 / looks, blurred.shape)
    image = 255 * np.clip(blurred * speckle, 0, 1) ** 0.4
    return image.astype(np.uint8), ilm - 0.5, rpe - 0.5


def error(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.abs(found - true).mean())


# The paths, against all paths


def all_paths(rows: int, columns: int, reach: int):
    for path in itertools.product(range(rows), repeat=columns):
        if all(abs(b - a) <= reach for a, b in itertools.pairwise(path)):
            yield path


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("reach", [1, 2])
def test_cheapest_path_is_the_cheapest_of_all(seed, reach):
    rng = np.random.default_rng(seed)
    cost = rng.normal(size=(2, 4, 5))
    step_cost = rng.uniform(0, 1, 2 * reach + 1)  # not symmetric: up and down may differ
    found = cheapest_path(cost, step_cost)
    for problem in range(2):

        def total(path, problem=problem):
            steps = sum(step_cost[b - a + reach] for a, b in itertools.pairwise(path))
            return sum(cost[problem, r, c] for c, r in enumerate(path)) + steps

        best = min(all_paths(4, 5, reach), key=total)
        assert tuple(found[problem]) == best


@pytest.mark.parametrize("seed", range(6))
def test_cheapest_pair_is_the_cheapest_of_all_pairs(seed):
    rng = np.random.default_rng(seed)
    rows, columns, reach = 4, 4, 1
    upper, lower = rng.normal(size=(2, rows, columns))
    apart = np.arange(rows)[None] - np.arange(rows)[:, None]
    pair = np.where(apart < 1, 1e4, rng.normal(size=(rows, rows)))
    step_cost = np.array([0.4, 0.0, 0.4])

    def total(both):
        steps = sum(step_cost[b - a + 1] for p in both for a, b in itertools.pairwise(p))
        pixels = [
            upper[i, c] + lower[j, c] + pair[i, j]
            for c, (i, j) in enumerate(zip(*both, strict=True))
        ]
        return sum(pixels) + steps

    paths = list(all_paths(rows, columns, reach))
    best = min(itertools.product(paths, paths), key=total)
    found = cheapest_pair(upper, lower, pair, step_cost)
    assert tuple(found[0]) == best[0] and tuple(found[1]) == best[1]


def test_means_beside_a_boundary():
    values = np.arange(12.0).reshape(6, 2)
    above, below = means_beside(values, 2)
    assert above.shape == below.shape == (7, 2)
    assert above[3] == pytest.approx(values[1:3].mean(axis=0))
    assert below[3] == pytest.approx(values[3:5].mean(axis=0))
    assert below[5] == pytest.approx(values[5])
    assert (above[0] == below[0]).all() and (above[6] == below[6]).all()


# Surfaces that are known by formula


@pytest.mark.parametrize("slope", [0.0, 0.25, -0.4])
@pytest.mark.parametrize("bow", [0.0, 0.35])
def test_surfaces_of_a_layered_retina(slope, bow):
    image, ilm, rpe = layered(slope, bow)
    layers = segment_retina(image)
    assert layers.found and layers.confidence.mean() > 0.8
    assert error(layers.ilm, ilm) < 1.5
    assert error(layers.rpe, rpe) < 1.5


def test_float_in_unit_range_gives_what_uint8_gives():
    image, _, _ = layered()
    assert (segment_retina(image / 255).rpe == segment_retina(image).rpe).all()


def test_single_look_speckle():
    image, ilm, rpe = layered(looks=1)
    layers = segment_retina(image)
    assert error(layers.ilm, ilm) < 3
    assert error(layers.rpe, rpe) < 3


def test_a_tight_crop_has_the_same_surfaces_though_the_vitreous_is_nearly_gone():
    image, ilm, rpe = layered()
    top, bottom = int(ilm.min()) - 2, int(rpe.max()) + 25
    layers = segment_retina(image[top:bottom])
    assert error(layers.ilm + top, ilm) < 2
    assert error(layers.rpe + top, rpe) < 2


def test_a_crop_into_the_retina_puts_the_ilm_at_the_edge():
    image, ilm, rpe = layered()
    top = int(ilm.max()) + 3
    layers = segment_retina(image[top:])
    assert np.median(layers.ilm) < 4
    assert error(layers.rpe + top, rpe) < 2


def test_white_wedges_do_not_attract_the_surfaces():
    image, ilm, rpe = layered(slope=0.1)
    rows, columns = np.indices(image.shape)
    image[rows < 110 - 0.3 * columns] = 255
    image[rows > 420 + 0.1 * columns] = 255
    image[:, -12:] = 255
    layers = segment_retina(image)
    shown = slice(0, WIDTH - 16)
    assert error(layers.ilm[shown], ilm[shown]) < 1.5
    assert error(layers.rpe[shown], rpe[shown]) < 1.5
    assert not layers.valid[-12:].any() and layers.valid[shown].all()
    assert (layers.confidence[-12:] == 0).all()


def test_vessel_shadows_are_bridged():
    image, ilm, rpe = layered()
    for column in (90, 200, 330, 430):
        below = np.arange(HEIGHT)[:, None] > ilm[None, column : column + 9] + 12
        part = image[:, column : column + 9]
        part[below] = (part[below] * 0.25).astype(np.uint8)
    layers = segment_retina(image)
    assert error(layers.rpe, rpe) < 2.5


# Phantoms: the goal is a mean absolute error of at most 3 pixels at 496 rows


def phantom(label: str, device: str, severity: float, seed: int):
    eye = draw_eye("0", label, severity, seed, device=device)
    return render(eye, draw_acquisition(eye, HEIGHT, 768, seed + 1))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("label", CLASSES)
def test_mean_absolute_error_on_phantoms(label, device):
    errors = []
    for seed in (11, 12, 13):
        scan = phantom(label, device, 0.0 if label == "NORMAL" else 0.5, seed)
        layers = segment_retina(scan.image)
        assert layers.found
        true_rpe = np.minimum(scan.surfaces["RPE base"], HEIGHT - 0.5)
        errors.append((error(layers.ilm, scan.surfaces["ILM"]), error(layers.rpe, true_rpe)))
    ilm, rpe = np.mean(errors, axis=0)
    assert ilm <= 3 and rpe <= 3


# What goes wrong with scans, planted into phantoms


@pytest.fixture(scope="module")
def marked() -> list[Marked]:
    """Phantoms of every class with their true surfaces."""
    drawn = [
        phantom(k, d, 0.5, 40 + n)
        for n, (k, d) in enumerate(zip(CLASSES, (*DEVICES, "cirrus"), strict=True))
    ]
    return [Marked.of_phantom(scan) for scan in drawn]


def worst_error(scan: Marked, layers: RetinaLayers) -> float:
    """The larger mean error of both surfaces, in the columns in which they are known."""
    known = np.isfinite(scan.ilm) & np.isfinite(scan.rpe) & layers.valid
    pairs = ((layers.ilm, scan.ilm), (layers.rpe, scan.rpe))
    return max(error(found[known], true[known]) for found, true in pairs)


@pytest.mark.parametrize("fill", [0, 8, 12, 15, 25, 90, 255])
def test_borders_of_any_grey_value_do_not_attract_the_surfaces(marked, fill):
    for degrees, quality, scan in zip((-6, 7, 3, -8), (None, 75, 85, 95), marked, strict=True):
        tilted = registered(scan, degrees=degrees, down=30, right=-25, fill=fill, quality=quality)
        layers = segment_retina(tilted.image)
        assert layers.found and worst_error(tilted, layers) < 4


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("brightness", [40, 130])
def test_the_ilm_does_not_jump_to_the_hyaloid(marked, brightness, attached):
    rng = np.random.default_rng(brightness)
    for gap, scan in zip((25, 40, 60, 90), marked, strict=True):
        planted = with_hyaloid(scan, rng, gap=gap, brightness=brightness, attached=attached)
        layers = segment_retina(planted.image)
        assert not layers.found or worst_error(planted, layers) < 5


def test_exudates_and_their_shadows_are_bridged_or_doubted(marked):
    rng = np.random.default_rng(3)
    errors = []
    for scan in marked:
        planted = with_exudates(scan, rng, count=8)
        layers = segment_retina(planted.image)
        errors.append(worst_error(planted, layers) if layers.found else 0.0)
    assert np.mean(errors) < 4


def test_a_faint_scan_keeps_its_surfaces(marked):
    planted = faint(marked[0], np.random.default_rng(0), share=0.3)
    assert worst_error(planted, segment_retina(planted.image)) < 4


@pytest.mark.parametrize("part", [0.4, 0.7])
def test_a_retina_that_leaves_the_frame_is_not_called_found(marked, part):
    for scan in marked:
        for planted in (clipped(scan, above=part), clipped(scan, below=part)):
            layers = segment_retina(planted.image)
            assert not layers.found or worst_error(planted, layers) < 5
        above = clipped(scan, above=part)
        layers = segment_retina(above.image)
        assert not layers.found and layers.confidence[above.ilm <= -0.5].mean() < 0.3


def test_vitreous_or_choroid_alone_is_no_retina(marked):
    rng = np.random.default_rng(1)
    for scan in marked:
        assert not segment_retina(without_retina(scan, rng).image).found


def test_padding_changes_neither_surface_nor_confidence(marked):
    scan = marked[3]
    padded = np.zeros((700, scan.image.shape[1]), np.uint8)
    padded[120:616] = scan.image
    layers, plain = segment_retina(padded), segment_retina(scan.image)
    assert layers.found
    assert error(layers.ilm - 120, plain.ilm) < 0.5 and error(layers.rpe - 120, plain.rpe) < 0.5


def test_where_a_seam_cuts_the_retina_nothing_is_sure():
    image, ilm, _ = layered(slope=0.3)
    rows, columns = np.indices(image.shape)
    image[rows < 260 - 0.4 * columns] = 12
    layers = segment_retina(image)
    hidden = 260 - 0.4 * np.arange(WIDTH) > ilm + 8
    assert hidden.sum() > 30
    assert layers.confidence[hidden].mean() < 0.2 and layers.confidence[~hidden].mean() > 0.8


def test_a_scan_is_continued_into_its_borders_from_the_nearer_seam():
    """Against a loop over the pixels."""
    rng = np.random.default_rng(0)
    grey = rng.integers(20, 60, (60, 80)).astype(np.uint8)
    rows, columns = np.indices(grey.shape)
    shown = (columns > 9 + rows // 12) & (rows > 14 + columns // 40) & (columns < 70)
    filled, beside = without_borders(grey, shown)
    assert (filled[shown] == grey[shown]).all() and not beside[shown].any()
    for row, column in np.argwhere(~shown):
        in_row, in_column = np.flatnonzero(shown[row]), np.flatnonzero(shown[:, column])
        across = np.abs(in_row - column).min() if len(in_row) else 99
        upright = np.abs(in_column - row).min() if len(in_column) else 99
        if min(across, upright) == 99:
            continue
        assert beside[row, column] == (across <= upright)
        if beside[row, column]:
            nearest = in_row[:8] if column < in_row[0] else in_row[-8:]
            assert filled[row, column] == int(grey[row, nearest].mean())


@pytest.mark.parametrize("fill", [8, 15, 60])
def test_surfaces_do_not_leave_for_the_edge_at_a_border_beside_the_scan(marked, fill):
    for degrees, right, scan in zip((-9, 8, -7, 9), (90, -90, 60, -60), marked, strict=True):
        moved = registered(scan, degrees=degrees, right=right, fill=fill)
        layers = segment_retina(moved.image)
        known = np.isfinite(moved.ilm) & layers.valid & (moved.ilm > 5)
        assert np.abs(layers.ilm - moved.ilm)[known].max() < 25
        assert not layers.valid[: 30 if right > 0 else 0].any()


def test_a_layer_above_an_rpe_that_the_frame_cannot_hold_is_doubted():
    ilm = np.array([20.0, 30, 40, 45, 50, 50, 50])
    rpe = np.array([50.0, 60, 70, 70, 70, 60, 58])  # of 70 rows: 25 thick where it leaves
    values = np.ones((70, 7), np.float32)
    assert below_the_frame(values, ilm, rpe).tolist() == [False] * 5 + [True] * 2
    assert not below_the_frame(values, ilm, rpe - 8).any()


def test_how_far_two_opinions_on_the_ilm_are_apart():
    first, second = np.array([[10.0] * 4, [30.0] * 4]), np.array([[10.0, 12, 18, 10], [20.0] * 4])
    assert distance(first, second) == pytest.approx(8 / 4 / 20)


# What is no retina


@pytest.mark.parametrize("seed", range(3))
def test_two_lines_in_a_vitreous_are_no_retina(seed):
    """A hyaloid and its mirror image: contrast enough, but dark between and below."""
    rng = np.random.default_rng(seed)
    rows = np.arange(HEIGHT)[:, None]
    lines = sum(0.5 * np.exp(-(((rows - at) / 2.5) ** 2)) for at in (200, 250))
    speckled = (0.01 + lines * np.ones((1, WIDTH))) * rng.gamma(4, 0.25, (HEIGHT, WIDTH))
    assert not segment_retina((255 * speckled.clip(0, 1) ** 0.6).astype(np.uint8)).found


@pytest.mark.parametrize(
    "image",
    [
        np.full((300, 400), 90, np.uint8),
        np.zeros((300, 400), np.uint8),
        np.full((300, 400), 255, np.uint8),
        np.random.default_rng(0).integers(0, 256, (496, 768)).astype(np.uint8),
        np.random.default_rng(0).gamma(2, 12, (300, 500)).clip(0, 255).astype(np.uint8),
        np.tile(np.linspace(0, 255, 400).astype(np.uint8), (300, 1)),
        np.full((1, 500), 90, np.uint8),
        np.full((500, 1), 90, np.uint8),
        np.random.default_rng(0).integers(0, 256, (9, 9)).astype(np.uint8),
        np.random.default_rng(0).integers(0, 256, (7, 900)).astype(np.uint8),
    ],
    ids=["flat", "black", "white", "noise", "speckle", "ramp", "row", "column", "9×9", "7×900"],
)
def test_no_retina_is_found_where_there_is_none(image):
    layers = segment_retina(image)
    height, width = image.shape
    assert not layers.found
    for surface in (layers.ilm, layers.rpe, layers.confidence, layers.valid):
        assert surface.shape == (width,)
    assert (layers.ilm <= layers.rpe).all()
    assert layers.ilm.min() >= -0.5 and layers.rpe.max() <= height - 0.5
    top, left, bottom, right = layers.band(image.shape, 0.2)
    assert 0 <= top < bottom <= height and 0 <= left < right <= width


@settings(max_examples=80, deadline=None)
@given(
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    blur=st.sampled_from([0, 1, 5]),
    border=st.sampled_from([None, 0, 255]),
    seed=st.integers(0, 2**31),
)
def test_any_picture_is_gone_through_without_a_warning(height, width, blur, border, seed):
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.normal(size=(height, width)) ** 2 * 90, blur)
    image = image.clip(0, 255).astype(np.uint8)
    if border is not None:
        rows, columns = np.indices(image.shape)
        image[rows < rng.uniform(-40, 80) + rng.uniform(-2, 2) * columns] = border
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layers = segment_retina(image)
    assert np.isfinite(layers.ilm).all() and np.isfinite(layers.rpe).all()
    assert (layers.ilm <= layers.rpe).all()
    assert layers.ilm.min() >= -0.5 and layers.rpe.max() <= height - 0.5
    assert layers.confidence.min() >= 0 and layers.confidence.max() <= 1


def test_a_smooth_cloud_is_no_retina():
    cloud = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(496, 768)), 6)
    cloud = (255 * (cloud - cloud.min()) / np.ptp(cloud)).astype(np.uint8)
    assert not segment_retina(cloud).found


# Mask and band


def test_mask_and_band_of_known_surfaces():
    ilm, rpe = np.array([1.5, 1.5, 2.5, 0.5]), np.array([3.5, 4.5, 4.5, 3.5])
    valid = np.array([True, True, True, False])
    layers = RetinaLayers(ilm, rpe, np.ones(4), valid, True)
    expected = np.zeros((7, 4), bool)
    expected[2:4, 0] = expected[2:5, 1] = expected[3:5, 2] = True
    assert (layers.mask((7, 4)) == expected).all()
    assert layers.band((7, 4)) == (2, 0, 5, 3)
    assert layers.band((7, 4), margin=0.5) == (1, 0, 6, 3)
    assert layers.band((7, 4), margin=9) == (0, 0, 7, 3)


# Real scans


@pytest.fixture(scope="module")
def outlined(real_data):
    """Every sixth real scan with its lesion mask and what is found in it."""
    folder = real_data / "kermany-lesions"
    value = {name: int(v) for v, name in json.loads((folder / "lesions.json").read_text()).items()}
    scans = []
    for path in sorted((folder / "images").rglob("*.jpeg"))[::6]:
        mask_path = folder / "masks" / path.relative_to(folder / "images").with_suffix(".png")
        image = np.asarray(Image.open(path).convert("L"))
        scans.append((image, np.asarray(Image.open(mask_path)), segment_retina(image)))
    return value, scans


def test_a_retina_is_found_in_nearly_every_real_scan(outlined):
    """The rest are scans on which the two opinions part: atrophy, a huge cyst, a steep edge."""
    _, scans = outlined
    assert len(scans) > 40
    assert np.mean([layers.found for _, _, layers in scans]) > 0.85


def test_dark_borders_on_real_scans_leave_the_surfaces_where_they_were(outlined):
    _, scans = outlined
    clean = [(image, layers) for image, _, layers in scans[::8] if layers.found]
    errors = []
    for number, (image, layers) in enumerate(clean):
        scan = Marked(image, layers.ilm, layers.rpe)
        tilted = registered(scan, degrees=(-4, 5)[number % 2], fill=8 + number, quality=85)
        again = segment_retina(tilted.image)
        errors.append(worst_error(tilted, again) if again.found else 0.0)
    assert len(errors) > 4
    assert np.mean(np.array(errors) > 5) <= 0.2


def test_cysts_that_a_person_outlined_lie_between_the_surfaces(outlined):
    value, scans = outlined
    inside = [
        layers.mask(image.shape)[mask == value["intraretinal_cyst"]].mean()
        for image, mask, layers in scans
        if (mask == value["intraretinal_cyst"]).sum() > 50
    ]
    assert len(inside) > 10
    assert np.mean(inside) > 0.95
    assert np.median(inside) > 0.99


def test_drusen_that_a_person_outlined_touch_the_rpe(outlined):
    value, scans = outlined
    distances = []
    for _, mask, layers in scans:
        rows, columns = np.nonzero(mask == value["retinal_drusen"])
        if len(rows) > 200:
            distances.append(np.abs(rows - layers.rpe[columns]).mean())
    assert len(distances) > 15
    assert np.median(distances) < 12  # of a retina that is 80 rows thick
