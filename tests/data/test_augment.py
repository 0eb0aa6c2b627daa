from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octoscope.data.augment import Augment
from octoscope.errors import OctoscopeError

OFF = {"flip": 0.0, "affine": 0.0, "intensity": 0.0, "noise": 0.0, "erasing": 0.0}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def only(**options: object) -> Augment:
    """An augmentation that does nothing but what is named."""
    return Augment(**{**OFF, **options})


def noise_images(count: int = 4, height: int = 24, width: int = 40) -> torch.Tensor:
    return torch.rand(count, 1, height, width, generator=generator(99))


def ellipse(height: int, width: int, degrees: float, count: int) -> torch.Tensor:
    """A smooth ellipse (standard deviations 9 and 3 pixels) in the middle of each frame."""
    y, x = np.mgrid[:height, :width].astype(float)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    angle = math.radians(degrees)
    along, across = (
        x * math.cos(angle) + y * math.sin(angle),
        y * math.cos(angle) - x * math.sin(angle),
    )
    blob = np.exp(-(along**2) / (2 * 9**2) - across**2 / (2 * 3**2))
    return torch.tensor(blob, dtype=torch.float32).expand(count, 1, height, width).clone()


def moments(image: torch.Tensor) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre (y, x) from the middle, standard deviations along the axes, angle in degrees."""
    weights = image.squeeze().double().numpy()
    height, width = weights.shape
    y, x = np.mgrid[:height, :width]
    points = np.stack([y.ravel() - (height - 1) / 2, x.ravel() - (width - 1) / 2])
    covariance = np.cov(points, aweights=weights.ravel(), bias=True)
    values, vectors = np.linalg.eigh(covariance)
    main = vectors[:, 1]
    angle = math.degrees(math.atan2(main[0], main[1]))
    centre = points @ weights.ravel() / weights.sum()
    return centre, np.sqrt(values), (angle + 90) % 180 - 90


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**63 - 1),
    batch=st.integers(1, 5),
    height=st.integers(1, 33),
    width=st.integers(1, 33),
    chances=st.lists(st.floats(0, 1), min_size=5, max_size=5),
)
def test_any_setting_gives_valid_images_and_leaves_its_input(seed, batch, height, width, chances):
    flip, affine, intensity, noise, erasing = chances
    augment = Augment(flip=flip, affine=affine, intensity=intensity, noise=noise, erasing=erasing)
    images = noise_images(batch, height, width)
    before = images.clone()
    changed = augment(images, generator(seed))
    assert changed.shape == images.shape
    assert changed.dtype == torch.float32
    assert torch.isfinite(changed).all()
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert torch.equal(images, before)
    assert torch.equal(changed, augment(images, generator(seed)))


def test_nothing_on_changes_nothing():
    images = noise_images()
    assert torch.equal(only()(images, generator()), images)


def test_seeds_differ():
    augment = Augment()
    images = noise_images()
    assert not torch.equal(augment(images, generator(0)), augment(images, generator(1)))


def test_flip_mirrors_left_and_right():
    images = noise_images()
    torch.testing.assert_close(
        only(flip=1.0)(images, generator()), images.flip(-1), atol=1e-5, rtol=0
    )


def test_flip_takes_its_share():
    image = torch.zeros(2000, 1, 2, 4)
    image[..., 0] = 1
    flipped = only(flip=0.3)(image, generator())[:, 0, 0, 3] > 0.5
    # 5 standard deviations of a binomial are 0.051.
    assert flipped.float().mean().item() == pytest.approx(0.3, abs=0.051)


def test_turning_keeps_shapes_in_pixels_whatever_the_frame():
    """In a frame of 80 × 140 a turned ellipse keeps both its axes and turns by the angle."""
    augment = only(affine=1.0, rotation=40.0, translation=0.0, scale=(1.0, 1.0))
    turned = augment(ellipse(80, 140, 0.0, 60), generator())
    angles = []
    for image in turned:
        centre, spread, angle = moments(image)
        np.testing.assert_allclose(centre, 0, atol=0.05)
        np.testing.assert_allclose(spread, [3, 9], rtol=0.02)
        angles.append(angle)
    assert max(np.abs(angles)) <= 40.5
    assert min(angles) < -30
    assert max(angles) > 30


@pytest.mark.parametrize("zoom", [0.8, 1.25])
def test_zoom_is_the_same_along_both_axes(zoom):
    augment = only(affine=1.0, rotation=0.0, translation=0.0, scale=(zoom, zoom))
    _, spread, angle = moments(augment(ellipse(80, 140, 30.0, 1), generator())[0])
    np.testing.assert_allclose(spread, [3 * zoom, 9 * zoom], rtol=0.02)
    assert angle == pytest.approx(30, abs=0.5)


def test_shifts_are_shares_of_the_frame_and_bring_in_black():
    augment = only(affine=1.0, rotation=0.0, translation=0.1, scale=(1.0, 1.0))
    centres = np.array([moments(i)[0] for i in augment(ellipse(80, 140, 0.0, 200), generator())])
    assert 7 < np.abs(centres[:, 0]).max() <= 8.05
    assert 12.5 < np.abs(centres[:, 1]).max() <= 14.05
    assert (centres.min(axis=0) < 0).all()
    white = only(affine=1.0, rotation=0.0, translation=0.5, scale=(1.0, 1.0))(
        torch.ones(20, 1, 16, 16), generator()
    )
    assert (white.amin(dim=(1, 2, 3)) == 0).all()


def test_gamma_and_contrast_and_brightness_follow_their_equation():
    images = noise_images()
    squared = only(intensity=1.0, brightness=0.0, contrast=(1.0, 1.0), gamma=(2.0, 2.0))
    torch.testing.assert_close(squared(images, generator()), images**2, atol=1e-5, rtol=1e-5)
    flatter = only(intensity=1.0, brightness=0.0, contrast=(0.5, 0.5), gamma=(1.0, 1.0))
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(
        flatter(images, generator()), mean + 0.5 * (images - mean), atol=1e-5, rtol=1e-5
    )
    brighter = only(intensity=1.0, brightness=0.2, contrast=(1.0, 1.0), gamma=(1.0, 1.0))
    grey = torch.full((500, 1, 2, 2), 0.5)
    added = (brighter(grey, generator()) - 0.5)[:, 0, 0, 0]
    assert added.abs().max() <= 0.2 + 1e-6
    assert added.mean().abs() < 5 * 0.2 / math.sqrt(3 * 500)


@pytest.mark.parametrize(("added", "speckle"), [(0.02, 0.0), (0.0, 0.1), (0.02, 0.1)])
def test_noise_has_the_deviation_that_was_asked_for(added, speckle):
    level = 0.4
    augment = only(noise=1.0, noise_sd=(added, added), speckle_sd=(speckle, speckle))
    noisy = augment(torch.full((4, 1, 100, 100), level), generator())
    expected = math.hypot(added, speckle * level)
    assert noisy.std().item() == pytest.approx(expected, rel=0.02)
    assert noisy.mean().item() == pytest.approx(level, abs=0.002)


def test_noise_leaves_the_other_images_alone():
    images = noise_images(200, 8, 8)
    changed = (only(noise=0.25)(images, generator()) != images).flatten(1).any(dim=1)
    assert 0.1 < changed.float().mean() < 0.4


def test_erasing_blacks_out_the_share_that_was_asked_for():
    erased = only(erasing=1.0, erasing_area=(0.1, 0.2))(torch.ones(200, 1, 64, 96), generator())
    assert set(erased.unique().tolist()) == {0.0, 1.0}
    share = 1 - erased.mean(dim=(1, 2, 3))
    assert 0.08 < share.min() < 0.12
    assert 0.18 < share.max() < 0.22
    rows, columns = (erased == 0).any(dim=3).sum(2), (erased == 0).any(dim=2).sum(2)
    torch.testing.assert_close((rows * columns).flatten() / (64 * 96), share)  # one rectangle


def test_an_option_leaves_the_draws_of_the_others():
    images = noise_images()
    geometry = Augment(intensity=0.0, noise=0.0)
    with_noise = Augment(intensity=0.0, noise=1.0, noise_sd=(0.0, 0.0), speckle_sd=(0.0, 0.0))
    torch.testing.assert_close(
        geometry(images, generator(3)), with_noise(images, generator(3)), atol=0, rtol=0
    )


def test_settings_survive_json():
    augment = Augment(flip=0.0, scale=(0.5, 2.0), erasing=0.2)
    assert Augment.from_dict(json.loads(json.dumps(augment.to_dict()))) == augment
    assert Augment.from_dict({}) == Augment()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"flip": 1.5}, "flip"),
        ({"affine": -0.1}, "affine"),
        ({"noise": True}, "noise"),
        ({"erasing": "often"}, "erasing"),
        ({"rotation": 181}, "rotation"),
        ({"translation": float("nan")}, "translation"),
        ({"scale": [0.0, 1.0]}, "scale"),
        ({"scale": [1.2, 0.8]}, "scale"),
        ({"gamma": 2.0}, "gamma"),
        ({"contrast": [1.0, float("inf")]}, "contrast"),
        ({"noise_sd": [-0.1, 0.1]}, "noise_sd"),
        ({"erasing_area": [0.1, 1.1]}, "erasing_area"),
        ({"erasing_area": [0.1, 0.2, 0.3]}, "erasing_area"),
    ],
)
def test_values_out_of_range_are_named(options, named):
    with pytest.raises(OctoscopeError, match=named):
        Augment.from_dict(options)


def test_an_unknown_option_is_named_with_its_neighbour():
    with pytest.raises(OctoscopeError, match=r'"rotatoin" .*did you mean "rotation"'):
        Augment.from_dict({"rotatoin": 5})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu():
    images = noise_images().cuda()
    augment = Augment(erasing=0.5)
    first, second = (augment(images, torch.Generator("cuda").manual_seed(0)) for _ in range(2))
    assert first.is_cuda
    assert torch.equal(first, second)
    assert augment(images, generator()).is_cuda
