"""Copies saved anew are found; scans that are merely alike are not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from octoscope.scans.framed import read_framed
from octoscope.scans.framing import Framing
from octoscope.study.copies import find_copies
from study.elsewhere_data import picture

FRAMING = Framing(height=96, width=192)


def saved_anew(image: np.ndarray, quality: int) -> np.ndarray:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=quality)
    return np.asarray(Image.open(content))


def test_copies_are_found_among_others() -> None:
    others = np.stack([picture(n) for n in range(12)])
    images = np.stack([saved_anew(others[7], 80), picture(99), others[2], picture(98)])
    assert find_copies(images, others).tolist() == [True, False, True, False]
    assert find_copies(images[:0], others).shape == (0,)
    assert not find_copies(images, others[:0]).any()


def test_blank_scans_are_copies_of_nothing() -> None:
    blank = np.zeros((2, 48, 72), np.uint8)
    assert not find_copies(blank, blank).any()


def test_on_real_scans_copies_are_told_from_neighbours(real_data: Path, tmp_path: Path) -> None:
    """The limit was set on the training part of these data; this is the validation part."""
    paths = sorted((real_data / "kermany-lesions" / "images" / "val").glob("*/*.jpeg"))
    framed = np.stack([read_framed(path, FRAMING)[0] for path in paths])
    for one in range(0, len(paths), 6):  # no scan is a copy of any other, of one patient or not
        rest = np.delete(framed, one, axis=0)
        assert not find_copies(framed[one : one + 1], rest).any(), paths[one].name
    anew = []
    for place, path in enumerate(paths[::6]):
        copy = tmp_path / f"{place}.jpg"
        Image.open(path).convert("L").save(copy, quality=(90, 60, 40)[place % 3])
        anew.append(read_framed(copy, FRAMING)[0])
    assert find_copies(np.stack(anew), framed).all()
