"""What goes wrong with B-scans, planted into pictures whose retina is known.

Each function takes a `Marked` scan and returns another, with the surfaces where they then are.
They work on phantoms and on real scans whose surfaces were found before: the truth moves along.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from scipy import ndimage

from octoscope.scans.phantom.bscan import PhantomBScan


@dataclass(frozen=True, eq=False)
class Marked:
    """A B-scan with both surfaces of its retina.

    Attributes:
        image: ``(H, W)`` uint8.
        ilm: ``(W,)`` float rows, 0 at the centre of the first, NaN where it is not shown.
        rpe: ``(W,)`` float rows, likewise.
    """

    image: np.ndarray
    ilm: np.ndarray
    rpe: np.ndarray

    @classmethod
    def of_phantom(cls, scan: PhantomBScan) -> Marked:
        """Return a phantom's picture with its true surfaces."""
        return cls(scan.image, scan.surfaces["ILM"], scan.surfaces["RPE base"])


def registered(
    scan: Marked,
    *,
    degrees: float = 0.0,
    down: float = 0.0,
    right: float = 0.0,
    fill: int = 0,
    quality: int | None = None,
) -> Marked:
    """Tilt and shift a scan within its frame, as registration does, and leave a border.

    Args:
        scan: The scan.
        degrees: Rotation about the middle of the frame, counter-clockwise as it is seen.
        down: Shift in rows.
        right: Shift in columns.
        fill: Grey value of what the scan no longer covers.
        quality: JPEG quality with which the frame is then saved; None for no loss.
    """
    height, width = scan.image.shape
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    offset = middle - turn @ (middle + np.array([down, right]))
    moved = ndimage.affine_transform(
        scan.image.astype(np.float32), turn, offset, order=1, cval=fill
    )
    image = np.rint(moved).clip(0, 255).astype(np.uint8)
    back = turn.T
    surfaces = []
    for surface in (scan.ilm, scan.rpe):
        points = np.stack([surface, np.arange(width)]) - offset[:, None]
        rows, columns = back @ points
        inside = np.isfinite(rows) & (surface > -0.5) & (surface < height - 0.5)
        row = np.interp(
            np.arange(width), columns[inside], rows[inside], left=np.nan, right=np.nan
        ) if inside.any() else np.full(width, np.nan)  # fmt: skip
        surfaces.append(row.clip(-0.5, height - 0.5))
    marked = Marked(image, *surfaces)
    return marked if quality is None else as_jpeg(marked, quality)


def as_jpeg(scan: Marked, quality: int) -> Marked:
    """Save a scan as JPEG and read it again."""
    stream = io.BytesIO()
    Image.fromarray(scan.image).save(stream, "JPEG", quality=quality)
    return replace(scan, image=np.asarray(Image.open(stream)))


def with_hyaloid(
    scan: Marked, rng: np.random.Generator, *, gap: float, brightness: float, attached: bool
) -> Marked:
    """Draw the posterior hyaloid, a thin bright line in front of the retina.

    Args:
        scan: The scan.
        rng: Draws its waves, its speckle and where it is attached.
        gap: Its median distance from the ILM, in rows.
        brightness: Grey values by which it is brighter than the vitreous.
        attached: Whether it lies on the retina at one place, as it does before it lets go.
    """
    height, width = scan.image.shape
    column = np.arange(width)
    ilm = ndimage.gaussian_filter1d(np.nan_to_num(scan.ilm, nan=height / 2), width / 12)
    waves = 1 + 0.25 * np.sin(2 * np.pi * (column / width * rng.uniform(0.5, 2) + rng.uniform()))
    if attached:
        place = width * rng.uniform(0.2, 0.8)
        waves *= 1 - np.exp(-(((column - place) / (width * rng.uniform(0.12, 0.25))) ** 2))
    line = np.minimum(ilm - gap * waves, np.nan_to_num(scan.ilm, nan=np.inf) - 2)
    row = np.arange(height)[:, None]
    profile = np.exp(-(((row - line) / rng.uniform(1.2, 2.2)) ** 2))
    speckle = rng.gamma(6, 1 / 6, scan.image.shape)
    image = scan.image + brightness * profile * speckle
    return replace(scan, image=np.rint(image).clip(0, 255).astype(np.uint8))


def with_exudates(scan: Marked, rng: np.random.Generator, *, count: int = 12) -> Marked:
    """Put hard exudates into the retina: bright clumps with a shadow below each."""
    row, column = np.indices(scan.image.shape, dtype=np.float32)
    image = scan.image.astype(np.float32)
    where = np.flatnonzero(np.isfinite(scan.ilm) & np.isfinite(scan.rpe))
    for at in rng.choice(where, min(count, len(where)), replace=False):
        top, bottom = scan.ilm[at], scan.rpe[at]
        middle = top + rng.uniform(0.25, 0.7) * (bottom - top)
        tall, wide = rng.uniform(0.04, 0.12) * (bottom - top), rng.uniform(3, 12)
        clump = np.exp(-(((row - middle) / tall) ** 2) - ((column - at) / wide) ** 2)
        shadow = np.exp(-(((column - at) / wide) ** 4)) * (row > middle + tall)
        image *= 1 - rng.uniform(0.3, 0.7) * shadow
        image += (250 - image) * np.clip(1.6 * clump, 0, 1)
    return replace(scan, image=np.rint(image).clip(0, 255).astype(np.uint8))


def faint(scan: Marked, rng: np.random.Generator, *, share: float) -> Marked:
    """Leave only a `share` of the contrast, and the vitreous's noise as strong as it was."""
    dark = float(np.percentile(scan.image, 15))
    noise = scan.image[scan.image <= np.percentile(scan.image, 30)].std()
    image = dark + share * (scan.image - dark) + rng.normal(0, 2 * noise + 3, scan.image.shape)
    return replace(scan, image=np.rint(image).clip(0, 255).astype(np.uint8))


def clipped(scan: Marked, *, above: float = 0.0, below: float = 0.0) -> Marked:
    """Cut a scan so that part of its retina leaves the frame.

    Args:
        scan: The scan.
        above: Share of the columns whose ILM is cut off above.
        below: Share of the columns whose RPE is cut off below.
    """
    top = int(np.nanquantile(scan.ilm, above)) if above else 0
    bottom = int(np.nanquantile(scan.rpe, 1 - below)) if below else len(scan.image)
    height = bottom - top
    ilm, rpe = ((s - top).clip(-0.5, height - 0.5) for s in (scan.ilm, scan.rpe))
    return Marked(scan.image[top:bottom], ilm, rpe)


def without_retina(scan: Marked, rng: np.random.Generator) -> Marked:
    """Return a frame of the scan's vitreous, or of its choroid, alone; no surface is true."""
    height, width = scan.image.shape
    above, below = int(np.nanmin(scan.ilm)) - 8, int(np.nanmax(scan.rpe)) + 8
    part = scan.image[:above] if above > height - below else scan.image[below:]
    rows = np.abs((np.arange(height) + int(rng.integers(height))) % (2 * len(part)) - len(part))
    nowhere = np.full(width, np.nan)
    return Marked(part[rows.clip(0, len(part) - 1)], nowhere, nowhere)
