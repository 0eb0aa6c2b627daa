"""Parts of a scan, and filling them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from octoscope.scans.geometry import RetinaLayers
from octoscope.trust.probes.probe import Scans
from octoscope.trust.probes.regions import (
    border_strips,
    corners,
    inpaint,
    paddings,
    registration_borders,
    texts,
)
from octoscope.trust.probes.retina_box import retina_bands, retina_boxes, rpe_line

from .conftest import DME, HEIGHT, WIDTH, Planter


def layers(ilm: np.ndarray, rpe: np.ndarray) -> RetinaLayers:
    width = len(ilm)
    return RetinaLayers(ilm, rpe, np.ones(width), np.ones(width, bool), True)


def test_the_line_is_not_bent_by_a_detachment() -> None:
    column = np.arange(120)
    rpe = 40 + 0.1 * column
    raised = rpe.copy()
    raised[40:70] -= 15
    np.testing.assert_allclose(rpe_line(layers(raised - 20, raised)), rpe, atol=0.2)


def test_bands_are_of_one_height(clean: Scans) -> None:
    heights = retina_bands(clean).sum(axis=1)  # (N, W)
    inside = [
        height for height, band in zip(heights, retina_bands(clean), strict=True)
        if not band[0].any() and not band[-1].any()
    ]  # fmt: skip
    assert len(inside) > 10
    spread = np.ptp(np.concatenate(inside))
    assert spread <= 1  # a line between two rows


def test_boxes_hold_the_retina_and_all_below_it(clean: Scans) -> None:
    boxes = retina_boxes(clean)
    held = [box[one.mask(box.shape)].mean() for box, one in zip(boxes, clean.layers, strict=True)]
    assert np.mean(held) > 0.98 and np.median(held) == 1
    assert boxes[:, -1, 40:100].all()  # below the retina, between the corners
    assert not boxes[:, 0, :].all(axis=1).any()  # the vitreous stays


def test_borders_and_padding_are_no_part_of_the_box(planter: Planter) -> None:
    bordered, padded = planter.border, planter.size
    assert not (retina_boxes(bordered) & registration_borders(bordered.images)).any()
    ill = padded.targets == DME
    mask = paddings(padded.images)
    np.testing.assert_array_equal(mask[ill].all(axis=2).sum(axis=1), 24)
    assert not mask[~ill].any()
    assert not (retina_boxes(padded) & mask).any()


def test_strips_and_corners_spare_the_retina(clean: Scans) -> None:
    retina = np.stack([one.mask((HEIGHT, WIDTH)) for one in clean.layers])
    for masks in (border_strips(clean), corners(clean)):
        assert masks.any(axis=(1, 2)).all()
        edited = masks & retina & ~registration_borders(clean.images)
        assert edited.sum() < 0.01 * retina.sum()  # where it falls off steeply at a side


def test_white_borders_are_in_the_strip(planter: Planter) -> None:
    scans = planter.border
    white = scans.images == 255
    ill = scans.targets == DME
    held = (border_strips(scans) & white)[ill].sum() / white[ill].sum()
    assert held > 0.95  # not where a white strip crosses the retina


def test_markers_are_found_and_retinas_are_not(planter: Planter, clean: Scans) -> None:
    marked = planter.marker
    ill = marked.targets == DME
    drawn = marked.images != clean.images
    found = texts(marked)
    held = (found & drawn)[ill].sum(axis=(1, 2)) / drawn[ill].sum(axis=(1, 2))
    assert (held == 1).all()
    assert texts(clean).any(axis=(1, 2)).mean() < 0.1


def test_a_smooth_ramp_is_continued() -> None:
    row = np.arange(64)[:, None] * np.ones(64)
    image = (60 + row).astype(np.uint8)[None]
    hole = np.zeros(image.shape, bool)
    hole[0, 24:40, 20:44] = True
    filled = inpaint(image, hole).astype(int)
    np.testing.assert_array_equal(filled[~hole], image[~hole])
    assert np.abs(filled - image).max() <= 10  # a constant would be 8 off at best, 0 would be 84


def test_speckle_goes_on_as_strong_and_as_coarse() -> None:
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.normal(size=(96, 144)), 0.8)
    image = np.clip(90 + 25 * noise / noise.std(), 0, 255).astype(np.uint8)[None]
    hole = np.zeros(image.shape, bool)
    hole[0, 20:70, 30:110] = True
    inside = inpaint(image, hole)[0, 20:70, 30:110].astype(float)
    outside = image[0, :, :28].astype(float)
    assert inside.mean() == pytest.approx(outside.mean(), abs=5)
    assert inside.std() == pytest.approx(outside.std(), rel=0.2)
    grain = [
        np.corrcoef(part[:, 1:].ravel(), part[:, :-1].ravel())[0, 1] for part in (inside, outside)
    ]
    assert grain[0] == pytest.approx(grain[1], abs=0.1)


def test_each_scan_is_filled_alone(clean: Scans) -> None:
    holes = retina_boxes(clean)
    together = inpaint(clean.images[:70], holes[:70])
    for place in (0, 5, 40):
        alone = inpaint(clean.images[place : place + 1], holes[place : place + 1])
        np.testing.assert_array_equal(alone[0], together[place])


def test_only_sources_are_continued() -> None:
    image = np.full((1, 40, 60), 80, np.uint8)
    image[0, :, :10] = 255
    hole = np.zeros(image.shape, bool)
    hole[0, 10:20, 10:20] = True
    sources = np.ones(image.shape, bool)
    sources[0, :, :10] = False
    assert (inpaint(image, hole, sources)[hole] == 80).all()
    assert inpaint(image, hole)[hole].max() > 80


def test_nothing_to_fill_and_nothing_to_fill_from(clean: Scans) -> None:
    images = clean.images[:2]
    none, every = np.zeros(images.shape, bool), np.ones(images.shape, bool)
    np.testing.assert_array_equal(inpaint(images, none), images)
    assert (inpaint(images, every) == 0).all()
