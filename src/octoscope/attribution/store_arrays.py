"""The arrays of a map store: one chunk per row, made by one process at a time."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from zarr.codecs import BloscCodec

from octoscope.data.lock import exclusive
from octoscope.errors import OctoscopeError, did_you_mean

COMPRESSED_FROM = 4096
"""Bytes of a chunk from which it is compressed: a file takes a block of the disk anyhow."""


def lock_of(path: Path) -> Path:
    """Return the lock file beside a store; it is held while arrays are made, not while written."""
    return path.parent / f".{path.name}.lock"


class Arrays:
    """The arrays of a group by path, each opened once.

    Attributes:
        path: Folder of the group.
        group: The group.
        rows: Length of every array.
    """

    def __init__(self, path: Path, group: Any, rows: int) -> None:
        self.path, self.group, self.rows = path, group, rows
        self._open: dict[str, Any] = {}

    @property
    def methods(self) -> list[str]:
        """Names of the groups in the group, sorted."""
        return sorted(name for name, _ in self.group.groups())

    def __contains__(self, path: str) -> bool:
        return path in self._open or path in self.group

    def __getitem__(self, path: str) -> Any:
        """Return an array, such as ``gradcam/maps``.

        Raises:
            OctoscopeError: If it is not there, with the methods that are.
        """
        if path not in self._open:
            try:
                self._open[path] = self.group[path]
            except KeyError:
                method = path.split("/")[0]
                there = self.methods
                hint = did_you_mean(method, there) if "/" in path else ""
                raise OctoscopeError(
                    f"{self.path}: there is no {method}{hint}; "
                    f"methods with maps: {', '.join(there) or 'none'}"
                ) from None
        return self._open[path]

    def ensure(
        self,
        path: str,
        shape: tuple[int, ...],
        dtype: str,
        fill: float = float("nan"),
        about: dict[str, Any] | None = None,
    ) -> None:
        """Make an array of all rows if it is not there yet.

        Args:
            path: Such as ``gradcam/maps``.
            shape: Of one row, which is one chunk.
            dtype: Its type.
            fill: What a row that is not written reads as.
            about: Attributes of the array.

        Raises:
            OctoscopeError: If it is there with another shape, or the name is none.
        """
        if not re.fullmatch(r"([A-Za-z0-9_+-]+/)?[a-z]+", path):
            raise OctoscopeError(f'"{path.rpartition("/")[0]}" is no name of a method')
        if path not in self:
            with self.locked():
                if path not in self.group:  # no other process has made it meanwhile
                    self._make(path, shape, dtype, fill, about)
        found = self[path].shape[1:]
        if found != shape:
            raise OctoscopeError(
                f"{self.path}: {path} holds {found} per row, not {shape}; write maps of another "
                "layer or image size to another store"
            )

    def locked(self) -> AbstractContextManager[object]:
        """Keep other processes from making or deleting arrays meanwhile."""
        return exclusive(lock_of(self.path), f"making {self.path}")

    def delete(self, method: str) -> None:
        """Delete all arrays of a method; interrupted at any place, it leaves them whole or gone.

        They are moved out of the store at once, and deleted there. Were they deleted in their
        places, numbers without their array would be left behind, and come back when it is made
        anew.
        """
        self._open = {
            path: array for path, array in self._open.items() if not path.startswith(f"{method}/")
        }
        store = self.path.resolve()  # a link may lead to another disk, where nothing can be moved
        aside = store.parent / f".{store.name}.deleted"
        if aside.exists():  # of a call that was interrupted
            shutil.rmtree(aside)
        (store / method).rename(aside)
        shutil.rmtree(aside)

    def _make(
        self,
        path: str,
        shape: tuple[int, ...],
        dtype: str,
        fill: float,
        about: dict[str, Any] | None,
    ) -> None:
        size = np.dtype(dtype).itemsize * math.prod(shape)
        # Shuffled bytes: the exponents of neighbours are alike, their mantissas are not.
        compressor = BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")
        self.group.create_array(
            path,
            shape=(self.rows, *shape),
            chunks=(1, *shape),
            dtype=dtype,
            fill_value=fill,
            compressors=compressor if size >= COMPRESSED_FROM else None,
            attributes=about,
        )


def numbers_of(
    details: Mapping[str, Any], leading: tuple[int, ...]
) -> tuple[list[str], np.ndarray]:
    """Return the names of the by-products that are one number per map, and (*leading, D)."""
    every = {name: plain(value) for name, value in sorted(details.items())}
    kept = {name: value for name, value in every.items() if value.shape == leading}
    columns = [value.astype(np.float32) for value in kept.values()]
    return list(kept), np.stack(columns, axis=-1) if columns else np.empty(0)


def plain(values: Any) -> np.ndarray:
    """Return an array of an array, list or tensor on any device."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
