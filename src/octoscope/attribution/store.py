"""Maps on disk: a Zarr v3 group, at native resolution, one chunk per row so that work resumes.

```
maps.zarr/                     attributes: format, version, rows, precision, about
    logits                     (N, K) float32, nan where not written
    gradcam/maps               (N, *s), or (N, M, *s) for M classes
    gradcam/record             (N, 5) or (N, M, 5) float32, nan where not written
```

A row's maps are written first and its record after, each as a file that appears at once: a row with
a record is whole, so an interrupted run goes on where it stopped, and several processes may write
different rows of one store. Reading needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr
import zarr.errors

from octoscope.attribution.resize import resize
from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.files import digest_of, explained_disk_errors, read_json

if TYPE_CHECKING:
    from octoscope.attribution.maps import Maps

FORMAT = "octoscope.maps"
VERSION = 1
FIELDS = ("target", "scale", "all_zero", "nonfinite", "clipped_fraction")
"""Columns of a record: the class explained, what stored values are multiplied by, and the flags."""

Precision = Literal["float32", "float16"]


class MapStore:
    """A store of maps of N rows (scans), to which rows and methods can be added at any time.

    Attributes:
        path: Its folder.
        rows: N.
        precision: ``"float32"``, exact, or ``"float16"``, where each map is stored relative to its
            largest magnitude (error at most 0.05 % of it).
        about: What the maps were made of (model, cache, layer …), as given to `create`.
    """

    def __init__(self, path: Path, group: Any) -> None:
        self.path = path
        self.rows: int = group.attrs["rows"]
        self.precision: Precision = group.attrs["precision"]
        self.about: dict[str, Any] = dict(group.attrs["about"])
        self._group = group

    @classmethod
    def create(
        cls,
        path: Path,
        rows: int,
        *,
        precision: Precision = "float32",
        about: Mapping[str, Any] | None = None,
    ) -> MapStore:
        """Create a store, or open the one that is there if it is of the same rows and contents.

        Args:
            path: Folder, such as ``run/maps.zarr``.
            rows: N, the number of scans it can hold.
            precision: ``"float32"`` or ``"float16"``.
            about: What identifies the maps (anything JSON says). A store made of something else is
                never continued.

        Raises:
            OctoscopeError: If something else is at `path`, or the disk refuses.
        """
        wanted = {"rows": rows, "precision": precision, "about": dict(about or {})}
        if precision not in ("float32", "float16"):
            raise OctoscopeError(f'precision "{precision}" is neither float32 nor float16')
        if path.exists() and (path.is_file() or any(path.iterdir())):
            store = cls.open(path)
            found = {"rows": store.rows, "precision": store.precision, "about": store.about}
            if digest_of(found) != digest_of(wanted):
                differs = [key for key in wanted if digest_of(found[key]) != digest_of(wanted[key])]
                raise OctoscopeError(
                    f"{path}: holds maps made otherwise ({' and '.join(differs)} differ); delete "
                    "it or write to another folder"
                )
            return store
        attributes = {"format": FORMAT, "version": VERSION, **wanted}
        with explained_disk_errors(path):
            try:
                return cls(path, zarr.create_group(path, zarr_format=3, attributes=attributes))
            except zarr.errors.ContainsGroupError:  # another process was faster
                return cls.create(path, rows, precision=precision, about=about)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> MapStore:
        """Open a store.

        Raises:
            OctoscopeError: If there is none at `path`, it is something else, or of a newer version.
        """
        if not path.is_dir() or not (path / "zarr.json").is_file():
            raise OctoscopeError(f"{path}: no map store is there; run the explain stage first")
        content = read_json(path / "zarr.json")
        attributes = content.get("attributes") if isinstance(content, dict) else None
        if not isinstance(attributes, dict) or attributes.get("format") != FORMAT:
            raise OctoscopeError(
                f"{path}: a Zarr folder, but no map store; name a maps.zarr of ours"
            )
        if attributes.get("version") != VERSION:
            raise OctoscopeError(
                f"{path}: a map store of version {attributes.get('version')}, and this octoscope "
                f"reads version {VERSION}; update it, or explain anew"
            )
        with explained_disk_errors(path):
            return cls(path, zarr.open_group(path, mode="r" if read_only else "r+", zarr_format=3))

    @property
    def methods(self) -> list[str]:
        """Names of the methods with maps, sorted."""
        return sorted(name for name, _ in self._group.groups())

    def written(self, method: str) -> np.ndarray:
        """Say which rows have maps of a method: (N,) bool."""
        if method not in self._group:
            return np.zeros(self.rows, dtype=bool)
        record = self._array(method, "record")[:].reshape(self.rows, -1, len(FIELDS))
        return ~np.isnan(record[:, :, 0]).any(axis=1)

    def add(self, rows: Sequence[int] | np.ndarray, maps: Maps) -> None:
        """Write everything that `explain` returned for some rows: all methods, and the logits."""
        self.write_logits(rows, maps.logits)
        for method in maps:
            self.write(rows, method, maps.native[method], maps.targets, maps.flags[method])

    def write(
        self,
        rows: Sequence[int] | np.ndarray,
        method: str,
        maps: Any,
        targets: Any,
        flags: Mapping[str, Any],
    ) -> None:
        """Write the maps of some rows, replacing what was there.

        Args:
            rows: (B,) row numbers.
            method: Key of the method.
            maps: (B, *s) or (B, M, *s) native maps, array or tensor.
            targets: (B,) or (B, M) class explained, or ``"all"`` for classes 0 to M-1.
            flags: ``all_zero``, ``nonfinite``, ``clipped_fraction``, each like the targets.

        Raises:
            OctoscopeError: If a shape does not fit the store, or the disk refuses.
        """
        index = self._rows(rows)
        values = _plain(maps).astype(np.float32)
        flag = {name: _plain(flags[name]).astype(np.float32) for name in FIELDS[2:]}
        leading = flag["all_zero"].shape  # (B,) or (B, M)
        if isinstance(targets, str):
            targets = np.broadcast_to(np.arange(leading[-1]), leading)
        if len(index) != len(values) or values.shape[: len(leading)] != leading:
            raise OctoscopeError(
                f"{self.path}: {len(index)} rows, maps {values.shape} and flags {leading} of "
                f"{method} do not fit together"
            )
        scale = self._scale(values, len(leading))
        columns = {"target": _plain(targets).astype(np.float32), "scale": scale, **flag}
        record = np.stack([columns[name].reshape(leading) for name in FIELDS], axis=-1)
        values = values / scale.reshape(*leading, *[1] * (values.ndim - len(leading)))
        with explained_disk_errors(self.path):
            self._ensure(method, "maps", values.shape[1:], self.precision)
            self._ensure(method, "record", record.shape[1:], "float32")
            self._array(method, "maps").oindex[index] = values.astype(self.precision)
            self._array(method, "record").oindex[index] = record  # last: now the rows count

    def write_logits(self, rows: Sequence[int] | np.ndarray, logits: Any) -> None:
        """Write the logits (B, K) of some rows."""
        values = _plain(logits).astype(np.float32)
        with explained_disk_errors(self.path):
            self._ensure("", "logits", values.shape[1:], "float32")
            self._array("", "logits").oindex[self._rows(rows)] = values

    def logits(self) -> np.ndarray:
        """Return the logits (N, K) float32, nan where none are written.

        Raises:
            OctoscopeError: If there are none at all.
        """
        return self._array("", "logits")[:]

    def read(self, row: int, method: str, size: Sequence[int] | None = None) -> np.ndarray:
        """Return a row's map or maps.

        Args:
            row: Row number.
            method: Key of the method.
            size: *S to interpolate to linearly, cell centres aligned; native resolution if None.

        Returns:
            (*S) or (M, *S) float32, raw and signed.

        Raises:
            OctoscopeError: If the row or method is not there.
        """
        record = self.record(row, method)
        stored = self._array(method, "maps")[int(row)].astype(np.float32)
        scale = record["scale"]
        native = stored * scale.reshape(*scale.shape, *[1] * (stored.ndim - scale.ndim))
        return native if size is None else resize(native, size)

    def record(self, row: int, method: str) -> dict[str, np.ndarray]:
        """Return a row's target class, scale and flags, each () or (M,).

        Raises:
            OctoscopeError: If the row or method is not there.
        """
        (index,) = self._rows([row])
        record = self._array(method, "record")[int(index)]
        if np.isnan(record[..., 0]).any():
            raise OctoscopeError(f"{self.path}: row {row} has no map of {method} yet")
        columns = dict(zip(FIELDS, np.moveaxis(record, -1, 0), strict=True))
        kinds = {"target": np.int64, "all_zero": np.bool_, "nonfinite": np.bool_}
        return {name: np.asarray(c).astype(kinds.get(name, c.dtype)) for name, c in columns.items()}

    def _scale(self, values: np.ndarray, leading: int) -> np.ndarray:
        """Return what to divide each map by before storing it, (B,) or (B, M)."""
        if self.precision == "float32":
            return np.ones(values.shape[:leading], dtype=np.float32)
        finite = np.where(np.isfinite(values), np.abs(values), 0)
        largest = finite.reshape(*values.shape[:leading], -1).max(axis=-1)
        return np.where(largest > 0, largest, 1).astype(np.float32)

    def _rows(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        index = np.asarray(rows, dtype=np.int64).reshape(-1)
        wrong = index[(index < 0) | (index >= self.rows)]
        if len(wrong):
            raise OctoscopeError(f"{self.path}: there is no row {wrong[0]} among {self.rows}")
        return index

    def _array(self, method: str, name: str) -> Any:
        path = f"{method}/{name}".lstrip("/")
        try:
            return self._group[path]
        except KeyError:
            what, hint = (method, did_you_mean(method, self.methods)) if method else (name, "")
            raise OctoscopeError(
                f"{self.path}: there is no {what}{hint}; "
                f"methods with maps: {', '.join(self.methods) or 'none'}"
            ) from None

    def _ensure(self, method: str, name: str, shape: tuple[int, ...], dtype: str) -> None:
        """Make an array of N rows if it is not there yet.

        Raises:
            OctoscopeError: If it is there with another shape.
        """
        if method and not re.fullmatch(r"[A-Za-z0-9_+-]+", method):
            raise OctoscopeError(f'"{method}" is no name of a method')
        path = f"{method}/{name}".lstrip("/")
        if path not in self._group:
            # Another process may have made it meanwhile.
            with suppress(zarr.errors.ContainsArrayError, FileExistsError):
                self._group.create_array(
                    path,
                    shape=(self.rows, *shape),
                    chunks=(1, *shape),
                    dtype=dtype,
                    fill_value=float("nan"),
                    compressors=None,  # chunks are a few hundred bytes
                )
        found = self._array(method, name).shape[1:]
        if found != shape:
            raise OctoscopeError(
                f"{self.path}: {path} holds {found} per row, not {shape}; write maps of another "
                "layer or image size to another store"
            )


def _plain(values: Any) -> np.ndarray:
    """Return an array of an array, list or tensor on any device."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
