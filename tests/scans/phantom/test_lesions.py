"""Lesions: exact extent, nested growth with severity, one truth for lines and surfaces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octoscope.scans.phantom.anatomy import SPACES, Anatomy
from octoscope.scans.phantom.cut import Cut, cut_eye, lesion_bounds, lesion_mask
from octoscope.scans.phantom.diseases import CLASSES, HALLMARKS, grow
from octoscope.scans.phantom.lesions import (
    LESION_VALUES,
    SPACE_LESIONS,
    Disease,
    Mound,
    Place,
    Pocket,
)

X = np.linspace(-2.9, 2.9, 384)
SICK = [label for label in CLASSES if label != "NORMAL"]


def cut_at(label: str, severity: float, seed: int, y: float | np.ndarray) -> tuple[Cut, Disease]:
    disease = grow(label, severity, np.random.default_rng(seed))
    anatomy = Anatomy.draw(np.random.default_rng(seed + 1000))
    y = np.full_like(X, y) if np.ndim(y) == 0 else np.asarray(y)
    return cut_eye(anatomy, disease, X, y).shifted(1.2), disease


def area(label: str, severity: float, seed: int) -> int:
    total = 0
    for y in np.linspace(-1, 1, 9):
        total += int(np.count_nonzero(lesion_mask(*cut_at(label, severity, seed, y), 256, 0.0075)))
    return total


def test_a_mound_is_the_dome_its_equation_says() -> None:
    mound = Mound("DRUSEN", Place(0.5, 0.0, 0.2), 0.1)
    x = np.array([0.5, 0.6, 0.7, 0.9])
    np.testing.assert_allclose(mound(x, np.zeros(4)), 0.1 * np.array([1, 0.75, 0, 0]), atol=1e-12)


def test_the_mask_of_a_lone_cyst_has_the_area_of_its_ellipse() -> None:
    """Oracle: π a b. The layer is thick enough to leave the cyst as it is."""
    cyst = Pocket("intraretinal_cyst", "ONL", 0.5, Place(0.3, 0.0, 0.2), 0.02)
    disease = Disease("DME", 1.0, pockets=[cyst])
    x = np.linspace(-0.2, 0.8, 1000)
    cut = cut_eye(Anatomy.draw(np.random.default_rng(0)), disease, x, np.zeros(1000)).shifted(1.2)
    mask = lesion_mask(cut, disease, 3000, 0.0005)
    assert set(np.unique(mask)) == {0, LESION_VALUES["intraretinal_cyst"]}
    measured = np.count_nonzero(mask) * 0.0005 * (x[1] - x[0])
    assert measured == pytest.approx(np.pi * 0.2 * 0.02, rel=0.01)


def test_the_mask_of_drusen_lies_between_epithelium_and_bruch() -> None:
    """Oracle: the surfaces, compared pixel by pixel."""
    cut, disease = cut_at("DRUSEN", 0.9, 4, 0.1)
    mask = lesion_mask(cut, disease, 256, 0.0075)
    rows = np.arange(256)[:, None] + 0.5
    base, bruch = cut.surfaces["RPE base"] / 0.0075, cut.surfaces["BM"] / 0.0075
    expected = (rows > base) & (rows < bruch)
    assert expected.any()
    np.testing.assert_array_equal(mask == LESION_VALUES["retinal_drusen"], expected)


def test_no_lesion_moves_bruchs_membrane() -> None:
    for label in SICK:
        cut, _ = cut_at(label, 1.0, 2, 0.0)
        well, _ = cut_at("NORMAL", 0.0, 2, 0.0)
        np.testing.assert_array_equal(cut.depth["BM"], well.depth["BM"])


@pytest.mark.parametrize("label", CLASSES)
@pytest.mark.parametrize("seed", range(6))
def test_surfaces_stay_in_order_whatever_lies_between(label: str, seed: int) -> None:
    for y in (-0.6, 0.0, 0.5):
        cut, _ = cut_at(label, 1.0, seed, y)
        rows = np.array(list(cut.surfaces.values()))
        assert next(iter(cut.surfaces)) == "ILM" and list(cut.surfaces)[-1] == "BM"
        assert np.all(np.isfinite(rows)) and np.all(np.diff(rows, axis=0) >= 0)


@pytest.mark.parametrize("label", SICK)
def test_lesions_keep_to_their_place(label: str) -> None:
    """Cysts within the neural retina, the rest between the photoreceptors and Bruch's."""
    for seed in range(5):
        cut, disease = cut_at(label, 1.0, seed, 0.0)
        for name, top, bottom in lesion_bounds(cut, disease):
            there = bottom > top
            if name == "intraretinal_cyst":
                assert np.all(top[there] > cut.surfaces["ILM"][there])
                assert np.all(bottom[there] < cut.surfaces["ELM"][there])
            elif name in SPACE_LESIONS.values():
                assert np.all(top[there] >= cut.surfaces["EZ/OS"][there])
                assert np.all(bottom[there] <= cut.surfaces["BM"][there])


