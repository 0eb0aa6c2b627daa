"""The map store of a run: clearing away what is outdated, damaged or left by a killed process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from octoscope.attribution.store_arrays import lock_of
from octoscope.attribution.store_format import FORMAT, READ
from octoscope.data.lock import exclusive
from octoscope.files import explained_disk_errors
from octoscope.study.stage import read_object

PARTIAL_SECONDS = 600
"""A chunk takes far less; one that is still half after this was left by a killed process."""


def clear_outdated(maps: Path, about: Mapping[str, Any]) -> None:
    """Remove maps of the same model and scans that were made by other code of the methods.

    Several processes may call it at once. A store of another model or other scans, or that another
    version wrote, is left for `MapStore.create` to refuse.

    Args:
        maps: Folder of the store.
        about: What the maps shall be made of.
    """
    if not maps.is_dir():
        return
    with explained_disk_errors(maps), exclusive(lock_of(maps), f"clearing {maps}"):
        attributes = read_object(maps / "zarr.json").get("attributes")
        if not isinstance(attributes, dict):
            if any(maps.iterdir()):  # it lost its description, so that nothing in it can be read
                _remove(maps)
            return
        ours = attributes.get("format") == FORMAT and attributes.get("version") in READ
        there = attributes.get("about")
        there = there if ours and isinstance(there, dict) else {}
        same = all(there.get(key) == about[key] for key in ("model", "cache"))
        if same and there.get("code") != about["code"]:
            _remove(maps)
            return
        for half in maps.rglob("*.partial"):
            with suppress(OSError):
                if time.time() - half.stat().st_mtime > PARTIAL_SECONDS:
                    half.unlink()


def clear_changed(maps: Path, changed: Iterable[Path]) -> None:
    """Remove what is no longer what a stage left in a map store, so that it is made again.

    Args:
        maps: Folder of the store.
        changed: Files and folders in it; where one is not the folder of a method, all goes.
    """
    changed = list(changed)
    if any(path.parent != maps or path.name in ("zarr.json", "logits") for path in changed):
        changed = [maps]
    with explained_disk_errors(maps):
        for path in changed:
            if path.is_dir():
                with exclusive(lock_of(maps), f"clearing {maps}"):
                    _remove(path)


def _remove(folder: Path) -> None:
    """Remove a folder; interrupted at any place, it leaves it whole or gone."""
    store = folder.resolve()  # a link may lead to another disk, where nothing can be moved
    outside = next(part for part in (store, *store.parents) if part.suffix == ".zarr").parent
    aside = outside / f".{store.name}.cleared"
    if aside.exists():  # of a call that was interrupted
        shutil.rmtree(aside)
    store.rename(aside)
    shutil.rmtree(aside)
