"""Small scans on disk for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from octoscope.scans.table import ScanTable

SIZES = ((48, 64), (40, 90), (64, 64))
"""Heights and widths of the scans, in turn."""


def picture(row: int) -> np.ndarray:
    """Return a scan with a bright band that differs from row to row, ``(H, W)`` uint8."""
    height, width = SIZES[row % len(SIZES)]
    random = np.random.default_rng(row)
    depth = np.arange(height)[:, None]
    centre = height * (0.4 + 0.02 * (row % 7)) + 3 * np.sin(np.linspace(0, 3, width) + row)
    band = 150 * np.exp(-(((depth - centre) / 5) ** 2))
    return np.clip(band + random.normal(40, 12, (height, width)), 0, 255).astype(np.uint8)


def lesion(row: int) -> np.ndarray:
    """Return the lesion mask of a scan: class 1 or 2 in a rectangle of its own, ``(H, W)``."""
    height, width = SIZES[row % len(SIZES)]
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, 5 + row % 5 : width // 2] = 1 + row % 2
    return mask


@pytest.fixture
def scans(tmp_path: Path) -> Callable[..., ScanTable]:
    """Return a function that writes n scans of three classes and returns their table."""

    def write(count: int = 12, *, masks: bool = True, folder: str = "scans") -> ScanTable:
        root = tmp_path / folder
        rows = []
        for row in range(count):
            label = "ABC"[row % 3]
            name = f"{label}/{label}-{row // 3}-{row}.png"
            for part, array in (("images", picture(row)), ("masks", lesion(row))):
                file = root / part / name
                file.parent.mkdir(parents=True, exist_ok=True)
                if part == "images" or masks:
                    Image.fromarray(array).save(file)
            rows.append(
                {
                    "path": f"images/{name}",
                    "mask": f"masks/{name}" if masks and row % 4 != 3 else None,
                    "label": label,
                    "patient": str(row // 3),
                    "split": ("train", "train", "val", "test")[(row // 3) % 4],
                    "device": "D1",
                }
            )
        return ScanTable.from_frame(
            pd.DataFrame(rows), root, layout="table", lesions={1: "drusen", 2: "fluid"}
        )

    return write
