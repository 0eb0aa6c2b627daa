"""The record of a map in a store: the class explained, its scale, and its flags."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from octoscope.attribution.store_arrays import plain
from octoscope.attribution.store_check import DamagedMapsError
from octoscope.errors import OctoscopeError

FIELDS = ("target", "scale", "all_zero", "nonfinite", "clipped_fraction")
"""Columns of a record: the class explained (-1: none), the map's scale, and the flags."""

NO_CLASS = -1
"""Target of a map that is of a part of the model, such as an attention head, not of a class."""

MOST_CLASSES = 10**5
"""Below which the number of a class lies."""

KINDS: dict[str, Any] = {"target": np.int64, "all_zero": np.bool_, "nonfinite": np.bool_}
"""Of the columns that are not float32."""


def columns_to_write(
    store: Path, method: str, values: np.ndarray, targets: Any, flags: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return the target and flags of maps, each (B,) or (B, M) float32.

    Args:
        store: For the message.
        method: For the message.
        values: (B, *s) or (B, M, *s) maps.
        targets: (B,) or (B, M), ``"all"`` or None, see `MapStore.write`.
        flags: Each (B,) or (B, M).

    Raises:
        OctoscopeError: If the shapes do not fit together.
    """
    flag = {name: plain(flags[name]).astype(np.float32) for name in FIELDS[2:]}
    leading = flag["all_zero"].shape
    if targets is None:
        targets = np.full(leading, NO_CLASS)
    elif isinstance(targets, str):
        targets = np.broadcast_to(np.arange(leading[-1]), leading)
    target = plain(targets).astype(np.float32)
    if not values.shape[: len(leading)] == leading == target.shape:
        raise OctoscopeError(
            f"{store}: maps {values.shape}, flags {leading} and targets {target.shape} of "
            f"{method} do not fit together"
        )
    return {"target": target, **flag}


def columns_read(store: Path, method: str, record: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of records (R, 5) or (R, M, 5), each (R,) or (R, M) in its type.

    Raises:
        DamagedMapsError: If one holds what no map has.
    """
    columns = dict(zip(FIELDS, np.moveaxis(record, -1, 0), strict=True))
    target, scale = columns["target"], columns["scale"]
    flags = np.stack([columns["all_zero"], columns["nonfinite"]])
    sound = (
        (target == np.rint(target)).all()
        and ((target >= NO_CLASS) & (target < MOST_CLASSES)).all()
        and (np.isfinite(scale) & (scale > 0)).all()
        and np.isin(flags, (0, 1)).all()
    )
    if not sound:
        raise DamagedMapsError(store, f"{method}: a record holds what no map has")
    return {name: np.asarray(c).astype(KINDS.get(name, c.dtype)) for name, c in columns.items()}


def require_maps(
    store: Path,
    method: str,
    index: np.ndarray,
    stored: np.ndarray,
    there: np.ndarray,
    record: Mapping[str, np.ndarray],
) -> None:
    """Refuse maps that do not fit their records, and rows that have a record and no maps.

    Nothing is kept of maps that are nan throughout.

    Args:
        store: For the message.
        method: For the message.
        index: (R,) row numbers.
        stored: (R, …) what was read.
        there: (R,) whether there is a file of it.
        record: What `columns_read` gives.

    Raises:
        DamagedMapsError: Naming the row.
    """
    if stored.shape[: record["scale"].ndim] != record["scale"].shape:
        raise DamagedMapsError(store, f"{method}: maps and records do not fit together")
    nonfinite = record["nonfinite"]
    empty = np.asarray(nonfinite.all(axis=tuple(range(1, nonfinite.ndim))))
    if (lost := index[~there & ~empty]).size:
        raise DamagedMapsError(store, f"{method}: the maps of row {lost[0]} are missing")
