"""What is measured on every scan: its frame, its borders, its brightness, its fingerprints."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from octoscope.errors import OctoscopeError, ScanError
from octoscope.progress import track
from octoscope.scans.audit.fingerprint import bytes_digest, difference_hash, pixel_digest
from octoscope.scans.audit.kind import Kind, kind_of
from octoscope.scans.audit.thumbnail import SIDE, thumbnails
from octoscope.scans.borders import frame_border
from octoscope.scans.levels import GreyRange, Levels, to_uint8
from octoscope.scans.readers import read_scan, to_grey
from octoscope.scans.scan import Scan

BLANK_RANGE = 4
"""A picture whose grey values span no more than this shows nothing (JPEG wavers by 1 or 2)."""
MOST_KEPT = 20_000
"""Scans up to which their thumbnails are kept (16 kB each); for more, hashes only."""
CORNER = 8
"""A corner is an eighth of the height and of the width."""
TASK = 16
"""Scans handed to a thread at a time."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """What one file holds.

    Attributes:
        path: The file.
        fault: Why it cannot be read, or None; the rest is then empty.
        blank: Whether the picture shows nothing.
        numbers: Name of a numeric feature → value.
        words: Name of a categorical feature → value.
        file_digest: Digest of the file's bytes.
        pixel_digest: Digest of the decoded pixels.
        thumbnails: ``(1 or 2, 128, 128)`` uint8: the whole frame and, where it has a uniform
            surround, what is inside; none where there are too many scans to keep them.
        hashes: ``(1 or 2, 2, 4)`` uint64: their perceptual hashes.
        mirrored_hashes: Those of them mirrored.
        grey: Range of its values as they are stored, None if none is finite.
        kind: What the picture seems to be.
    """

    path: Path
    fault: str | None = None
    blank: bool = False
    numbers: dict[str, float] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    file_digest: str = ""
    pixel_digest: str = ""
    thumbnails: np.ndarray = field(default_factory=lambda: np.zeros((0, SIDE, SIDE), np.uint8))
    hashes: np.ndarray = field(default_factory=lambda: np.zeros((0, 2, 4), np.uint64))
    mirrored_hashes: np.ndarray = field(default_factory=lambda: np.zeros((0, 2, 4), np.uint64))
    grey: GreyRange | None = None
    kind: Kind = "B-scan"


def measure_all(
    paths: Sequence[Path], workers: int | None = None, levels: Levels | None = None
) -> list[Measurement]:
    """Measure many files at once, each read one time, in the order given.

    Threads, not processes: decoding and array arithmetic release the interpreter lock, and no
    more than `workers` pictures are in memory.

    Args:
        paths: The files.
        workers: Threads; by default one per core.
        levels: Which grey levels become black and white.
    """
    tasks = [paths[i : i + TASK] for i in range(0, len(paths), TASK)]
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)
    try:
        keep = len(paths) <= MOST_KEPT
        done = pool.map(lambda task: [measure(path, levels, keep=keep) for path in task], tasks)
        return list(track(chain.from_iterable(done), "reading scans", total=len(paths)))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for the rest


def measure(path: Path, levels: Levels | None = None, *, keep: bool = True) -> Measurement:
    """Measure one file; one that cannot be read gives a `Measurement` with its fault.

    Args:
        path: The file.
        levels: Which values are black and white; by default found from this scan.
        keep: Whether to keep the thumbnails.
    """
    try:
        scan = read_scan(path)
        content = path.read_bytes()
    except ScanError as error:
        return Measurement(path, fault=error.reason)
    except OctoscopeError as error:
        return Measurement(path, fault=str(error))
    except OSError as error:
        return Measurement(path, fault=error.strerror or str(error))
    image = _b_scan(scan, levels)
    border = frame_border(image)
    valid = border.valid
    inside = image[valid]
    box = _bounding_box(valid)
    views = thumbnails(image)
    height, width = image.shape
    sharpness, noise = _sharpness_and_noise(image, valid)
    words = {
        "frame size": f"{height}×{width}",
        "file format": scan.format,
        "pixel type": f"{scan.channels} channels of {scan.array.dtype}"
        if scan.channels
        else f"grey {scan.array.dtype}",
    }
    numbers = {
        "frame height": height,
        "frame width": width,
        "aspect ratio": width / height,
        "bytes per pixel": len(content) / scan.array.size,
        "white border": border.white_fraction,
        "black border": border.black_fraction,
        "wedge area": 1 - float(valid[box].mean()) if valid.any() else 0.0,
        "brightness": float(inside.mean()) if inside.size else float(image.mean()),
        "contrast": float(inside.std()) if inside.size else 0.0,
        "sharpness": sharpness,
        "noise": noise,
    }
    numbers |= _corners(image, valid)
    if len(scan.spatial_shape) == 3:
        numbers["B-scans in the volume"] = scan.spatial_shape[0]
    return Measurement(
        path,
        blank=inside.size == 0 or int(np.ptp(inside)) <= BLANK_RANGE,
        numbers=numbers,
        words=words,
        file_digest=bytes_digest(content),
        pixel_digest=pixel_digest(scan.array),
        thumbnails=views if keep else views[:0],
        hashes=np.stack([difference_hash(view) for view in views]),
        mirrored_hashes=np.stack([difference_hash(view[:, ::-1]) for view in views]),
        grey=GreyRange.of(scan.array, scan.depth),
        kind=kind_of(image),
    )


def _b_scan(scan: Scan, levels: Levels | None) -> np.ndarray:
    """Return the B-scan, or the middle one of a volume, as ``(H, W)`` uint8."""
    grey = to_grey(scan)
    grey = grey if grey.ndim == 2 else grey[len(grey) // 2]
    return to_uint8(grey, levels, depth=scan.depth)


def _bounding_box(valid: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns (slices) of the smallest rectangle around `valid` (H, W)."""
    rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _corners(image: np.ndarray, valid: np.ndarray) -> dict[str, float]:
    """Return the grey level that 1 % of each corner exceeds: signs and letters stand there.

    Args:
        image: ``(H, W)`` uint8.
        valid: ``(H, W)`` bool; a corner without valid pixels counts as 0.
    """
    rows, columns = (max(1, length // CORNER) for length in image.shape)
    levels = {}
    for vertical, across in (("upper", slice(None, rows)), ("lower", slice(-rows, None))):
        for side, along in (("left", slice(None, columns)), ("right", slice(-columns, None))):
            shown = np.sort(image[across, along][valid[across, along]])
            level = shown[len(shown) * 99 // 100] if len(shown) else 0
            levels[f"{vertical} {side} corner"] = float(level)
    return levels


def _sharpness_and_noise(image: np.ndarray, valid: np.ndarray) -> tuple[float, float]:
    """Return the variance of the Laplacian and the noise level, away from borders and wedges.

    Sharpness: Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.
    Noise, in grey levels: Immerkær, "Fast noise variance estimation", CVIU 64(2), 1996, eq. 4;
    the mask [[1,-2,1],[-2,4,-2],[1,-2,1]] is a second difference along rows, then columns.

    Args:
        image: ``(H, W)`` uint8.
        valid: ``(H, W)`` bool.
    """
    if min(image.shape) < 3:
        return 0.0, 0.0
    pixels = image.astype(np.int16)
    across = pixels[:, 2:] - 2 * pixels[:, 1:-1] + pixels[:, :-2]  # (H, W-2)
    down = pixels[2:] - 2 * pixels[1:-1] + pixels[:-2]  # (H-2, W)
    laplacian = across[1:-1] + down[:, 1:-1]  # (H-2, W-2)
    noise = across[2:] - 2 * across[1:-1] + across[:-2]  # (H-2, W-2)
    whole = valid[:-2] & valid[1:-1] & valid[2:]
    whole = whole[:, :-2] & whole[:, 1:-1] & whole[:, 2:]  # the 3×3 neighbourhood is valid
    if not whole.any():
        return 0.0, 0.0
    level = np.sqrt(np.pi / 2) / 6 * np.abs(noise[whole]).mean()
    return float(laplacian[whole].var()), float(level)
