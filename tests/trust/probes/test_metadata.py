"""What the frame alone gives away."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from octoscope.trust.probes.metadata import FRAME, acquisition_numbers, frame_numbers, metadata
from octoscope.trust.probes.probe import Scans, Subject

from .conftest import DME, Planter, corner_sign, disease_sign, reading, subject


def numbers(scans: Scans) -> dict[str, np.ndarray]:
    return dict(zip(FRAME, frame_numbers(scans).T, strict=True))


@pytest.mark.parametrize("planted", ["marker", "border", "size"])
def test_each_artefact_gives_its_class_away(planter: Planter, planted: str) -> None:
    found = metadata(subject(getattr(planter, planted), reading(corner_sign)))
    assert found.fires and found.label == "DME"
    assert found.low > found.limit > found.harmless == 0.5
    assert "tells DME from the rest" in found.sentence
    assert found.details["by_class"]["DME"]["value"] > 0.85


def test_neither_clean_frames_nor_a_disease_give_anything_away(planter: Planter) -> None:
    for scans in (planter.clean, planter.disease):
        found = metadata(subject(scans, reading(disease_sign)))
        assert found.fires is False
    assert found.details["model"]["value"] == 0.5
    assert "the network 0.50" in found.sentence


def test_numbers_of_planted_frames(planter: Planter) -> None:
    ill = planter.clean.targets == DME
    size = numbers(planter.size)
    np.testing.assert_allclose(size["padding above"][ill], 12 / 96)
    np.testing.assert_allclose(size["padding below"][ill], 12 / 96)
    assert not size["padding above"][~ill].any() and not size["padding left"].any()
    corner = numbers(planter.marker)["upper left corner"]
    assert np.sort(corner[ill])[1] > corner[~ill].max()  # in one the retina reaches the sign
    white = numbers(planter.border)["white border"]
    assert white[ill].min() > 0.02 and not white[~ill].any()


def test_a_disease_changes_no_number_of_the_frame(planter: Planter) -> None:
    scans = planter.disease
    ill = Scans(scans.images, scans.targets, scans.patients, scans.frame)
    ill.__dict__["layers"] = planter.clean.layers  # the patch may shift the surfaces by a pixel
    np.testing.assert_array_equal(frame_numbers(ill), frame_numbers(planter.clean))


def test_noise_and_blur_are_those_of_the_background(clean: Scans) -> None:
    rng = np.random.default_rng(0)
    images = np.clip(rng.normal(100, 20, (2, 96, 144)), 1, 255)
    images[1] = (images[1] + np.roll(images[1], 1, axis=1)) / 2
    part = slice(0, 2)
    scans = Scans(
        images.astype(np.uint8), clean.targets[part], clean.patients[part], clean.frame[part]
    )
    scans.__dict__["layers"] = clean.layers[part]  # noise holds no retina to find
    seen = numbers(scans)
    assert seen["background brightness"] == pytest.approx([100, 100], abs=1.5)
    assert seen["background noise"] == pytest.approx([20, 20 / np.sqrt(2)], rel=0.05)
    assert seen["background blur"] == pytest.approx([0, 0.5], abs=0.05)


def test_only_columns_about_the_acquisition_are_read() -> None:
    frame = pd.DataFrame(
        {
            "device": ["a", "b", None],
            "spacing": [0.1, np.nan, 0.3],
            "severity": [1.0, 2.0, 3.0],
            "patient": ["p", "q", "p"],
            "visit": [0, 5, 90],
        }
    )
    names, values = acquisition_numbers(frame)
    assert names == ["device a", "device b", "device unknown", "spacing", "earlier visits"]
    expected = [[1, 0, 0, 0.1, 0], [0, 1, 0, -1, 0], [0, 0, 1, 0.3, 1]]
    np.testing.assert_allclose(values, expected)
    names, values = acquisition_numbers(frame[["severity"]])
    assert names == [] and values.shape == (3, 0)


def test_a_column_may_give_everything_away(clean: Scans) -> None:
    device = np.where(clean.targets == DME, "topcon", "spectralis")
    scans = Scans(clean.images, clean.targets, clean.patients, clean.frame.assign(device=device))
    assert metadata(subject(scans, reading(corner_sign))).fires
    assert metadata(subject(scans, reading(corner_sign)), columns=()).fires is False


def test_training_scans_add_to_what_can_be_learnt(planter: Planter) -> None:
    scans = planter.marker
    half = np.arange(len(scans)) % 4 < 2
    parts = [
        Scans(scans.images[s], scans.targets[s], scans.patients[s], scans.frame[s])
        for s in (half, ~half)
    ]
    found = metadata(
        Subject(reading(corner_sign), ["CNV", "DME", "DRUSEN", "NORMAL"], parts[0], parts[1])
    )
    assert found.scans == len(scans) and found.patients == 24


def test_one_class_alone_cannot_be_told_from_another(clean: Scans) -> None:
    one = clean.targets == DME
    scans = Scans(clean.images[one], clean.targets[one], clean.patients[one], clean.frame[one])
    found = metadata(subject(scans, reading(corner_sign)))
    assert found.fires is None and found.sentence.startswith("Not run")
