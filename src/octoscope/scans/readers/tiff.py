"""TIFF and BigTIFF: 8 to 32 bits, one page or many."""

from __future__ import annotations

import numpy as np
from PIL.TiffImagePlugin import TiffImageFile

from octoscope.scans.readers.pixels import decode, grey_or_colour
from octoscope.scans.readers.registry import Source, reader
from octoscope.scans.scan import Scan


@reader(
    "tiff",
    suffixes=(".tif", ".tiff"),
    signature=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
)
def read_tiff(source: Source) -> Scan:
    """Read a TIFF file: ``(H, W)``, or ``(Z, H, W)`` of Z pages; colour in front.

    Raises:
        ScanError: If the pages differ in size or in kind.
    """
    with TiffImageFile(source.file) as image:
        width, height = image.size
        source.require_size(height, width)
        pages = image.n_frames
        source.require_size(height, width, planes=pages * len(image.getbands()), itemsize=4)
        planes = []
        for page in range(pages):
            image.seek(page)
            if image.size != (width, height):
                raise source.fault(
                    f"page {page + 1} of {pages} is {image.size[1]}×{image.size[0]} pixels and "
                    f"page 1 is {height}×{width}; a volume has pages of one size, so split it"
                )
            planes.append(decode(image, source))
            if planes[-1].shape != planes[0].shape or planes[-1].dtype != planes[0].dtype:
                raise source.fault(
                    f"page {page + 1} of {pages} is of another kind (colour or bits) than page 1; "
                    "export all pages alike"
                )
    colour = planes[0].ndim == 3
    array = planes[0] if pages == 1 else np.stack(planes)
    return grey_or_colour(array, source, "tiff", colour=colour)
