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
from zarr.codecs import BloscCodec, Crc32cCodec

from octoscope.attribution.store_check import DamagedMapsError, Layout, check_chunk, layout_of
from octoscope.attribution.store_coding import Precision
from octoscope.data.lock import exclusive
from octoscope.errors import OctoscopeError, did_you_mean

METHOD_NAME = re.compile(r"[A-Za-z0-9_+-]+")

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
        precision: Type of the maps.
    """

    def __init__(self, path: Path, group: Any, rows: int, precision: Precision) -> None:
        self.path, self.group, self.rows, self.precision = path, group, rows, precision
        self._open: dict[str, Any] = {}
        self._layouts: dict[str, Layout] = {}

    @property
    def methods(self) -> list[str]:
        """Names of the methods, sorted.

        Raises:
            DamagedMapsError: If one has lost its description.
        """
        found, lacking = self._folders()
        if lacking:
            with self.locked():  # or another process is making it at this moment
                found, lacking = self._folders()
        if lacking:
            raise DamagedMapsError(self.path, f"{lacking[0]}/zarr.json is missing")
        return found

    def _folders(self) -> tuple[list[str], list[str]]:
        """Return the names of the groups in the group, and those of groups without description."""
        folders = sorted(
            place.name for place in self.path.iterdir() if METHOD_NAME.fullmatch(place.name)
        )
        groups = [name for name in folders if any((self.path / name).glob("*/zarr.json"))]
        lacking = [name for name in groups if not (self.path / name / "zarr.json").is_file()]
        return groups, lacking

    def __contains__(self, path: str) -> bool:
        return path in self._open or (self.path / path / "zarr.json").is_file()

    def __getitem__(self, path: str) -> Any:
        """Return an array, such as ``gradcam/maps``.

        Raises:
            OctoscopeError: If it is not there, with the methods that are.
            DamagedMapsError: If it is not as it was written.
        """
        if path not in self._open:
            method, there = path.split("/")[0], self.methods
            if path not in self:
                if method in there:
                    raise DamagedMapsError(self.path, f"{path}/zarr.json is missing")
                hint = did_you_mean(method, there) if "/" in path else ""
                raise OctoscopeError(
                    f"{self.path}: there is no {method}{hint}; "
                    f"methods with maps: {', '.join(there) or 'none'}"
                )
            self._layouts[path] = layout_of(self.path, path, self.rows, self.precision)
            try:
                self._open[path] = self.group[path]
            except (KeyError, TypeError, ValueError) as error:
                raise DamagedMapsError(self.path, f"{path}/zarr.json: {error}") from None
        return self._open[path]

    def take(self, path: str, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rows (R, …) of an array, and which of them were ever written (R,) bool.

        Raises:
            OctoscopeError: If the array is not there.
            DamagedMapsError: If a row is not as it was written.
        """
        array = self[path]
        there = [check_chunk(self.path, path, row, self._layouts[path]) for row in index.tolist()]
        try:
            found = np.asarray(array.oindex[index])
        except (RuntimeError, TypeError, ValueError, OSError) as error:  # of a codec, or the disk
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DamagedMapsError(self.path, f"{path}: {reason:.120}") from None
        return found, np.array(there, dtype=bool)

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
        if not re.fullmatch(rf"({METHOD_NAME.pattern}/)?[a-z]+", path):
            raise OctoscopeError(f'"{path.rpartition("/")[0]}" is no name of a method')
        if path not in self:
            with self.locked():
                if path not in self:  # no other process has made it meanwhile
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
        for path in [path for path in self._open if path.startswith(f"{method}/")]:
            del self._open[path], self._layouts[path]
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
        checksum = Crc32cCodec()  # a damaged chunk may unpack, or be no shorter, and be wrong
        self.group.create_array(
            path,
            shape=(self.rows, *shape),
            chunks=(1, *shape),
            dtype=dtype,
            fill_value=fill,
            compressors=[compressor, checksum] if size >= COMPRESSED_FROM else [checksum],
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
