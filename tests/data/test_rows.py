from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octoscope.data.rows import RowWriter


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 12), st.integers(0, 2000), st.integers(1, 7), st.integers(1, 7))
def test_numpy_reads_what_was_written(tmp_path_factory, count, spare, height, width):
    path = tmp_path_factory.mktemp("rows") / "images.npy"
    rows = np.random.default_rng(0).integers(0, 256, (count, height, width), dtype=np.uint8)
    with RowWriter(path, (height, width), count + spare) as writer:
        for row in rows:
            writer.append(row)
    np.testing.assert_array_equal(np.load(path), rows)
    if rows.size:
        np.testing.assert_array_equal(np.load(path, mmap_mode="r"), rows)


def test_transposed_rows_are_written_as_they_are(tmp_path):
    row = np.arange(12, dtype=np.uint8).reshape(3, 4).T
    with RowWriter(tmp_path / "a.npy", (4, 3), 1) as writer:
        writer.append(row)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy")[0], row)


def test_rows_of_another_kind_are_refused(tmp_path):
    with RowWriter(tmp_path / "a.npy", (2, 2), 1) as writer:
        with pytest.raises(ValueError, match="row"):
            writer.append(np.zeros((2, 3), np.uint8))
        with pytest.raises(ValueError, match="row"):
            writer.append(np.zeros((2, 2), np.float32))
