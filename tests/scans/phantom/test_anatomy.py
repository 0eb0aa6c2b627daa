"""The healthy eye: layers in order, thickness as published, the same tissue wherever it is cut."""

from __future__ import annotations

import numpy as np
import pytest

from octoscope.scans.phantom.anatomy import (
    LAYERS,
    SPACES,
    SURFACES,
    Anatomy,
    bruch_depth,
    choroid_thickness,
    healthy_thickness,
    stack,
)
from octoscope.scans.phantom.fields import Texture, Waves

X = np.linspace(-3.0, 3.0, 301)
Y = np.zeros_like(X)


def eyes(count: int = 40) -> list[Anatomy]:
    return [Anatomy.draw(np.random.default_rng(seed)) for seed in range(count)]


def total(eye: Anatomy, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return sum(healthy_thickness(eye, x, y)[name] for name in LAYERS)


def test_every_layer_has_thickness_and_no_space_is_open() -> None:
    for eye in eyes():
        thickness = healthy_thickness(eye, X, Y)
        assert all(np.all(thickness[n] == 0) for n in SPACES)
        assert all(np.all(thickness[n] > 0) for n in LAYERS if n not in SPACES)


def test_total_thickness_is_that_of_published_maculas() -> None:
    """Central 200-290 µm, at 1 mm 300-390 µm, at 3 mm 240-340 µm, on average over eyes."""
    points = np.array([0.0, 1.0, -1.0, -3.0])
    mean = np.mean([total(eye, points, np.zeros(4)) for eye in eyes(80)], axis=0) * 1000
    assert 200 < mean[0] < 290
    assert np.all((mean[1:3] > 300) & (mean[1:3] < 390))
    assert 240 < mean[3] < 340


def test_the_fovea_is_the_thinnest_place_and_holds_the_thickest_outer_nuclear_layer() -> None:
    for eye in eyes():
        inner = np.abs(X) < 1.2
        sum_, onl = total(eye, X, Y), healthy_thickness(eye, X, Y)["ONL"]
        assert abs(X[inner][np.argmin(sum_[inner])]) < 0.15
        assert abs(X[inner][np.argmax(onl[inner])]) < 0.30


def test_nerve_fibres_are_thicker_towards_the_nose() -> None:
    fibres = np.mean([healthy_thickness(eye, X, Y)["RNFL"] for eye in eyes()], axis=0)
    assert fibres[X > 2.5].mean() > 1.5 * fibres[X < -2.5].mean()


def test_stack_adds_up_and_keeps_order() -> None:
    for eye in eyes(10):
        thickness, bruch = healthy_thickness(eye, X, Y), bruch_depth(eye, X, Y)
        depth = stack(thickness, bruch)
        np.testing.assert_allclose(bruch - depth["RNFL"], total(eye, X, Y), atol=1e-12)
        rows = np.array([depth[layer] for layer in SURFACES.values()] + [depth["BM"]])
        assert np.all(np.diff(rows, axis=0) >= 0)


@pytest.mark.parametrize("function", [bruch_depth, choroid_thickness, total])
def test_a_line_is_the_row_of_a_surface(function) -> None:  # type: ignore[no-untyped-def]
    """What a B-scan at y sees is what a volume holds there, bit for bit."""
    eye = Anatomy.draw(np.random.default_rng(3))
    lines = np.linspace(-2, 2, 9)
    surface = function(eye, X[None, :], lines[:, None])
    assert surface.shape == (9, 301)
    for row, y in zip(surface, lines, strict=True):
        np.testing.assert_array_equal(row, function(eye, X, np.full_like(X, y)))


def test_waves_have_the_asked_amplitude_and_are_smooth() -> None:
    field = Waves.draw(np.random.default_rng(0), 0.5, (1.0, 3.0), count=64)
    rng = np.random.default_rng(1)
    values = field(rng.uniform(-200, 200, 20_000), rng.uniform(-200, 200, 20_000))
    assert values.std() == pytest.approx(0.5, rel=0.05)
    fine = field(np.arange(0, 1, 0.001), 0.0)
    # No wave is shorter than 1 mm, so the slope is at most 2π times the sum of all waves.
    assert np.abs(np.diff(fine)).max() < 2 * np.pi * 0.001 * 0.5 * np.sqrt(2 * 64)


def test_texture_is_standard_and_periodic() -> None:
    texture = Texture.draw(
        np.random.default_rng(0), (0.01, 0.02, 0.03), (0.02, 0.02, 0.02), (32, 64, 16)
    )
    assert texture.block.mean() == pytest.approx(0, abs=1e-5)
    assert texture.block.std() == pytest.approx(1, abs=1e-4)
    z = np.array([[0.005], [0.105]])
    x, y = np.array([0.01, 0.05]), np.array([0.0, 0.0])
    np.testing.assert_array_equal(texture(z, x, y), texture(z + 0.32, x + 1.28, y - 0.48))
    np.testing.assert_array_equal(texture(z, x, y)[0], texture.block[0, [0, 2], 0])
