"""The folder of a map store as a whole: making it once, and refusing what is none."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import zarr
import zarr.errors

from octoscope.attribution.store_arrays import lock_of
from octoscope.attribution.store_check import DamagedMapsError, check_attributes
from octoscope.data.lock import exclusive
from octoscope.errors import OctoscopeError
from octoscope.files import explained_disk_errors, read_json

FORMAT = "octoscope.maps"
VERSION = 2
"""Version 2 added uint8, compression and details; a store of version 1 is read and continued."""

READ = (1, 2)


def make_group(path: Path, content: Mapping[str, Any]) -> None:
    """Make the group of a store with its attributes, unless something is at `path`.

    Several processes may call it at once: one makes it, the others wait until it is there.
    """
    if (path / "zarr.json").is_file():
        return
    with explained_disk_errors(path), exclusive(lock_of(path), f"making {path}"):
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            attributes = {"format": FORMAT, "version": VERSION, **content}
            with suppress(zarr.errors.ContainsGroupError):  # on a disk without locks
                zarr.create_group(path, zarr_format=3, attributes=attributes)


def open_group(path: Path, *, read_only: bool) -> Any:
    """Open the group of a store.

    Raises:
        OctoscopeError: If there is none at `path`, it is something else, of a newer version, or
            damaged.
    """
    if not path.is_dir() or not (path / "zarr.json").is_file():
        raise OctoscopeError(f"{path}: no map store is there; run the explain stage first")
    content = read_json(path / "zarr.json")
    attributes = content.get("attributes") if isinstance(content, dict) else None
    if not isinstance(attributes, dict) or attributes.get("format") != FORMAT:
        raise OctoscopeError(f"{path}: a Zarr folder, but no map store; name a maps.zarr of ours")
    if attributes.get("version") not in READ:
        raise OctoscopeError(
            f"{path}: a map store of version {attributes.get('version')}, and this octoscope "
            f"reads versions {' and '.join(map(str, READ))}; update it, or explain anew"
        )
    check_attributes(path, attributes)
    if content.get("node_type") != "group" or content.get("consolidated_metadata") is not None:
        raise DamagedMapsError(path, "zarr.json: describes more than a group")
    with explained_disk_errors(path):
        try:
            return zarr.open_group(
                path,
                mode="r" if read_only else "r+",
                zarr_format=3,
                use_consolidated=False,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedMapsError(path, f"zarr.json: {error}") from None
