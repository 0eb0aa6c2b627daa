"""Maps on disk: a Zarr v3 group, at native resolution, one chunk per row so that work resumes.

```
maps.zarr/                     attributes: format, version, rows, precision, about
    logits                     (N, K) float32, nan where not written
    gradcam/maps               (N, *s), or (N, M, *s) for M classes, in the store's precision
    gradcam/record             (N, 5) or (N, M, 5) float32, nan where not written
    gradcam/details            (N, D) or (N, M, D) float32, where the method has by-products
```

Every row ends in a checksum, and only what this package writes is read (`store_check`).

A row's maps are written first and its record last, each as a file that appears at once: a row with
a record is whole, so an interrupted run goes on where it stopped, and several processes may write
different rows of one store. Reading needs no torch.

By-products of one number per map are kept; those that are maps themselves, such as standard errors,
would double the store and are had from `explain`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from octoscope.attribution.resize import resize
from octoscope.attribution.store_arrays import Arrays, numbers_of, plain
from octoscope.attribution.store_coding import FILL, Precision, decode, encode, require_precision
from octoscope.attribution.store_format import make_group, open_group
from octoscope.attribution.store_record import FIELDS, columns_read, columns_to_write, require_maps
from octoscope.errors import OctoscopeError
from octoscope.files import digest_of, explained_disk_errors

if TYPE_CHECKING:
    from octoscope.attribution.maps import Maps

COMPACT: Precision = "float16"
"""Of a new store that is asked for no precision."""


class MapStore:
    """A store of maps of N rows (scans), to which rows and methods can be added at any time.

    Attributes:
        path: Its folder.
        rows: N.
        precision: ``"float32"``, exact; or, relative to the largest magnitude of each map,
            ``"float16"`` (error at most 0.05 % of it) or ``"uint8"`` (0.4 %, symmetric around
            zero, infinities become nan).
        about: What the maps were made of (model, cache, layer …), as given to `create`.
    """

    def __init__(self, path: Path, group: Any) -> None:
        self.path = path
        self.rows: int = group.attrs["rows"]
        self.precision: Precision = group.attrs["precision"]
        self.about: dict[str, Any] = dict(group.attrs["about"])
        self._arrays = Arrays(path, group, self.rows, self.precision)

    @classmethod
    def create(
        cls,
        path: Path,
        rows: int,
        *,
        precision: Precision | None = "float32",
        about: Mapping[str, Any] | None = None,
    ) -> MapStore:
        """Create a store, or open the one that is there if it is of the same rows and contents.

        Several processes may call it at once.

        Args:
            path: Folder, such as ``run/maps.zarr``.
            rows: N, the number of scans it can hold.
            precision: See `MapStore`; None for that of the store that is there, or ``"float16"``.
            about: What identifies the maps (anything JSON says). A store made of something else is
                never continued.

        Raises:
            OctoscopeError: If something else is at `path`, or the disk refuses.
        """
        if precision is not None:
            require_precision(precision)
        wanted = {"rows": rows, "precision": precision, "about": dict(about or {})}
        make_group(path, {**wanted, "precision": precision or COMPACT})
        store = cls.open(path)
        found = {"rows": store.rows, "precision": store.precision, "about": store.about}
        wanted["precision"] = precision or store.precision
        differs = [key for key in wanted if digest_of(found[key]) != digest_of(wanted[key])]
        if differs:
            raise OctoscopeError(
                f"{path}: holds maps made otherwise ({' and '.join(differs)} differ); delete "
                "it or write to another folder"
            )
        return store

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> MapStore:
        """Open a store.

        Raises:
            OctoscopeError: If there is none at `path`, it is something else, or of a newer version.
        """
        return cls(path, open_group(path, read_only=read_only))

    @property
    def methods(self) -> list[str]:
        """Names of the methods with maps, sorted."""
        return self._arrays.methods

    def written(self, method: str, rows: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Say which rows have maps of a method: (N,) bool, or (R,) for the R rows asked for."""
        index = np.arange(self.rows) if rows is None else self._rows(rows)
        if f"{method}/record" not in self._arrays or not len(index):
            return np.zeros(len(index), dtype=bool)
        record = self._take(f"{method}/record", index).reshape(len(index), -1, len(FIELDS))
        return ~np.isnan(record[:, :, 0]).any(axis=1)

    def add(self, rows: Sequence[int] | np.ndarray, maps: Maps) -> None:
        """Write everything that `explain` returned for some rows: all methods, and the logits.

        Maps of parts (`Method.parts`) keep their axis in place of the classes; their target is -1.
        """
        from octoscope.attribution.registry import METHODS  # torch is there, or there were no maps

        if maps.scores:
            raise OctoscopeError(f"{self.path}: keeps maps of classes, not of {maps.scores[0]}")
        self.write_logits(rows, maps.logits)
        for method in maps:
            of_parts = method in METHODS and METHODS[method].parts
            self.write(
                rows,
                method,
                maps.native[method],
                None if of_parts else maps.targets,
                maps.flags[method],
                maps.details.get(method),
            )

    def write(
        self,
        rows: Sequence[int] | np.ndarray,
        method: str,
        maps: Any,
        targets: Any,
        flags: Mapping[str, Any],
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the maps of some rows, replacing what was there.

        Args:
            rows: (B,) row numbers.
            method: Key of the method.
            maps: (B, *s) or (B, M, *s) native maps, array or tensor.
            targets: (B,) or (B, M) class explained, ``"all"`` for classes 0 to M-1, or None where
                the maps are of no class.
            flags: ``all_zero``, ``nonfinite``, ``clipped_fraction``, each (B,) or (B, M).
            details: By-products; those of the shape of the flags are kept.

        Raises:
            OctoscopeError: If a shape does not fit the store, or the disk refuses.
        """
        index = self._rows(rows)
        values = plain(maps).astype(np.float32)
        columns = columns_to_write(self.path, method, values, targets, flags)
        leading = columns["target"].shape  # (B,) or (B, M)
        if len(index) != len(values):
            raise OctoscopeError(
                f"{self.path}: {len(index)} rows and {len(values)} maps of {method} do not fit "
                "together"
            )
        stored, scale = encode(values, len(leading), self.precision)
        columns["scale"] = scale
        names, by_products = numbers_of(details or {}, leading)
        record = np.stack([columns[name] for name in FIELDS], axis=-1)
        with explained_disk_errors(self.path):
            self._put(f"{method}/maps", index, stored, FILL[self.precision])
            if names:
                self._put(f"{method}/details", index, by_products, about={"names": names})
            self._put(f"{method}/record", index, record)  # last: now the rows count

    def write_logits(self, rows: Sequence[int] | np.ndarray, logits: Any) -> None:
        """Write the logits (B, K) of some rows."""
        with explained_disk_errors(self.path):
            self._put("logits", self._rows(rows), plain(logits).astype(np.float32))

    def logits(self) -> np.ndarray:
        """Return the logits (N, K) float32, nan where none are written; an error if none are."""
        return self._take("logits", np.arange(self.rows))

    def read(self, row: int, method: str, size: Sequence[int] | None = None) -> np.ndarray:
        """Return a row's map or maps, (*S) or (M, *S) float32, as `read_rows` does for several."""
        return self.read_rows([row], method, size)[0]

    def read_with_record(self, row: int, method: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return what `read`, at native resolution, and `record` return, from one reading."""
        maps, record = self._read([row], method)
        return maps[0], {name: column[0] for name, column in record.items()}

    def read_rows(
        self,
        rows: Sequence[int] | np.ndarray,
        method: str,
        size: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Return the maps of R rows, (R, *S) or (R, M, *S) float32, raw and signed.

        Args:
            rows: Row numbers.
            method: Key of the method.
            size: *S to interpolate to linearly, cell centres aligned; native resolution if None.

        Raises:
            OctoscopeError: If a row or the method is not there, or damaged (`DamagedMapsError`).
        """
        native, _ = self._read(rows, method)
        if size is None:
            return native
        if len(native) == 0:  # nothing to interpolate
            return native.reshape(*native.shape[: -len(size)], *size)
        return resize(native, size)

    def _read(
        self, rows: Sequence[int] | np.ndarray, method: str
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the maps of R rows at native resolution, and what `records` does."""
        index, record = self._rows(rows), self.records(rows, method)
        stored, there = self._arrays.take(f"{method}/maps", index)
        require_maps(self.path, method, index, stored, there, record)
        return decode(stored, record["scale"], self.precision), record

    def record(self, row: int, method: str) -> dict[str, np.ndarray]:
        """Return a row's target class (-1: none), scale and flags, each () or (M,)."""
        return {name: column[0] for name, column in self.records([row], method).items()}

    def records(self, rows: Sequence[int] | np.ndarray, method: str) -> dict[str, np.ndarray]:
        """Return what `record` does for R rows, each (R,) or (R, M).

        Raises:
            OctoscopeError: If a row or the method is not there.
        """
        index = self._rows(rows)
        record = self._take(f"{method}/record", index)
        lacking = np.isnan(record[..., 0])
        lacking = lacking.any(axis=tuple(range(1, lacking.ndim)))
        if lacking.any():
            raise OctoscopeError(f"{self.path}: row {index[lacking][0]} has no map of {method} yet")
        return columns_read(self.path, method, record)

    def details(self, row: int, method: str) -> dict[str, np.ndarray]:
        """Return a row's by-products of one number per map, each () or (M,); none for most methods.

        Raises:
            OctoscopeError: If the row or method is not there.
        """
        self.record(row, method)
        path = f"{method}/details"
        if path not in self._arrays:
            return {}
        stored = self._take(path, [row])[0]
        names = self._arrays[path].attrs["names"]
        return dict(zip(names, np.moveaxis(stored, -1, 0), strict=True))

    def renew(self, method: str, by_products: Iterable[str]) -> bool:
        """Delete the maps of a method that were made with other by-products than these.

        A consensus has a weight of every method that it combines: with another set of methods it
        is another map. Several processes may call it at once, before any of them writes.

        Returns:
            Whether there were such maps.

        Raises:
            OctoscopeError: If the disk refuses.
        """
        path = f"{method}/details"
        with explained_disk_errors(self.path), self._arrays.locked():
            names = self._arrays[path].attrs["names"] if path in self._arrays else []
            if not names and f"{method}/record" not in self._arrays:
                return False
            if set(names) == set(by_products):
                return False
            self._arrays.delete(method)
            return True

    def _put(
        self,
        path: str,
        index: np.ndarray,
        values: np.ndarray,
        fill: float = float("nan"),
        about: dict[str, Any] | None = None,
    ) -> None:
        """Write rows of an array, which is made if need be."""
        self._arrays.ensure(path, values.shape[1:], values.dtype.name, fill, about)
        self._arrays[path].oindex[index] = values

    def _take(self, path: str, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return rows (R, …) of an array."""
        return self._arrays.take(path, self._rows(rows))[0]

    def _rows(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        index = np.asarray(rows, dtype=np.int64).reshape(-1)
        wrong = index[(index < 0) | (index >= self.rows)]
        if len(wrong):
            raise OctoscopeError(f"{self.path}: there is no row {wrong[0]} among {self.rows}")
        return index
