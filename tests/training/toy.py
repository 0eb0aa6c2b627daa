"""Small caches in memory, for tests and for the processes that tests start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from octoscope.data.cache import ScanCache
from octoscope.scans.framing import Framing
from octoscope.scans.table import ScanTable

CLASSES = ("CNV", "DME", "NORMAL")
SIZE = (32, 48)


def cache_of(images: np.ndarray, labels: list[str], patients: list[str], splits) -> ScanCache:
    """Return a cache in memory over images ``(N, H, W)`` uint8."""
    frame = pd.DataFrame(
        {
            "path": [f"scan-{i}.png" for i in range(len(images))],
            "label": labels,
            "patient": patients,
            "split": splits,
        }
    )
    table = ScanTable.from_frame(frame, Path("scans"))
    return ScanCache(images, None, table, Framing(*images.shape[1:]), pixels="toy")


def stripes(count: int = 60, seed: int = 0, contrast: int = 60) -> ScanCache:
    """Return noise with a bright stripe whose height is the class; two scans per patient.

    Two thirds are for training, a sixth each for validation and test.
    """
    random = np.random.default_rng(seed)
    images = random.integers(0, 80, (count, *SIZE)).astype(np.uint8)
    for i in range(count):
        top = 4 + 9 * (i // 2 % 3)
        images[i, top : top + 6] += np.uint8(contrast)
    share = np.arange(count) / count
    splits = np.where(share < 2 / 3, "train", np.where(share < 5 / 6, "val", "test"))
    labels = [CLASSES[i // 2 % 3] for i in range(count)]
    return cache_of(images, labels, [f"p{i // 2}" for i in range(count)], splits)
