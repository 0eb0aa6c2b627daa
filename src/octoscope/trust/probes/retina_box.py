"""The part of every scan that a probe takes for the retina: of the same height in all of them.

A hole that follows the ILM and the RPE would show the disease by its outline. So a straight line
is laid along the RPE of each scan, and the hole reaches from it as far up and down as the retina
of nearly all scans does: what differs from scan to scan is where the eye lay before the
instrument, height and tilt, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from octoscope.scans.borders import frame_border
from octoscope.scans.geometry import RetinaLayers
from octoscope.scans.geometry.zones import CORNER, content_box, corner_areas
from octoscope.trust.probes.probe import Scans

MOST_SCANS = 0.95
"""Share of the scans whose whole retina the box holds; that of the thickest reaches out of it."""
MOST_COLUMNS = 0.995
"""Share of a scan's columns; the rest may be a slip of the segmentation."""
MARGIN = 0.15
"""Added above and below, as a part of the usual thickness of the retina."""
BLOCKS = 12
"""Parts of the width over which the RPE is averaged before the line is laid."""


@dataclass(frozen=True, eq=False)
class Reach:
    """How far from the RPE the retinas of scans reach, in pixels.

    Attributes:
        lines: ``(N, W)`` straight line along the RPE of each scan; the usual one where none was
            found.
        above: How far up from its line the retina of nearly every scan reaches.
        below: How far down.
        margin: Added on both sides.
        found: Whether any retina was found.
    """

    lines: np.ndarray
    above: float = 0.0
    below: float = 0.0
    margin: float = 0.0
    found: bool = True


def retina_bands(scans: Scans) -> np.ndarray:
    """Return the band along the retina of every scan, ``(N, H, W)`` bool; all alike in height."""
    return scans.once("retina bands", lambda: _bands(scans, np.arange(len(scans))))


def retinas(scans: Scans) -> np.ndarray:
    """Return the retina itself of every scan, with a margin, ``(N, H, W)`` bool.

    Its outline shows the disease: this says what an edit must spare, not what it takes away.
    At the sides it reaches no further from the RPE than in the middle, so that a sign in a corner
    that the segmentation took for retina is not spared.
    """
    return scans.once("retinas", lambda: _retinas(scans, np.arange(len(scans))))


def retina_boxes(scans: Scans, fill: int = 0) -> np.ndarray:
    """Return the hole that leaves nothing of the disease, ``(N, H, W)`` bool.

    That is the band along the retina, and all that lies below it: lesions cast shadows, or let
    light through, down to the lower edge. Registration borders and the padding are no part of it,
    nor are corners, but for what is retina or lies right below it.

    Args:
        scans: The scans.
        fill: Grey value of the padding.
    """
    return scans.once(("retina boxes", fill), lambda: boxes_at(scans, np.arange(len(scans)), fill))


def boxes_at(scans: Scans, rows: np.ndarray, fill: int = 0) -> np.ndarray:
    """Return `retina_boxes` of the scans at positions ``(n,)``, ``(n, H, W)`` bool; not kept."""
    images = scans.images[rows]
    holes = np.empty(images.shape, bool)
    parts = zip(holes, _bands(scans, rows), _retinas(scans, rows), images, strict=True)
    for hole, band, retina, image in parts:
        box = content_box(image, fill)
        scan = np.zeros(band.shape, bool)
        scan[box[0] : box[2], box[1] : box[3]] = True
        scan &= frame_border(image).valid
        aside = corner_areas(band.shape, box)
        vitreous = ~np.logical_or.accumulate(retina, axis=0)
        below = np.logical_or.accumulate(band, axis=0) & ~aside
        hole[:] = (band & ~(aside & vitreous) | below) & scan
    return holes


def _reach_of(scans: Scans) -> Reach:
    """Return how far the retinas reach, over all scans."""
    layers, (_, width) = scans.layers, scans.images.shape[1:]
    there = np.array([known(one) for one in layers], bool)
    found = [one for one in layers if known(one)]
    if not found:
        return Reach(np.zeros((len(scans), width)), found=False)
    lines = [rpe_line(one) for one in found]
    reach = [_reach(one, line) for one, line in zip(found, lines, strict=True)]
    above, below = np.quantile(np.array(reach), MOST_SCANS, axis=0)
    margin = MARGIN * float(np.median([np.median(o.rpe[o.valid] - o.ilm[o.valid]) for o in found]))
    every = np.empty((len(scans), width))
    every[there] = lines
    every[~there] = np.median(lines, axis=0)  # where none was found, it is taken to lie as usual
    return Reach(every, float(above), float(below), margin)


def _bands(scans: Scans, rows: np.ndarray) -> np.ndarray:
    """Return `retina_bands` of the scans at positions ``(n,)``."""
    reach = scans.once("reach", lambda: _reach_of(scans))
    shape = (len(rows), *scans.images.shape[1:])
    if not reach.found:
        return np.ones(shape, bool)
    row = np.arange(shape[1])[:, None]
    bands = np.empty(shape, bool)
    for band, line in zip(bands, reach.lines[rows], strict=True):
        top, bottom = line - reach.above - reach.margin, line + reach.below + reach.margin
        band[:] = (row >= top) & (row <= bottom)
    return bands


def _retinas(scans: Scans, rows: np.ndarray) -> np.ndarray:
    """Return `retinas` of the scans at positions ``(n,)``."""
    masks = _bands(scans, rows)
    reach = scans.once("reach", lambda: _reach_of(scans))
    row = np.arange(scans.images.shape[1])[:, None]
    for mask, place in zip(masks, rows, strict=True):
        one, line = scans.layers[place], reach.lines[place]
        if known(one):
            above, below = _reach(one, line)
            extra = MARGIN * float(np.median((one.rpe - one.ilm)[one.valid]))
            top, bottom = np.maximum(one.ilm, line - above), np.minimum(one.rpe, line + below)
            mask[:] = (row >= top - extra) & (row <= bottom + extra)
    return masks


def known(layers: RetinaLayers) -> bool:
    """Whether it is known where the retina lies."""
    return layers.found and bool(layers.valid.any())


def rpe_line(layers: RetinaLayers) -> np.ndarray:
    """Return a straight line along the RPE ``(W,)``, which no single lesion bends.

    The line through the median slope between all pairs of blocks (Theil and Sen), at the median
    distance of the blocks from it.
    """
    columns = np.flatnonzero(layers.valid)
    blocks = [part for part in np.array_split(columns, BLOCKS) if len(part)]
    at = np.array([part.mean() for part in blocks])
    row = np.array([np.median(layers.rpe[part]) for part in blocks])
    first, second = np.triu_indices(len(at), 1)
    slopes = (row[second] - row[first]) / (at[second] - at[first])
    slope = float(np.median(slopes)) if len(slopes) else 0.0
    return np.median(row - slope * at) + slope * np.arange(len(layers.rpe))


def _reach(layers: RetinaLayers, line: np.ndarray) -> tuple[float, float]:
    """Return how far the retina reaches above and below the line between the corners, in pixels."""
    columns = np.arange(len(line))
    aside = len(line) // CORNER
    middle = layers.valid & (columns >= aside) & (columns < len(line) - aside)
    middle = middle if middle.any() else layers.valid
    up, down = (line - layers.ilm)[middle], (layers.rpe - line)[middle]
    return float(np.quantile(up, MOST_COLUMNS)), float(np.quantile(down, MOST_COLUMNS))
