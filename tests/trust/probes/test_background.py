"""What a model says to scans without their retina, and without their background."""

from __future__ import annotations

import numpy as np
import pytest

from octoscope.trust.probes.background import background
from octoscope.trust.probes.probe import Predict, Scans

from .conftest import (
    Planter,
    border_sign,
    corner_sign,
    disease_sign,
    few,
    padding_sign,
    reading,
    subject,
)


@pytest.mark.parametrize(
    ("planted", "sign"),
    [("marker", corner_sign), ("size", padding_sign), ("border", border_sign)],
)
def test_a_shortcut_is_left_when_the_retina_is_gone(
    planter: Planter, planted: str, sign: Predict
) -> None:
    alone, retina = background(subject(getattr(planter, planted), reading(sign)))
    assert alone.fires and alone.label == "DME"
    assert alone.effect > 0.95 and alone.low > alone.limit
    assert f"tells DME from the rest with an AUROC of {alone.effect:.2f}" in alone.sentence
    assert retina.effect > 0.2  # of the 0.25 of the recall of one class
    assert retina.fires


def test_a_disease_is_gone_with_the_retina_and_stays_without_the_background(
    planter: Planter,
) -> None:
    alone, retina = background(subject(planter.disease, reading(disease_sign)))
    assert alone.fires is False
    assert alone.details["auroc"]["DME"]["value"] == 0.5
    assert alone.details["balanced_accuracy"]["value"] == 0.25
    assert retina.fires is False
    assert retina.effect == 0
    assert "balanced accuracy is 0.50" in retina.sentence


def test_brightness_of_the_whole_retina_is_no_background(clean: Scans) -> None:
    def predict(images: np.ndarray) -> np.ndarray:
        level = np.quantile(images, 0.97, axis=(1, 2)).astype(np.float32)
        return level[:, None] * np.array([[0.1, -0.1, 0.05, -0.05]], np.float32)

    assert background(subject(clean, predict))[0].fires is False


def test_too_few_patients_of_a_class(planter: Planter) -> None:
    scans = few(planter.marker, 8)  # two of each class
    alone, retina = background(subject(scans, reading(corner_sign)))
    assert alone.fires is None and "5 patients each" in alone.sentence
    assert retina.fires is not None
    retina = background(subject(few(planter.marker, 4), reading(corner_sign)))[1]
    assert retina.fires is None


def test_findings_are_the_same_each_time(planter: Planter) -> None:
    first, second = (background(subject(planter.marker, reading(corner_sign))) for _ in range(2))
    assert [one.to_dict() for one in first] == [one.to_dict() for one in second]
