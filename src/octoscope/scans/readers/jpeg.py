"""JPEG by libjpeg-turbo (simplejpeg), with Pillow for what that declines.

simplejpeg reports the faults that libjpeg recovers from by painting grey; Pillow hides some of
them. So its complaint about lost pixels stands, and its other complaints are left to Pillow.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import simplejpeg
from PIL.JpegImagePlugin import JpegImageFile

from octoscope.scans.readers.pixels import grey_or_colour, still
from octoscope.scans.readers.registry import Source, always, reader
from octoscope.scans.scan import Scan

# libjpeg's jerror.h: JWRN_JPEG_EOF and JWRN_HIT_MARKER, JWRN_HUFF_BAD_CODE and
# JWRN_ARITH_BAD_CODE, JWRN_MUST_RESYNC, JWRN_BOGUS_PROGRESSION.
LOST_PIXELS = re.compile(
    r"premature end|bad (huffman|arithmetic) code|instead of rst|progression", re.I
)
LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker")
MOST_LEFT_OVER = 64
"""Bytes after the last pixel that are put down to a careless writer; more are pixels that the
header denies."""


@reader(
    "jpeg",
    suffixes=(".jpeg", ".jpg", ".jpe", ".jfif"),
    signature=b"\xff\xd8\xff",
    eight_bits=always,
)
def read_jpeg(source: Source) -> Scan:
    """Read a JPEG file: ``(H, W)`` or ``(3, H, W)`` uint8."""
    content = source.file.read()
    try:
        array, reduced = _decode(content, source)
    except ValueError as error:
        _require_harmless(error, source)
        source.file.seek(0)
        with JpegImageFile(source.file) as image:
            return still(image, source, "jpeg")
    scan = grey_or_colour(array, source, "jpeg", colour=array.ndim == 3)
    return replace(scan, reduced=reduced)


def require_whole(content: bytes, height: int, width: int, source: Source) -> None:
    """Check that a JPEG stream within another file is `height` × `width` and has all its pixels.

    Raises:
        ScanError: If not.
    """
    found = simplejpeg.decode_jpeg_header(content)
    if tuple(found[:2]) != (height, width):
        raise source.fault(
            "is cut short or its header lies about its size (a strip or tile is "
            f"{found[0]}×{found[1]} pixels instead of {height}×{width}); copy or export it again"
        )
    try:
        simplejpeg.decode_jpeg(content, "GRAY")
    except ValueError as error:
        _require_harmless(error, source)


def _require_harmless(error: ValueError, source: Source) -> None:
    """Raise if libjpeg's complaint is about pixels.

    Raises:
        ValueError: The complaint itself, if pixels are lost.
        ScanError: If some are left over.
    """
    if LOST_PIXELS.search(str(error)):
        raise error
    left = LEFT_OVER.search(str(error))
    if left and int(left[1]) > MOST_LEFT_OVER:
        raise source.fault(
            f"holds more pixels than its header says ({left[1]} bytes are left over); its size is "
            "wrong, so export it again"
        ) from error


def _decode(content: bytes, source: Source) -> tuple[np.ndarray, int]:
    """Decode ``(H, W)`` luminance or ``(H, W, 3)`` colour, and say how far it is reduced.

    libjpeg makes a copy of 1/2, 1/4 or 1/8 of the size from the low frequencies of each block.

    Raises:
        ValueError: If libjpeg complains of anything.
    """
    height, width, space, _ = simplejpeg.decode_jpeg_header(content)
    source.require_size(height, width, planes=1 if space == "Gray" else 3)
    factor = source.reduce(height, width) if source.reduce else 1
    least = {"min_height": height // factor, "min_width": width // factor, "min_factor": factor}
    if space == "Gray" or source.grey:
        array = simplejpeg.decode_jpeg(content, "GRAY", **least)[..., 0]
    else:
        array = simplejpeg.decode_jpeg(content, "RGB", **least)
    return array, height // array.shape[0]
