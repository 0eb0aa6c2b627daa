"""B-scans: the mask is what changed, patients look like themselves, seeds decide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, gaussian_filter

from octoscope.scans.phantom.bscan import Acquisition, draw_acquisition, positions, render
from octoscope.scans.phantom.diseases import CLASSES
from octoscope.scans.phantom.lesions import LESION_VALUES, Disease
from octoscope.scans.phantom.patient import Eye, draw_eye

HEIGHT, WIDTH = 256, 384


def eye_of(label: str, seed: int = 5, severity: float = 0.9, device: str = "spectralis") -> Eye:
    return draw_eye("1", label, severity, seed, device=device)


def plain(eye: Eye, y: float = 0.0, seed: int = 1, **options: object) -> Acquisition:
    return replace(draw_acquisition(eye, HEIGHT, WIDTH, seed, y=y), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("label", CLASSES)
def test_a_bscan_is_whole(label: str) -> None:
    eye = eye_of(label)
    scan = render(eye, plain(eye))
    assert scan.image.shape == scan.mask.shape == (HEIGHT, WIDTH)
    assert scan.image.dtype == scan.mask.dtype == np.uint8
    assert set(np.unique(scan.mask)) <= {0, *LESION_VALUES.values()}
    assert all(rows.shape == (WIDTH,) for rows in scan.surfaces.values())
    rows = np.array(list(scan.surfaces.values()))
    assert np.all(np.diff(rows, axis=0) >= 0)
    assert rows.min() > 0 and rows.max() < HEIGHT
    assert scan.label == label and (scan.severity > 0) == (label != "NORMAL")


@pytest.mark.parametrize("shape", [(64, 64), (122, 425), (496, 768)])
def test_any_size(shape: tuple[int, int]) -> None:
    eye = eye_of("CNV")
    scan = render(eye, draw_acquisition(eye, *shape, 3))
    assert scan.image.shape == shape
    assert scan.spacing[0] * shape[0] == pytest.approx(eye.device.depth)


def test_the_seed_decides_everything() -> None:
    one, two = (render(e, plain(e, seed=9)) for e in (eye_of("DME"), eye_of("DME")))
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.mask, two.mask)
    other = render(eye_of("DME"), plain(eye_of("DME"), seed=10))
    assert not np.array_equal(one.image, other.image)


@pytest.mark.parametrize("label", ["DME", "CNV"])
def test_only_masked_pixels_differ_when_pockets_are_filled(label: str) -> None:
    """With the same swelling and the same noise, taking cysts out changes the mask's pixels only.

    The axial point spread carries the change two rows further; exudates shade what lies below.
    """
    eye = _eye_with_cysts(label)
    how = plain(eye)
    mounds_only = replace(eye, disease=replace(eye.disease, pockets=[]))
    with_, without = render(eye, how), render(mounds_only, how)
    cysts = with_.mask == LESION_VALUES["intraretinal_cyst"]
    changed = with_.image != without.image
    reach = binary_dilation(cysts, np.ones((7, 1), bool))
    assert np.count_nonzero(cysts) > 100
    assert changed[cysts].mean() > 0.85
    assert not np.any(changed & ~reach)
    # Cysts are dark: what the noise leaves there is far below the tissue that was there.
    assert with_.image[cysts].mean() < 0.6 * without.image[cysts].mean()


def _eye_with_cysts(label: str) -> Eye:
    """An eye whose cut at y = 0 holds cysts, exudates left out."""
    for seed in range(40):
        eye = eye_of(label, seed)
        cysts = [p for p in eye.disease.pockets if p.name == "intraretinal_cyst"]
        eye = replace(eye, disease=replace(eye.disease, pockets=cysts))
        if np.count_nonzero(render(eye, plain(eye)).mask == 1) > 100:
            return eye
    raise AssertionError("no eye with cysts")


def test_columns_without_a_mound_are_those_of_the_healthy_eye() -> None:
    """Same noise, same place: where no lesion lifts anything, not one pixel differs."""
    sick = eye_of("DRUSEN", 11)
    well = replace(sick, disease=Disease("NORMAL", 0.0))
    how = plain(sick)
    a, b = render(sick, how), render(well, how)
    np.testing.assert_array_equal(a.surfaces["BM"], b.surfaces["BM"])
    x, y = positions(sick, how)
    free = np.ones(WIDTH, bool)
    for mound in sick.disease.mounds:
        free &= mound.lifted.distance2(x, y) >= 1
    # The glint of the inner limiting membrane looks at the slope of the columns beside it.
    free = ~binary_dilation(~free, np.ones(41, bool))
    assert 10 < np.count_nonzero(free) < WIDTH
    np.testing.assert_array_equal(a.image[:, free], b.image[:, free])
    drusen = a.mask > 0
    assert np.count_nonzero(drusen) > 100
    assert (a.image != b.image)[drusen].mean() > 0.85


@pytest.mark.parametrize(
    ("name", "label", "darker"),
    [
        ("subretinal_fluid", "CNV", True),
        ("subretinal_hyperreflective_material", "CNV", False),
        ("hard_exudate", "DME", False),
    ],
)
def test_lesions_have_the_brightness_a_reader_expects(name: str, label: str, darker: bool) -> None:
    """Against the outer nuclear layer of the same scans."""
    inside, beside = [], []
    for seed in range(12):
        eye = eye_of(label, seed)
        scan = render(eye, plain(eye))
        pixels = scan.image[scan.mask == LESION_VALUES[name]]
        row = np.arange(HEIGHT)[:, None]
        onl = (row > scan.surfaces["OPL/ONL"] + 1) & (row < scan.surfaces["ELM"] - 1)
        if len(pixels) > 20:
            inside.append(pixels.mean())
            beside.append(scan.image[onl & (scan.mask == 0)].mean())
    assert len(inside) >= 3
    assert np.all(np.array(inside) < beside) if darker else np.all(np.array(inside) > beside)


def test_the_double_band_is_the_brightest_and_the_outer_nuclear_layer_the_darkest() -> None:
    """Layer contrast as in every real scan: ONL < INL < IPL < RPE."""
    eye = eye_of("NORMAL", 3)
    scan = render(eye, plain(eye))
    names = list(scan.surfaces)
    row = np.arange(HEIGHT)[:, None]

    def grey(top: str) -> float:
        bottom = scan.surfaces[names[names.index(top) + 1]]
        inside = (row >= scan.surfaces[top]) & (row <= bottom)
        return float(scan.image[inside].mean())

    assert grey("OPL/ONL") < grey("IPL/INL") < grey("GCL/IPL") < grey("RPE")
    assert grey("EZ") > 1.8 * grey("OPL/ONL")


def test_left_and_right_eyes_are_mirror_images() -> None:
    right = draw_eye("1", "NORMAL", 0, 4, laterality="OD", device="spectralis")
    left = replace(right, laterality="OS")
    how = plain(right, centre=0.0, tilt=0.0)
    a, b = render(right, how), render(left, how)
    for name, rows in a.surfaces.items():
        np.testing.assert_allclose(rows, b.surfaces[name][::-1], atol=1e-9)
    thick = (a.surfaces["RNFL/GCL"] - a.surfaces["ILM"])[[20, -20]]
    assert thick[1] > thick[0], "fibres of a right eye are thickest on the right"


def test_scans_of_a_patient_are_more_alike_than_those_of_different_patients() -> None:
    flat = {}
    for patient in range(8):
        eye = eye_of("NORMAL", 100 + patient)
        for n in range(3):
            scan = render(eye, plain(eye, seed=n, y=0.05 * n, field=5.8))
            flat[patient, n] = _flattened(scan.image, scan.surfaces["BM"])
    same, different = [], []
    keys = list(flat)
    for i, a in enumerate(keys):
        for b in keys[i + 1 :]:
            r = np.corrcoef(flat[a].ravel(), flat[b].ravel())[0, 1]
            (same if a[0] == b[0] else different).append(r)
    assert np.mean(same) > np.mean(different) + 0.03
    assert np.mean(np.array(same) > np.median(different)) > 0.9


def _flattened(image: np.ndarray, bruch: np.ndarray) -> np.ndarray:
    """The band around Bruch's membrane, blurred, its rows shifted so that the membrane is level."""
    smooth = gaussian_filter(image.astype(float), 1.0)
    rows = np.clip(np.round(bruch).astype(int) + np.arange(-60, 30)[:, None], 0, len(image) - 1)
    return np.take_along_axis(smooth, rows, axis=0)


