"""What tells the scans, splits and framing that are asked for from those of a study, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from octoscope.data.cache import ScanCache
from octoscope.data.decode import fingerprint, stamp
from octoscope.data.entry import load_entry
from octoscope.data.identity import FileRecord, decode_code
from octoscope.errors import OctoscopeError
from octoscope.files import digest_of
from octoscope.scans.framing import Framing
from octoscope.scans.table import COLUMNS, ScanTable
from octoscope.scans.wording import many

SETTINGS = ("split_seed", "on_overlap", "unknown_patients", "layout")
"""Settings of a study that change its table, and nothing else."""


@dataclass(frozen=True)
class Former:
    """What a study folder says of the scans that its models were trained on.

    Attributes:
        config: The settings in study.json, empty if they cannot be read.
        table: The rows of table.parquet, None if they cannot be read.
        cache: The cache of the trained models, None if it is gone or damaged.
    """

    config: Mapping[str, Any]
    table: pd.DataFrame | None
    cache: ScanCache | None


def differences(
    former: Former, asked: Mapping[str, Any], table: ScanTable, framing: Framing
) -> list[str]:
    """Return what differs, one clause each, the plainest first; empty if nothing can be named.

    Args:
        former: What is there.
        asked: The settings that are asked for.
        table: The scans that are asked for.
        framing: Likewise.
    """
    found = [*_framings(former, framing)]
    rows = _rows(former, table)
    settings = [name for name in SETTINGS if former.config.get(name, asked[name]) != asked[name]]
    if rows:
        found += [f"{name} was {former.config[name]!r} and is {asked[name]!r}" for name in settings]
    found += rows
    if former.cache is not None and former.cache.folder is not None:
        found += _files(former.cache.folder, table)
    return found


def _framings(former: Former, framing: Framing) -> list[str]:
    """Name the fields of the framing that differ; what the cache found itself is no setting."""
    there = former.config.get("framing")
    if not isinstance(there, Mapping):
        there = former.cache.framing.to_dict() if former.cache else {}
        there.pop("levels", None)
    asked = framing.to_dict()
    return [
        f"framing.{name} was {there[name]!r} and is {asked[name]!r}"
        for name in asked
        if name in there and digest_of(there[name]) != digest_of(asked[name])
    ]


def _rows(former: Former, table: ScanTable) -> list[str]:
    """Name scans that came, went, or say something else in a column."""
    frame = former.table
    if frame is None:
        if former.cache is None:
            return []
        frame = former.cache.table.frame
    if "path" not in frame or any(column not in frame for column in COLUMNS):
        return []
    there = frame.drop_duplicates("path").set_index("path")
    asked = table.frame.set_index("path")
    came, went = asked.index.difference(there.index), there.index.difference(asked.index)
    found = []
    if len(came):
        found.append(f"{many(len(came), 'scan')} more ({came[0]})")
    if len(went):
        found.append(f"{many(len(went), 'scan')} fewer ({went[0]})")
    common = asked.index.intersection(there.index)
    for column in COLUMNS[1:]:
        one = there.loc[common, column].astype(object)
        other = asked.loc[common, column].astype(object)
        differs = ~((one == other).fillna(False) | (one.isna() & other.isna())).to_numpy(dtype=bool)
        if differs.any():
            first = common[int(np.flatnonzero(differs)[0])]
            found.append(
                f"the {column} of {many(int(differs.sum()), 'scan')} is another ({first}: was "
                f"{_said(one[first])}, is {_said(other[first])})"
            )
    return found


def _said(value: object) -> str:
    return "empty" if value is None or pd.isna(value) else str(value)


def _files(place: Path, table: ScanTable) -> list[str]:
    """Name files whose content is another than when the cache was built, or that another reads."""
    found = []
    try:
        record = FileRecord.load(place / "files.parquet")
        if load_entry(place).code != decode_code():
            found.append("this version of octoscope reads or frames scans otherwise")
    except OctoscopeError:
        return []
    asked = {*table.frame["path"], *table.frame["mask"].dropna()}  # one that went is said above
    changed = []
    for path, mark, content in zip(record.paths, record.stamps, record.hashes, strict=True):
        if path not in asked or stamp(f"{table.root}/{path}") == tuple(mark.tolist()):
            continue
        if fingerprint(table.root / path)[1] != content:
            changed.append(path)
    if changed:
        found.append(f"{many(len(changed), 'file')} changed ({changed[0]})")
    return found
