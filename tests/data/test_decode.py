from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest
from PIL import Image

from octoscope.data.decode import ABSENT, decode_row, fingerprint
from octoscope.scans.framing import Framing, frame_image, place

FRAMING = Framing(32, 48)


def test_a_row_is_the_framed_scan_and_its_mask_in_the_same_place(scans):
    table = scans(3)
    for path, mask_path in zip(table.paths, table.mask_paths, strict=True):
        row = decode_row(path, mask_path, FRAMING)
        picture = np.asarray(Image.open(path))
        np.testing.assert_array_equal(row.image, frame_image(picture, FRAMING))
        expected = place(picture, FRAMING).apply(np.asarray(Image.open(mask_path)), nearest=True)
        np.testing.assert_array_equal(row.mask, expected)
        assert (row.fault, row.mask_fault, row.flags) == ("", "", ())
        assert row.scan_file[1] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert row.mask_file[1] == hashlib.sha256(mask_path.read_bytes()).hexdigest()
        assert row.scan_file[0].size == path.stat().st_size


def test_mask_values_are_never_mixed(scans):
    table = scans(3)
    for path, mask_path in zip(table.paths, table.mask_paths, strict=True):
        mask = decode_row(path, mask_path, FRAMING).mask
        assert set(np.unique(mask)) <= set(np.unique(np.asarray(Image.open(mask_path))))


def test_colour_becomes_its_luminance(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "a.png")
    row = decode_row(tmp_path / "a.png", None, FRAMING)
    luma = np.rint(colour @ np.array([0.299, 0.587, 0.114]))
    assert np.abs(row.image.astype(int) - luma).max() <= 1


def test_a_volume_is_told(tmp_path):
    np.save(tmp_path / "volume.npy", np.zeros((5, 40, 40), np.uint8))
    row = decode_row(tmp_path / "volume.npy", None, FRAMING)
    assert row.image is None
    assert "volume of 5 B-scans" in row.fault


def test_a_mask_of_another_size_is_told_and_the_scan_kept(scans):
    table = scans(2)
    row = decode_row(table.paths[0], table.mask_paths[1], FRAMING)
    assert row.image is not None
    assert row.mask is None
    assert "40×90" in row.mask_fault
    assert "48×64" in row.mask_fault


def test_a_missing_file_is_told(tmp_path):
    row = decode_row(tmp_path / "gone.png", tmp_path / "gone-mask.png", FRAMING)
    assert row.image is None
    assert "no such file" in row.fault
    assert row.scan_file == (ABSENT, "")
    assert row.mask_file == (ABSENT, "")


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    row = decode_row(tmp_path / "pipe.png", tmp_path / "pipe.png", FRAMING)
    assert "pipe" in row.fault
    assert row.scan_file[1] == row.mask_file[1] == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_told(scans):
    path = scans(1).paths[0]
    path.chmod(0)
    assert "cannot be opened" in decode_row(path, None, FRAMING).fault
    assert fingerprint(path)[1] == ""
