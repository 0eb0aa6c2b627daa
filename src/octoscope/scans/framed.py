"""From a file straight into the model's frame: the one way that caches and classifiers share."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from octoscope.errors import ScanError
from octoscope.scans.borders import NARROWEST, WHITE_FROM
from octoscope.scans.framing import Framing, Placement, place
from octoscope.scans.levels import to_uint8
from octoscope.scans.readers import read_scan, to_grey
from octoscope.scans.scan import Scan


def read_framed(
    path: Path, framing: Framing, *, content: bytes | None = None
) -> tuple[np.ndarray, Placement]:
    """Read a B-scan into the frame.

    A JPEG that the framing shrinks to half or less is decoded at half its size, in about two
    thirds of the time. Its placement is exactly that of the whole scan; its pixels differ from
    those of the whole scan, shrunk, by less than one grey level on average.

    Args:
        path: The file.
        framing: The rule.
        content: The bytes of the file, if `read_content` has read them already.

    Returns:
        ``(height, width)`` uint8, and where the scan lies in it.

    Raises:
        ScanError: If the file cannot be read, or holds a volume.
    """
    reduce = partial(reduction, framing)
    scan = read_scan(path, grey=True, reduce=reduce, content=content)
    picture = _grey8(scan, framing)
    if scan.reduced > 1 and framing.wedges == "fill" and _border_possible(picture):
        scan = read_scan(
            path, grey=True, content=content
        )  # borders are looked for in the file's own pixels
        picture = _grey8(scan, framing)
    placement = place(picture, framing)
    framed = placement.apply(picture)
    if scan.reduced > 1:
        height, width = (side * scan.reduced for side in placement.shape)
        placement = replace(placement, shape=(height, width), crop=(0, 0, height, width))
    return framed, placement


def reduction(framing: Framing, height: int, width: int) -> int:
    """Return by how much a scan may be reduced before it is framed: 1 or 2.

    The reduced copy still has as many rows and columns as the frame shows of them, and 2 divides
    both sides, so that it covers just what the scan covers. The retina is looked for at full
    size. Smaller copies than half would save little: most of the time goes into the bit stream.
    """
    if framing.mode == "band" or height % 2 or width % 2:
        return 1
    shrinks = (height / framing.height, width / framing.width)
    return 2 if (max if framing.keeps_aspect else min)(shrinks) >= 2 else 1


def _border_possible(halved: np.ndarray) -> bool:
    """Whether a white border could begin at a side of the scan; rather too often than too seldom.

    A border one pixel wide is half as bright in the halved picture, so half of white counts.
    """
    bright = 0.8 * WHITE_FROM / 2
    least = NARROWEST // 2 - 1
    lines = (*halved[:2], *halved[-2:], *halved.T[:2], *halved.T[-2:])
    return any(_has_stretch(line >= bright, least) for line in lines)


def _has_stretch(flags: np.ndarray, least: int) -> bool:
    """Whether `flags` (N,) are set over `least` at one end, or over nearly half of the line."""
    if np.count_nonzero(flags) < least:
        return False
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]))).reshape(-1, 2)
    lengths = edges[:, 1] - edges[:, 0]
    at_an_end = (edges[:, 0] <= 1) | (edges[:, 1] >= len(flags) - 1)
    return bool(((lengths >= least) & (at_an_end | (lengths >= 0.45 * len(flags)))).any())


def _grey8(scan: Scan, framing: Framing) -> np.ndarray:
    """Return a B-scan as ``(H, W)`` uint8 by the framing's levels; colour becomes luminance."""
    if len(scan.spatial_shape) != 2:
        raise ScanError(
            scan.source,
            f"is a volume of {scan.spatial_shape[0]} B-scans, which cannot be used yet; export "
            "its B-scans as files of their own",
        )
    return to_uint8(to_grey(scan), framing.levels, depth=scan.depth)