def test_noise_differs_between_scans_but_the_surfaces_stay() -> None:
    eye = eye_of("NORMAL", 2)
    how = plain(eye)
    a, b = render(eye, how), render(eye, replace(how, seed=how.seed + 1))
    np.testing.assert_array_equal(a.surfaces["ILM"], b.surfaces["ILM"])
    assert (a.image != b.image).mean() > 0.5


@pytest.mark.parametrize("device", ["spectralis", "cirrus", "topcon"])
def test_every_device_shows_the_retina(device: str) -> None:
    eye = eye_of("NORMAL", 1, device=device)
    scan = render(eye, plain(eye))
    row = np.arange(HEIGHT)[:, None]
    retina = (row > scan.surfaces["ILM"]) & (row < scan.surfaces["BM"])
    vitreous = row < scan.surfaces["ILM"] - 8
    assert scan.device == device
    assert scan.image[retina].mean() > 1.5 * scan.image[vitreous].mean()


def test_a_later_visit_is_the_same_eye() -> None:
    early = draw_eye("1", "DRUSEN", 0.3, 8, device="spectralis")
    late = draw_eye("1", "DRUSEN", 1.0, 8, device="spectralis")
    how = plain(early)
    a, b = render(early, how), render(late, how)
    np.testing.assert_array_equal(a.surfaces["BM"], b.surfaces["BM"])
    assert np.count_nonzero(b.mask) > np.count_nonzero(a.mask)
    assert np.mean((a.mask > 0) <= (b.mask > 0)) > 0.99
