"""What the files of a map store may say: only what this package writes is read.

The description of an array names its shape and its codecs. A shape can ask for more memory than
there is, and zarr looks codecs up among everything that is installed, so that descriptions are
checked before zarr sees them. Chunks are checked before they are unpacked: that they are files, as
long as they should be, and unpack to no more than a row.
"""

from __future__ import annotations

import math
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from octoscope.attribution.store_coding import FILL, Precision
from octoscope.errors import OctoscopeError
from octoscope.files import read_json

MOST_ROWS = 10**7
"""Scans of a store."""
MOST_VALUES = 2**27
"""Numbers of a row: 500 classes of maps of 512 × 512 pixels."""
MOST_AXES = 6
MOST_BY_PRODUCTS = 1000
RECORD_FIELDS = 5

BLOSC_HEADER = struct.Struct("<4B3I")
"""Versions, flags, size of a number; bytes unpacked, of a block, packed (c-blosc's format)."""
CHECKSUM_BYTES = 4


class DamagedMapsError(OctoscopeError):
    """A map store whose files are not as they were written."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path}: the maps are damaged ({what}); delete that folder, then "
            f"`octoscope explain {path.parent}` or the study makes it anew"
        )


@dataclass(frozen=True)
class Layout:
    """How the rows of an array lie on the disk.

    Attributes:
        shape: Of one row.
        size: Bytes of one row.
        packed: Whether chunks are compressed.
        checked: Whether a checksum ends them.
    """

    shape: tuple[int, ...]
    size: int
    packed: bool
    checked: bool


def check_attributes(path: Path, attributes: dict[str, Any]) -> None:
    """Check what the root of a store says of it.

    Raises:
        DamagedMapsError: Naming the first attribute that is none of ours.
    """
    rows, precision, about = (attributes.get(name) for name in ("rows", "precision", "about"))
    if not isinstance(rows, int) or isinstance(rows, bool) or not 0 <= rows <= MOST_ROWS:
        raise DamagedMapsError(path, f"zarr.json: rows {rows!r:.40} is no number of scans")
    if not isinstance(precision, str) or precision not in FILL:
        raise DamagedMapsError(path, f"zarr.json: precision {precision!r:.40} is none")
    if not isinstance(about, dict):
        raise DamagedMapsError(path, "zarr.json: does not say what the maps were made of")


def layout_of(store: Path, name: str, rows: int, precision: Precision) -> Layout:
    """Check the description of an array, such as ``gradcam/maps``, and return its layout.

    Raises:
        DamagedMapsError: If it is not as this package describes such an array.
    """
    try:
        said = read_json(store / name / "zarr.json")
    except OctoscopeError as error:
        raise DamagedMapsError(store, str(error)) from None

    def require(holds: bool, what: str) -> None:
        if not holds:
            raise DamagedMapsError(store, f"{name}/zarr.json: {what}")

    require(isinstance(said, dict) and said.get("node_type") == "array", "describes no array")
    require(said.get("zarr_format") == 3, "is not of Zarr version 3")
    shape, kind = said.get("shape"), name.rpartition("/")[2]
    require(
        isinstance(shape, list)
        and 2 <= len(shape) <= MOST_AXES
        and all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in shape[1:]),
        f"shape {shape!r:.60} is none",
    )
    require(shape[0] == rows, f"has {shape[0]!r:.20} rows, and the store {rows}")
    most = MOST_VALUES // max(rows, 1) if kind == "logits" else MOST_VALUES  # read as a whole
    require(math.prod(shape[1:]) <= most, f"shape {shape!r:.60} is too large")
    grid = {"name": "regular", "configuration": {"chunk_shape": [1, *shape[1:]]}}
    require(said.get("chunk_grid") == grid, "has other chunks than rows")
    keys = {"name": "default", "configuration": {"separator": "/"}}
    require(said.get("chunk_key_encoding") == keys, "names its chunks otherwise")
    dtype = precision if kind == "maps" else "float32"
    require(said.get("data_type") == dtype, f"holds {said.get('data_type')!r:.40}, not {dtype}")
    fill = 0 if dtype == "uint8" else "NaN"
    require(said.get("fill_value") == fill, "has another value for what is not written")
    require(said.get("storage_transformers", []) == [], "is transformed")
    attributes = said.get("attributes", {})
    require(isinstance(attributes, dict), "has attributes that are none")
    if kind == "record":
        require(len(shape) <= 3 and shape[-1] == RECORD_FIELDS, f"shape {shape} is no record's")
    if kind == "details":
        names = attributes.get("names")
        require(
            isinstance(names, list)
            and all(isinstance(n, str) for n in names)
            and len(set(names)) == len(names) == shape[-1] <= MOST_BY_PRODUCTS,
            "does not name its columns",
        )
    size = np.dtype(dtype).itemsize
    packed, checked = _codecs(said.get("codecs"), size)
    require(packed is not None, "names codecs that no maps are written with")
    return Layout(tuple(shape[1:]), size * math.prod(shape[1:]), bool(packed), checked)


def _codecs(said: Any, itemsize: int) -> tuple[bool | None, bool]:
    """Return whether chunks are packed (None: by other codecs than ours), and whether checked."""
    if not isinstance(said, list):
        return None, False
    left = list(said)
    order = {"name": "bytes", "configuration": {"endian": "little"}}
    plain = [{"name": "bytes"}, {"name": "bytes", "configuration": {}}, order]
    if not left or left.pop(0) not in (plain if itemsize == 1 else [order]):
        return None, False
    checked = bool(left) and left[-1] in (
        {"name": "crc32c"},
        {"name": "crc32c", "configuration": {}},
    )
    if checked:
        left.pop()
    blosc = {"typesize": itemsize, "cname": "zstd", "clevel": 3, "shuffle": "shuffle",
             "blocksize": 0}  # fmt: skip
    if left not in ([], [{"name": "blosc", "configuration": blosc}]):
        return None, checked
    return bool(left), checked


def check_chunk(store: Path, name: str, row: int, layout: Layout) -> bool:
    """Check the file of one row before it is unpacked, and say whether there is one.

    Raises:
        DamagedMapsError: If it is no file, or not as long as it should be.
    """
    place = "/".join([name, "c", str(row), *["0"] * len(layout.shape)])

    def fault(what: str) -> DamagedMapsError:
        return DamagedMapsError(store, f"{place} {what}")

    try:
        found = (store / place).stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise fault(f"cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise fault("is no file")
    size = found.st_size - CHECKSUM_BYTES * layout.checked
    if not layout.packed:
        if size != layout.size:
            raise fault(f"has {size} bytes, not {layout.size}")
        return True
    with (store / place).open("rb") as file:
        head = file.read(BLOSC_HEADER.size)
    if len(head) < BLOSC_HEADER.size:
        raise fault("is cut short")
    *_, unpacked, _, packed = BLOSC_HEADER.unpack(head)
    if unpacked != layout.size or packed != size:
        raise fault("is cut short, or holds something else")
    return True
