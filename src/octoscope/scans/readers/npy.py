"""NumPy ``.npy``, never unpickled."""

from __future__ import annotations

import math

import numpy as np

from octoscope.scans.readers.pixels import grey_or_colour
from octoscope.scans.readers.registry import Source, reader
from octoscope.scans.scan import Scan

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _eight_bits(source: Source) -> bool:
    """Say whether the array is of bytes without a sign, or of bits."""
    dtype = HEADERS[np.lib.format.read_magic(source.file)](source.file)[2]
    return dtype.itemsize == 1 and dtype.kind in "ub"


@reader("npy", suffixes=(".npy",), signature=b"\x93NUMPY", eight_bits=_eight_bits)
def read_npy(source: Source) -> Scan:
    """Read an array: ``(H, W)``, ``(Z, H, W)``, or either with a last axis of 3 or 4 colours.

    Raises:
        ScanError: If it holds objects, text or complex numbers, has another shape, or fewer
            bytes than its header promises.
    """
    version = np.lib.format.read_magic(source.file)
    if version not in HEADERS:
        raise source.fault(f"is NPY version {version[0]}.{version[1]}; save it with numpy.save")
    shape, _, dtype = HEADERS[version](source.file)
    if dtype.hasobject or dtype.kind not in "buif":
        raise source.fault(f"holds {dtype} instead of numbers; save grey levels in it")
    spatial = shape[:-1] if len(shape) in (3, 4) and shape[-1] in (3, 4) else shape
    if len(spatial) not in (2, 3) or (len(spatial) == 3 and spatial[0] < 1):
        raise source.fault(
            f"holds an array of shape {shape}; a scan is (H, W), (Z, H, W) or one of these with "
            "a last axis of 3 colours"
        )
    height, width = spatial[-2:]
    source.require_size(
        height, width, planes=math.prod(shape) // (height * width or 1), itemsize=dtype.itemsize
    )
    source.require_bytes(source.size - source.file.tell(), math.prod(shape) * dtype.itemsize)
    source.file.seek(0)
    array = _plain(np.lib.format.read_array(source.file, allow_pickle=False), source)
    colour = spatial != shape
    array = array[..., :3] if colour else array
    array = array[0] if len(spatial) == 3 and len(array) == 1 else array
    return grey_or_colour(array, source, "npy", colour=colour)


def _plain(array: np.ndarray, source: Source) -> np.ndarray:
    """Return native byte order; fractions as float32, bool as 0 and 255 (or as 0 and 1)."""
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(1 if source.indices else 255)
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
