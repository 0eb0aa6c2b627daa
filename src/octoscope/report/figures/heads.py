"""What each attention head looks at (Caron et al., ICCV 2021, figure 1; appendix for the masks)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from octoscope.report.figures.blend import spotlit
from octoscope.report.figures.cells import Cell, Map, Picture, Scan, map_picture, scan_picture
from octoscope.report.figures.comparison import blocks
from octoscope.report.figures.sheet import Strip, sheet_png

SHARE = 0.6
"""Of a head's mass, held by the mask: what Caron et al. keep."""
MOST_ACROSS = 7


@dataclass(frozen=True, eq=False)
class Heads:
    """The attention heads of one scan.

    Attributes:
        name: What the scan is called.
        scan: The scan in the model's frame.
        maps: ``(heads, h, w)`` ≥ 0, attention to the patches of what the head reads: the class
            token; with average pooling the mean over the patches; with a pool its latent.
        caption: What the model says of it.
    """

    name: str
    scan: Scan
    maps: np.ndarray
    caption: str = ""


def top_mass(values: np.ndarray, share: float = SHARE) -> np.ndarray:
    """Return the fewest positions that hold this share of a map's positive mass.

    Positions as large as the smallest of them are in too, so that equal ones are treated alike.

    Args:
        values: ``(h, w)``.
        share: In (0, 1].

    Returns:
        ``(h, w)`` bool; nowhere where there is no mass.
    """
    mass = np.where(np.isfinite(values), np.maximum(values, 0), 0).astype(np.float64)
    falling = np.sort(mass.ravel())[::-1]
    reached = np.cumsum(falling)
    if reached[-1] <= 0:
        return np.zeros(values.shape, dtype=bool)
    enough = int(np.searchsorted(reached, share * reached[-1] * (1 - 1e-12)))
    chosen: np.ndarray = (mass >= falling[enough]) & (mass > 0)
    return chosen


def stretched(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a mask of patches ``(h, w)`` in pixels ``(H, W)``: each pixel has its patch's value.

    The pixel's centre decides, so that grids that do not divide the image are right too.
    """
    rows, columns = (
        ((2 * np.arange(full) + 1) * cells) // (2 * full)
        for full, cells in zip(size, mask.shape, strict=True)
    )
    return mask[np.ix_(rows, columns)]


def heads_png(scans: Sequence[Heads], *, title: str, note: str = "") -> bytes:
    """Draw, per scan, every head's map and below it the patches that hold most of its mass.

    Args:
        scans: One row pair per scan; more heads than `MOST_ACROSS` go on below.
        title: What the model is called.
        note: What the maps are.

    Returns:
        PNG.
    """
    strips = []
    for seen in scans:
        maps = [("mean of the heads", seen.maps.mean(0))]
        maps += [(f"head {number}", values) for number, values in enumerate(seen.maps, start=1)]
        above: list[Cell] = [scan_picture(seen.scan, "scan", seen.caption)]
        above += [map_picture(seen.scan, Map(name, values)) for name, values in maps]
        below: list[Cell | None] = [None]
        below += [_mask(seen.scan, values) for _, values in maps]
        for start, stop in blocks(len(above), MOST_ACROSS):
            strips.append(Strip(above[start:stop], seen.name if start == 0 else ""))
            strips.append(Strip(below[start:stop]))
    about = f"Below each map, the patches that hold {100 * SHARE:.0f} % of its mass."
    return sheet_png(strips, title=title, note=f"{note} {about}".strip(), widest=1.9)


def _mask(scan: Scan, values: np.ndarray) -> Picture:
    """Return the scan, dark outside of the patches that hold most of a map's mass."""
    chosen = top_mass(values)
    pixels = stretched(chosen, (scan.image.shape[0], scan.image.shape[1]))
    covers = f"on {100 * chosen.mean():.0f} % of the patches"
    title = f"{100 * SHARE:.0f} % of the mass"
    return Picture(title, spotlit(scan.image, pixels), covers, contour=pixels)
