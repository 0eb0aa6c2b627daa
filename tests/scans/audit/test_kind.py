"""En-face pictures and label masks are told from B-scans."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from octoscope.scans.audit.kind import kind_of
from octoscope.scans.audit.kind_findings import kind_findings
from octoscope.scans.audit.measure import Measurement
from octoscope.scans.readers import read_scan, to_grey, to_uint8


def bscan(seed: int, height: int = 160, width: int = 240) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x, y = np.linspace(-1, 1, width)[None], np.arange(height)[:, None] / height
    depth = (y - 0.3 - 0.1 * rng.normal() * x**2 - 0.1 * rng.normal() * x) / 0.35
    tissue = np.where((depth > 0) & (depth < 1), 90 + 50 * np.sin(14 * depth), 15)
    speckle = gaussian_filter(rng.normal(size=(height, width)), 1) * 1.2
    return np.clip(tissue * np.exp(speckle), 0, 255).astype(np.uint8)


def angiogram(seed: int, side: int = 200) -> np.ndarray:
    """A net of vessels that run all ways, (H, W) uint8."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), 4, mode="wrap")
    vessels = np.exp(-((field / field.std() / 0.2) ** 2))
    noise = np.random.default_rng(seed + 1).gamma(4, 8, (side, side))
    return np.clip(170 * vessels + noise, 0, 255).astype(np.uint8)


def mask(seed: int) -> np.ndarray:
    field = gaussian_filter(np.random.default_rng(seed).normal(size=(120, 200)), 12)
    return np.digitize(field, np.quantile(field, [0.8, 0.93])).astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_drawn_pictures_are_told_apart(seed: int) -> None:
    assert kind_of(bscan(seed)) == "B-scan"
    assert kind_of(angiogram(seed)) == "en-face"
    assert kind_of(mask(seed)) == "mask"
    assert kind_of((mask(seed) * 100).astype(np.uint8)) == "mask"


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_a_mask_blurred_by_jpeg_or_resizing_is_a_mask_and_a_bordered_scan_is_none(quality):
    apart = (mask(quality) * 120).astype(np.uint8)
    assert kind_of(as_jpeg(apart, quality)) == "mask"
    resized = Image.fromarray(apart).resize((333, 150), Image.Resampling.BILINEAR)
    assert kind_of(np.asarray(resized)) == "mask"
    framed = np.full((160, 480), 255, np.uint8)
    framed[:, 120:360] = bscan(quality)
    assert kind_of(as_jpeg(framed, quality)) != "mask"


@pytest.mark.parametrize("seed", range(4))
def test_smooth_pictures_without_layers_are_enface(seed: int) -> None:
    """Round frames and smooth maps have one direction in every neighbourhood, but not the same."""
    row, column = np.indices((300, 300)) / 300 - 0.5
    centre = np.random.default_rng(seed).uniform(-0.1, 0.1, 2)
    radius = np.hypot(row - centre[0], column - centre[1])
    speckle = np.random.default_rng(seed).normal(0, 4, radius.shape)
    for picture in (np.where(radius < 0.45, 140 - 120 * radius, 3), 200 - 300 * radius):
        assert kind_of((picture + speckle).clip(0, 255).astype(np.uint8)) == "en-face"


@pytest.mark.parametrize("seed", range(4))
def test_a_narrow_scan_across_the_slow_axis_is_a_bscan(seed: int) -> None:
    assert kind_of(np.ascontiguousarray(bscan(seed)[:, ::6])) == "B-scan"


def test_a_saturated_or_dark_scan_is_no_mask() -> None:
    assert kind_of(np.clip(bscan(0) * 4.0, 0, 255).astype(np.uint8)) == "B-scan"
    assert kind_of(bscan(1) // 4) == "B-scan"


def measured(kinds: str) -> list[Measurement]:
    names = {"b": "B-scan", "e": "en-face", "m": "mask"}
    return [Measurement(Path(f"{i}"), kind=names[k]) for i, k in enumerate(kinds)]  # type: ignore[arg-type]


def test_findings_count_and_name() -> None:
    paths = [f"{i}.png" for i in range(6)]
    assert kind_findings(paths, measured("bbbbbb")) == []
    enface, none = (
        kind_findings(paths, measured("bbebee"))[0],
        kind_findings(paths[:2], measured("ee")),
    )
    assert enface.level == "warning"
    assert enface.sentence.startswith("3 pictures show no layers")
    assert "6 readable files" in enface.sentence and "2.png" in enface.sentence
    assert [f.level for f in none] == ["info"]
    (masks,) = kind_findings(paths, measured("bmbbbb"))
    assert masks.sentence.startswith("1 file holds few grey values")
    assert "1.png" in masks.sentence and "`masks`" in masks.sentence


def shares(files: list[Path]) -> dict[str, float]:
    kinds = [kind_of(to_uint8(to_grey(read_scan(path)))) for path in files]
    return {kind: kinds.count(kind) / len(kinds) for kind in set(kinds)}


def test_real_pictures(real_data: Path) -> None:
    octa, kermany = real_data / "octa", real_data / "kermany-lesions"
    enface = [*sorted(octa.glob("enface/*/image/*")), *sorted(octa.glob("rossa/image/*"))]
    assert shares(enface) == {"en-face": 1.0}
    bscans = [*sorted((kermany / "images").rglob("*.jpeg"))[::6]]
    bscans += sorted((real_data / "volumes" / "drusen-spectralis").glob("*.jpeg"))[::20]
    assert shares(bscans).get("B-scan", 0) >= 0.98
    assert shares(sorted((kermany / "masks").rglob("*.png"))[::8]).get("B-scan", 0) == 0
