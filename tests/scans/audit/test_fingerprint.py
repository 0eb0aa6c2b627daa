"""Fingerprints: the same for copies, far apart for look-alikes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from octoscope.scans.audit.fingerprint import (
    _area_means,
    bytes_digest,
    difference_hash,
    pack,
    pixel_digest,
    unpack,
)


def picture(seed: int, height: int = 160, width: int = 240) -> np.ndarray:
    """A smooth random layered picture with speckle, (H, W) uint8."""
    rng = np.random.default_rng(seed)
    bands = np.sin(np.linspace(0, 9, height))[:, None] * 40 + 70
    smooth = gaussian_filter(rng.normal(size=(height, width)), 6) * 300
    return np.clip(bands + smooth + rng.normal(0, 8, (height, width)), 0, 255).astype(np.uint8)


def differing(one: np.ndarray, two: np.ndarray) -> float:
    """Differing bits per 256 commonly telling ones."""
    common = unpack(one[1] & two[1]).astype(bool)
    return float((unpack(one[0]) != unpack(two[0]))[common].mean() * 256)


@given(st.integers(8, 70), st.integers(8, 70), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_cells_are_exact_area_means(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    # Every pixel repeated 16×17 times makes every cell a whole number of pixels.
    fine = np.kron(image, np.ones((16, 17)))
    expected = fine.reshape(16, height, 17, width).mean(axis=(1, 3))
    np.testing.assert_allclose(_area_means(image, 16, 17), expected, rtol=0, atol=1e-9)


@given(st.integers(0, 2**32))
def test_packing_is_reversible(seed: int) -> None:
    bits = np.random.default_rng(seed).random((3, 256)) < 0.5
    assert (unpack(pack(bits)).astype(bool) == bits).all()


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


COPIES = {
    "jpeg": lambda a: jpeg(a, 50),
    "half": lambda a: resized(a, a.shape[1] // 2, a.shape[0] // 2),
    "square": lambda a: resized(a, 224, 224),
    "brighter": lambda a: np.clip(a * 1.15 + 5, 0, 255).astype(np.uint8),
    "gamma": lambda a: (255 * (a / 255) ** 0.8).astype(np.uint8),
}


@pytest.mark.parametrize("change", COPIES)
def test_copies_are_near_and_others_far(change: str) -> None:
    hashes = [difference_hash(picture(s)) for s in range(6)]
    for seed in range(6):
        copy = difference_hash(COPIES[change](picture(seed)))
        distances = [differing(copy, h) for h in hashes]
        assert distances.pop(seed) <= 10
        assert min(distances) >= 60


def test_a_flat_picture_has_no_telling_bit() -> None:
    assert not unpack(difference_hash(np.full((40, 50), 9, np.uint8))).any()


def test_digests_know_shape_type_and_content() -> None:
    array = np.arange(24, dtype=np.uint8)
    seen = {
        pixel_digest(array),
        pixel_digest(array.reshape(4, 6)),
        pixel_digest(array.reshape(6, 4)),
        pixel_digest(array.view(np.int8)),
        pixel_digest(array + 1),
    }
    assert len(seen) == 5
    wide = np.arange(48, dtype=np.uint8).reshape(4, 12)
    assert pixel_digest(wide[:, ::2]) == pixel_digest(wide[:, ::2].copy())
    assert bytes_digest(b"a") != bytes_digest(b"b")