@pytest.mark.parametrize("label", SICK)
def test_area_grows_with_severity(label: str) -> None:
    for seed in range(4):
        areas = [area(label, severity, seed) for severity in (0.1, 0.4, 0.7, 1.0)]
        assert np.all(np.diff(areas) > 0), f"{label} seed {seed}: {areas}"


@settings(deadline=None, max_examples=30)
@given(
    label=st.sampled_from(SICK),
    seed=st.integers(0, 2**31),
    severity=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
)
def test_a_later_stage_keeps_every_lesion_where_it_was(
    label: str, seed: int, severity: tuple[float, float]
) -> None:
    early, late = (grow(label, s, np.random.default_rng(seed)) for s in sorted(severity))
    known = {(m.space, m.place.x, m.place.y): m for m in late.mounds}
    for mound in early.mounds:
        later = known[mound.space, mound.place.x, mound.place.y]
        assert later.height >= mound.height and later.place.radius >= mound.place.radius
    known_pockets = {(p.name, p.place.x, p.place.y): p for p in late.pockets}
    for pocket in early.pockets:
        later_pocket = known_pockets[pocket.name, pocket.place.x, pocket.place.y]
        assert later_pocket.half_height >= pocket.half_height
        assert later_pocket.place.radius >= pocket.place.radius


def test_a_healthy_eye_has_no_lesion() -> None:
    cut, disease = cut_at("NORMAL", 1.0, 0, 0.0)
    assert disease.severity == 0 and not lesion_mask(cut, disease, 256, 0.0075).any()


def test_each_disease_has_its_hallmark() -> None:
    for label, names in HALLMARKS.items():
        found = set()
        for y in np.linspace(-0.8, 0.8, 9):
            mask = lesion_mask(*cut_at(label, 0.8, 1, y), 256, 0.0075)
            found |= {name for name in names if (mask == LESION_VALUES[name]).any()}
        assert found, label


@pytest.mark.parametrize("label", CLASSES)
def test_a_volume_holds_the_same_lesions_as_its_bscans(label: str) -> None:
    """Surfaces and masks over (Z, W) equal those of Z single lines, bit for bit."""
    lines = np.linspace(-0.7, 0.7, 5)
    volume, disease = cut_at(label, 0.9, 7, lines[:, None] * np.ones_like(X))
    masks = lesion_mask(volume, disease, 256, 0.0075)
    assert masks.shape == (5, 256, 384)
    assert volume.surfaces["ILM"].shape == (5, 384)
    assert label == "NORMAL" or masks.any()
    for z, y in enumerate(lines):
        line, _ = cut_at(label, 0.9, 7, y)
        for name, surface in line.surfaces.items():
            np.testing.assert_array_equal(volume.surfaces[name][z], surface)
        np.testing.assert_array_equal(masks[z], lesion_mask(line, disease, 256, 0.0075))


def test_neighbouring_lines_cut_the_same_lesion_differently() -> None:
    here, disease = cut_at("CNV", 0.9, 3, 0.0)
    near, _ = cut_at("CNV", 0.9, 3, 0.03)
    far, _ = cut_at("CNV", 0.9, 3, 0.9)
    a, b, c = (lesion_mask(cut, disease, 256, 0.0075) > 0 for cut in (here, near, far))
    assert 0 < np.count_nonzero(a ^ b) < np.count_nonzero(a ^ c)


def test_names_known_from_the_real_masks_keep_their_values(real_data) -> None:  # type: ignore[no-untyped-def]
    import json

    real = json.loads((real_data / "kermany-lesions" / "lesions.json").read_text())
    shared = {name: int(value) for value, name in real.items() if name in LESION_VALUES}
    assert len(shared) >= 4
    assert {name: LESION_VALUES[name] for name in shared} == shared
    taken = {int(value) for value in real} - set(shared.values())
    assert not taken & set(LESION_VALUES.values())


def test_spaces_and_lesions_match() -> None:
    assert set(SPACE_LESIONS) == set(SPACES)
    assert set(SPACE_LESIONS.values()) <= set(LESION_VALUES)
    assert (
        len(set(LESION_VALUES.values())) == len(LESION_VALUES) and 0 not in LESION_VALUES.values()
    )
