"""Writing a ``.npy`` file row by row when it is not known how many rows there will be."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.lib import format as npy


class RowWriter:
    """Append uint8 rows of one shape to an ``.npy`` file.

    Rows are written as ordinary file writes: a full disk is an `OSError` at the row that no
    longer fits, where writing through a memory map would kill the process. Use as a context
    manager; the file is complete and on the disk when the block has ended well.

    Args:
        path: The file, replaced if it exists.
        shape: Shape of a row.
        most: The largest number of rows that may come.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], most: int) -> None:
        self.count = 0
        self._shape = shape
        self._file = path.open("wb")
        self._write_header(most)
        self._start = self._file.tell()

    def append(self, row: np.ndarray) -> None:
        """Write one row."""
        if row.shape != self._shape or row.dtype != np.uint8:
            raise ValueError(f"a row is {self._shape} uint8, not {row.shape} {row.dtype}")
        self._file.write(np.ascontiguousarray(row).data)
        self.count += 1

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._write_header(self.count)
                # numpy pads headers so that the number of rows may take any number of digits.
                if self._file.tell() != self._start:
                    raise RuntimeError("this numpy writes headers of varying length")
                self._file.flush()
                os.fsync(self._file.fileno())

    def _write_header(self, rows: int) -> None:
        npy.write_array_header_1_0(
            self._file, {"descr": "|u1", "fortran_order": False, "shape": (rows, *self._shape)}
        )
