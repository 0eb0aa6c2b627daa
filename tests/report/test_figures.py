"""Figures: the right pixels, sound SVG, and no reading of names as formulas."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from octoscope.report.figures.calibration import reliability_curve
from octoscope.report.figures.confusion import confusion_matrix
from octoscope.report.figures.curves import learning_curves
from octoscope.report.figures.forest import Point, forest
from octoscope.report.figures.outline import lesion_colour, lesion_paths
from octoscope.report.figures.overlay import gradient, overlay_png, scan_jpeg
from octoscope.report.figures.roc import roc_curves


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
