"""What is measured on a scan, against SciPy and against what was drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import laplace

from octoscope.scans.audit.measure import measure, measure_all


def speckle(height: int = 120, width: int = 160, seed: int = 0) -> np.ndarray:
    """A grey picture between 40 and 200, (H, W) uint8."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(60, 180, width)[None, :]
    return np.clip(slope + rng.normal(0, 6, (height, width)), 40, 200).astype(np.uint8)


def write(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def test_frame_and_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", speckle(120, 160))
    found = measure(path)
    assert found.fault is None
    assert not found.blank
    assert found.numbers["frame height"] == 120
    assert found.numbers["frame width"] == 160
    assert found.numbers["aspect ratio"] == pytest.approx(160 / 120)
    assert found.numbers["bytes per pixel"] == path.stat().st_size / (120 * 160)
    assert found.numbers["white border"] == found.numbers["wedge area"] == 0
    assert found.numbers["brightness"] == pytest.approx(speckle().mean())
    assert found.numbers["contrast"] == pytest.approx(speckle().std())
    assert found.words["frame size"] == "120×160"
    assert found.words["file format"] == "png"


def test_sharpness_is_the_variance_of_the_laplacian(tmp_path: Path) -> None:
    image = speckle()
    expected = laplace(image.astype(float))[1:-1, 1:-1].var()
    found = measure(write(tmp_path / "a.png", image)).numbers["sharpness"]
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("sigma", [2.0, 5.0, 12.0])
def test_noise_level_is_that_of_the_noise(tmp_path: Path, sigma: float) -> None:
    rng = np.random.default_rng(1)
    image = 120 + 40 * np.sin(np.linspace(0, 3, 300))[None] + rng.normal(0, sigma, (300, 300))
    path = write(tmp_path / "a.png", np.round(image).astype(np.uint8))
    assert measure(path).numbers["noise"] == pytest.approx(sigma, rel=0.03)


def test_borders_and_wedges_are_measured_and_left_out(tmp_path: Path) -> None:
    image = speckle(200, 300)
    plain = measure(write(tmp_path / "plain.png", image))
    framed = np.full((240, 360), 255, np.uint8)
    framed[20:220, 30:330] = image
    found = measure(write(tmp_path / "framed.png", framed))
    area = 1 - 200 * 300 / (240 * 360)
    assert found.numbers["white border"] == pytest.approx(area, abs=0.05)
    assert found.numbers["wedge area"] == pytest.approx(0, abs=1e-9)
    for name in ("brightness", "contrast", "sharpness", "noise"):
        assert found.numbers[name] == pytest.approx(plain.numbers[name], rel=0.06), name

    wedged = image.copy()
    rows, columns = np.indices(image.shape)
    wedged[rows < 80 - columns / 2] = 255  # a corner of 80 × 160 pixels
    found = measure(write(tmp_path / "wedged.png", wedged))
    assert found.numbers["wedge area"] == pytest.approx(80 * 160 / 2 / image.size, abs=0.02)


def test_a_sign_in_a_corner_is_seen_there(tmp_path: Path) -> None:
    image = speckle(160, 240) // 2
    plain = measure(write(tmp_path / "plain.png", image)).numbers
    image[5:12, 5:10] = 230
    signed = measure(write(tmp_path / "signed.png", image)).numbers
    changed = {name for name in plain if "corner" in name and plain[name] != signed[name]}
    assert changed == {"upper left corner"}
    assert signed["upper left corner"] == 230
    assert plain["upper left corner"] == np.sort(speckle(160, 240)[:20, :30] // 2, axis=None)[594]


def test_a_framed_copy_has_the_hash_of_the_original(tmp_path: Path) -> None:
    image = speckle(200, 300)
    framed = np.full((240, 360), 255, np.uint8)
    framed[20:220, 30:330] = image
    assert len(measure(write(tmp_path / "plain.png", image)).hashes) == 1
    assert len(measure(write(tmp_path / "framed.png", framed)).hashes) == 2


@pytest.mark.parametrize("level", [0, 7, 130, 255])
def test_blank(tmp_path: Path, level: int) -> None:
    assert measure(write(tmp_path / "a.png", np.full((40, 50), level, np.uint8))).blank
    assert measure(write(tmp_path / "a.jpg", np.full((40, 50), level, np.uint8))).blank


def test_unreadable_files_are_named_and_the_rest_is_measured(tmp_path: Path) -> None:
    good = [write(tmp_path / f"{i}.png", speckle(40, 50, i)) for i in range(40)]
    text = tmp_path / "text.jpeg"
    text.write_text("not a picture")
    cut = tmp_path / "cut.png"
    cut.write_bytes(good[0].read_bytes()[:300])
    paths = [*good[:7], text, *good[7:], tmp_path / "missing.png", cut]
    found = measure_all(paths, workers=3)
    assert [m.path for m in found] == paths
    faulty = {m.path: m.fault for m in found if m.fault is not None}
    assert set(faulty) == {text, cut, tmp_path / "missing.png"}
    assert all(reason and "Traceback" not in reason for reason in faulty.values())
    means = [m.numbers["brightness"] for m in found if m.fault is None]
    assert means == pytest.approx([speckle(40, 50, i).mean() for i in range(40)])


def test_volume_is_measured_at_its_middle_slice(tmp_path: Path) -> None:
    volume = np.stack([speckle(seed=s) for s in range(5)])
    np.save(tmp_path / "v.npy", volume)
    found = measure(tmp_path / "v.npy")
    assert found.numbers["B-scans in the volume"] == 5
    assert found.numbers["brightness"] == pytest.approx(volume[2].mean())


def test_colour_is_measured_as_luminance(tmp_path: Path) -> None:
    colour = np.stack([speckle(), speckle() // 2, speckle() // 3], axis=-1)
    found = measure(write(tmp_path / "c.png", colour))
    expected = (colour @ [0.299, 0.587, 0.114]).mean()
    assert found.numbers["brightness"] == pytest.approx(expected, abs=0.6)
    assert "3 channels" in found.words["pixel type"]
