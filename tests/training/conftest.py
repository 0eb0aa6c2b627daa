"""What the training tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def small_and_quiet() -> Iterator[None]:
    """One thread (small networks are slower on many) and no lines on the terminal."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCTOSCOPE_QUIET", "1")
        yield
    torch.set_num_threads(threads)
