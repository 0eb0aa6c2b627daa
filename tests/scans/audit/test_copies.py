"""Copies are confirmed on the pixels: changed ones are found, other pictures are not taken for one.

The look-alikes here are the hardest there are: the same tissue, seen a second time, with speckle
of its own.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps
from scipy.ndimage import gaussian_filter

from octoscope.scans.audit import copies
from octoscope.scans.audit.copies import Copies, find_copies
from octoscope.scans.audit.measure import Measurement, measure_all

Change = Callable[[np.ndarray], np.ndarray]
ORIGINALS = 8


def bscan(eye: int, take: int = 0, height: int = 240, width: int = 320) -> np.ndarray:
    """Layers and vessels of an eye, with the speckle of one take, (H, W) uint8."""
    rng = np.random.default_rng(eye)
    x, y = np.linspace(-1, 1, width)[None], np.arange(height)[:, None] / height
    top = 0.3 + 0.06 * rng.normal() + 0.08 * rng.normal() * x + 0.05 * rng.normal() * x**2
    depth = (y - top) / rng.uniform(0.3, 0.42)
    layers = 70 + 50 * np.sin(depth * rng.uniform(12, 22) + rng.uniform(0, 6))
    tissue = np.where((depth > 0) & (depth < 1), layers, 12)
    tissue = tissue * np.exp(0.4 * gaussian_filter(rng.normal(size=(height, width)), (4, 6)) * 12)
    speckle = np.random.default_rng([eye, take, 7]).normal(size=(height, width))
    speckle = gaussian_filter(speckle, (1, 1.6)) * 4.4
    return np.clip(tissue * np.exp(0.35 * speckle) + 4, 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=quality)
    return np.asarray(Image.open(content))


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def cut(image: np.ndarray, top: float, bottom: float, left: float, right: float) -> np.ndarray:
    height, width = image.shape
    return image[
        round(height * top) : height - round(height * bottom),
        round(width * left) : width - round(width * right),
    ]


def noisy(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 12, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def lettered(image: np.ndarray) -> np.ndarray:
    image = image.copy()
    image[-24:, :100] = 255
    return image


CHANGES: dict[str, Change] = {
    "JPEG 20": lambda a: jpeg(a, 20),
    "half": lambda a: resized(a, a.shape[0] // 2, a.shape[1] // 2),
    "another aspect": lambda a: resized(a, 224, 224),
    "gamma": lambda a: (255 * (a / 255) ** 0.6).astype(np.uint8),
    "less contrast": lambda a: (a * 0.5 + 60).astype(np.uint8),
    "equalised": lambda a: np.asarray(ImageOps.equalize(Image.fromarray(a))),
    "inverted": lambda a: 255 - a,
    "noisy": noisy,
    "median": lambda a: np.asarray(Image.fromarray(a).filter(ImageFilter.MedianFilter(3))),
    "lettered": lettered,
    "mirrored": lambda a: a[:, ::-1],
    "upside down": lambda a: a[::-1],
    "turned by 90°": np.rot90,
    "turned by 2°": lambda a: np.asarray(Image.fromarray(a).rotate(2, Image.Resampling.BILINEAR)),
    "shifted": lambda a: np.roll(a, 5, axis=1),
    "black frame": lambda a: jpeg(np.pad(a, ((24, 24), (32, 32))), 80),
    "white frame": lambda a: jpeg(np.pad(a, ((24, 24), (32, 32)), constant_values=255), 80),
    "grey frame": lambda a: np.pad(a, ((24, 24), (32, 32)), constant_values=118),
    "black square": lambda a: np.pad(a, ((40, 40), (0, 0))),
    "cut by 3 %": lambda a: cut(a, 0.03, 0.03, 0.03, 0.03),
    "cut by 10 %": lambda a: cut(a, 0.1, 0.1, 0.1, 0.1),
    "cut on the left": lambda a: cut(a, 0, 0, 0.08, 0),
    "cut, resized, mirrored": lambda a: resized(cut(a, 0.06, 0.06, 0.06, 0.06)[:, ::-1], 224, 224),
}


def measured(folder: Path, pictures: list[np.ndarray]) -> list[Measurement]:
    paths = [folder / f"{i:03d}.png" for i in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(np.ascontiguousarray(picture)).save(path)
    return measure_all(paths, 1)


def search(folder: Path, pictures: list[np.ndarray]) -> Copies:
    found = measured(folder, pictures)
    return find_copies(found, range(len(found)), 1)


def test_changed_copies_are_found_and_nothing_else(tmp_path: Path) -> None:
    originals = [bscan(eye) for eye in range(ORIGINALS)]
    for start in range(0, len(CHANGES), ORIGINALS):
        some = list(CHANGES.items())[start : start + ORIGINALS]
        changed = [change(original) for (_, change), original in zip(some, originals, strict=False)]
        found = search(tmp_path, [*originals, *changed]).confirmed.tolist()
        missed = [name for i, (name, _) in enumerate(some) if [i, ORIGINALS + i] not in found]
        assert not missed
        assert len(found) == len(some)


def test_a_second_take_of_the_same_tissue_is_no_copy(tmp_path: Path) -> None:
    takes = [bscan(eye, take) for eye in range(4) for take in range(3)]
    found = search(tmp_path, takes)
    assert found.confirmed.tolist() == []
    same_eye = [[i, j] for i in range(12) for j in range(i + 1, 12) if i // 3 == j // 3]
    assert all(pair in same_eye for pair in found.look_alikes.tolist())
    assert len(found.look_alikes) >= 8


@pytest.mark.parametrize("shape", ["round mask", "screen"])
@pytest.mark.parametrize("count", [4, 14])
def test_a_common_surround_makes_no_copies(tmp_path: Path, shape: str, count: int) -> None:
    def surrounded(eye: int) -> np.ndarray:
        scan = bscan(eye)
        if shape == "round mask":
            y, x = np.indices(scan.shape)
            return np.where((y - 120) ** 2 + (x - 160) ** 2 < 110**2, scan, 0).astype(np.uint8)
        screen = np.full((360, 520), 40, np.uint8)
        letters = np.random.default_rng(99).random((12, 60)) < 0.5
        screen[:60] = np.kron(letters, np.full((5, 8), 200))[:, :480].repeat(2, 1)[:, :520]
        screen[300:, ::7] = 230
        screen[60:300, 100:420] = scan
        return screen

    pictures = [surrounded(eye) for eye in range(count)]
    again = jpeg(pictures[1], 60)
    assert search(tmp_path, [*pictures, again]).confirmed.tolist() == [[1, count]]


def test_tiny_pictures_are_no_copies_of_each_other(tmp_path: Path) -> None:
    tiny = [resized(bscan(eye), 28, 28) for eye in range(40)]
    assert search(tmp_path, [*tiny, tiny[3][:, ::-1]]).confirmed.tolist() == [[3, 40]]


def test_very_many_scans_are_searched_by_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [bscan(eye) for eye in range(5)]
    pictures += [jpeg(pictures[0], 60), np.pad(pictures[1][:, ::-1], 20)]
    scans = measured(tmp_path, pictures)
    monkeypatch.setattr(copies, "MOST_KEPT", 3)
    assert find_copies(scans, range(7), 1).confirmed.tolist() == [[0, 5], [1, 6]]
    monkeypatch.undo()
    assert find_copies(scans, range(7), 1).confirmed.tolist() == [[0, 5], [1, 6]]


def test_nothing_to_compare(tmp_path: Path) -> None:
    assert search(tmp_path, [bscan(0)]).confirmed.shape == (0, 2)
    assert find_copies([], [], 1).look_alikes.shape == (0, 2)


def test_scans_of_one_volume_are_no_copies(real_data: Path, tmp_path: Path) -> None:
    files = sorted((real_data / "volumes" / "drusen-spectralis").glob("*.jpeg"))[60:76]
    scans = measure_all(files, 1)
    assert find_copies(scans, range(len(scans)), 1).confirmed.tolist() == []
