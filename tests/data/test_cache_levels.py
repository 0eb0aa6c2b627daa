"""The rule of grey levels on its way: from a table into the cache, the model, and single scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from octoscope.data.cache import ScanCache
from octoscope.models.classifier import Classifier
from octoscope.models.network import build_network
from octoscope.models.preprocess import Preprocess
from octoscope.scans.framing import Framing
from octoscope.scans.levels import Levels
from octoscope.scans.readers import read_scan
from octoscope.scans.table import ScanTable

FRAMING = Framing(height=32, width=48, wedges="keep")


def twelve_bits(folder: Path, count: int = 10, white: int = 4095) -> ScanTable:
    folder.mkdir(exist_ok=True)
    rows = []
    for n in range(count):
        rng = np.random.default_rng(n)
        # The gain differs: the darkest would pass for a scan of ten bits.
        picture = rng.uniform(0, (0.2 + 0.8 * n / (count - 1)) * white, (32, 48)).astype(np.uint16)
        if n % 3 == 0:
            picture[1, 1] = white + 5
        Image.fromarray(picture).save(folder / f"{n}.png")
        rows.append({"path": f"{n}.png", "label": "AB"[n % 2], "patient": f"p{n}"})
    return ScanTable.from_frame(pd.DataFrame(rows), folder)


def test_a_cache_keeps_the_rule_and_says_it(tmp_path: Path) -> None:
    table = twelve_bits(tmp_path / "scans")
    cache = ScanCache.build(table, FRAMING, tmp_path / "cache")
    assert cache.framing.levels == Levels((0, 4095), None, 10)
    assert any(note.startswith("Grey levels 0…4095 (12 bits)") for note in cache.table.notes)
    for n, framed in enumerate(cache.images):
        values = read_scan(table.paths[n]).array.clip(0, 4095)
        assert np.array_equal(framed, np.rint(values / 4095 * 255).astype(np.uint8))
    again = ScanCache.build(table, FRAMING, tmp_path / "cache")
    assert (again.folder, again.framing, again.digest) == (
        cache.folder,
        cache.framing,
        cache.digest,
    )
    assert ScanCache.open(tmp_path / "cache").framing == cache.framing


def test_the_digest_depends_on_the_rule_alone_where_files_are_the_same(tmp_path: Path) -> None:
    table = twelve_bits(tmp_path / "scans")
    found = ScanCache.build(table, FRAMING, tmp_path / "a")
    given = Framing(**{**vars(FRAMING), "levels": Levels((0, 65535), None, 0)})
    other = ScanCache.build(table, given, tmp_path / "b")
    assert other.framing == given
    assert other.digest != found.digest
    assert other.images.max() == 16
    same = Framing(**{**vars(FRAMING), "levels": found.framing.levels})
    assert np.array_equal(ScanCache.build(table, same, tmp_path / "c").images, found.images)


def test_eight_bits_leave_the_framing_as_it_is(tmp_path: Path) -> None:
    table = twelve_bits(tmp_path / "scans", white=200)
    for path in table.paths:
        Image.fromarray(np.asarray(Image.open(path)).astype(np.uint8)).save(path)
    cache = ScanCache.build(table, FRAMING, tmp_path / "cache")
    assert cache.framing == FRAMING
    assert cache.table.notes == table.notes


@pytest.mark.parametrize("alone", [0, 9])
def test_a_model_reads_a_single_new_scan_by_the_rule_it_was_trained_with(
    tmp_path: Path, alone: int
) -> None:
    """Also a dark scan, which alone would be taken for one of fewer bits."""
    table = twelve_bits(tmp_path / "scans")
    cache = ScanCache.build(table, FRAMING, tmp_path / "cache")
    network = build_network("resnet10t", 2, in_channels=1, image_size=(32, 48), pretrained=False)
    preprocess = Preprocess.measured(cache.framing, 1, cache.images, np.arange(10))
    architecture = {
        "name": "resnet10t", "in_channels": 1, "image_size": [32, 48], "options": {},
    }  # fmt: skip
    Classifier(network, ["A", "B"], preprocess, architecture).save(tmp_path / "model")
    model = Classifier.load(tmp_path / "model")
    assert model.preprocess.framing.levels == Levels((0, 4095), None, 10)
    path = table.paths[alone]
    scan = read_scan(path)
    for image in (path, scan, scan.array):
        prepared = model.prepare([image])[0, 0].numpy() * 255
        assert np.array_equal(np.rint(prepared).astype(np.uint8), cache.images[alone])
