"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

# Several test processes share the cores: threads that spin for one another cost three times more.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans, which lies beside the repository and is never copied into it."""
    folder = Path(os.environ.get("OCTOSCOPE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "kermany-lesions").is_dir():
        pytest.skip(f"no real scans: {folder} is absent (set OCTOSCOPE_DATA to their folder)")
    return folder
