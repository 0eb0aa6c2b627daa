"""Anatomy zones: to which part of the eye, or of the frame, every pixel of a B-scan belongs.

Only two surfaces are known, the ILM and the RPE (`RetinaLayers`). What lies between them is cut
at fixed parts of their distance, and no layer boundary was seen there: "inner" and "outer retina"
are the two sides of half depth, which runs near the inner nuclear layer in a healthy macula and
through whatever fluid or scar there is in an ill one. Bruch's membrane is not known either: where
drusen or a detachment raise the RPE, what lies between the two is choroid here, but for the part
that the RPE band holds. (On phantoms with exact masks that is 5 % of the drusen and 36 % of the
detachments.)
"""

from __future__ import annotations

import numpy as np

from octoscope.scans.borders import BLACK_TO, WHITE_FROM, as_grey8, frame_border
from octoscope.scans.geometry.layers import RetinaLayers

Box = tuple[int, int, int, int]
"""Half-open rows and columns: top, left, bottom, right."""

ZONES = (
    "vitreous", "inner_retina", "outer_retina", "rpe_band", "choroid", "border", "corners",
    "outside",
)  # fmt: skip
"""Names of the values of a zone map, from 0."""
TITLES = {
    "vitreous": "vitreous",
    "inner_retina": "inner retina",
    "outer_retina": "outer retina",
    "rpe_band": "RPE band",
    "choroid": "choroid and below",
    "border": "border of the scan",
    "corners": "corners",
    "outside": "padding",
}
"""Zone → its name in running text."""
RETINA = ("inner_retina", "outer_retina", "rpe_band")
"""The zones that are retina."""
UNKNOWN = len(ZONES)
"""Value of a pixel whose zone hangs on a retina that was not found."""

HALF = 0.5
"""Part of the way from ILM to RPE at which the inner retina ends."""
BAND_ABOVE = 0.1
"""Part of the ILM–RPE distance that the RPE band reaches up: about 30 µm of the 300 µm of a
macula, which is the RPE with the outer segments that end in it."""
BAND_BELOW = 0.1
"""Part of the ILM–RPE distance that it reaches down: for Bruch's membrane and flat drusen, and
because in a frame of 224 rows the surface is known to a pixel or two."""
BORDER = 0.05
"""Part of the height and of the width of the scan, at each side, that is its border."""
CORNER = 8
"""A corner is an eighth of the height and of the width, as in the audit of a data set."""


def frame_zones(
    layers: RetinaLayers, image: np.ndarray, fill: int = 0, *, box: Box | None = None
) -> np.ndarray:
    """Say of every pixel to which zone it belongs.

    Each pixel has exactly one zone. Where two claim it, the first of these has it: padding; the
    retina, wherever the scan is shown, so that a retina that reaches the edge of the frame stays
    retina; the corners; the border, which is the outermost part of the scan and all white or
    black registration borders; the vitreous above the retina and the choroid below.

    Args:
        layers: The retina in this very frame (of `segment_retina` on `image`).
        image: ``(H, W)`` grey, uint8 or float in [0, 1], in the model's frame.
        fill: Grey value of the padding, [0, 255].
        box: The part of the frame that shows the scan (`Placement.target`), if known; else it is
            found by `content_box`, to which a scan that itself ends in `fill` looks smaller.

    Returns:
        ``(H, W)`` uint8, positions in `ZONES`; `UNKNOWN` for what is neither padding nor corner
        nor border where no retina was found.

    Raises:
        OctoscopeError: If `image` is not a grey picture.
    """
    grey = as_grey8(image)
    box = content_box(grey, fill) if box is None else box
    zones = _depth_zones(layers, grey.shape[0])
    shown = _shown(grey, fill, box) & layers.valid[None]
    retina = np.isin(zones, [ZONES.index(name) for name in RETINA]) & shown & layers.found
    if not layers.found:
        zones[...] = UNKNOWN
    zones[(edge_strip(grey.shape, box, BORDER) | ~shown) & ~retina] = ZONES.index("border")
    zones[corner_areas(grey.shape, box) & ~retina] = ZONES.index("corners")
    zones[~_inside(grey.shape, box)] = ZONES.index("outside")
    return zones


def content_box(image: np.ndarray, fill: int = 0) -> Box:
    """Return the smallest box outside of which every pixel is exactly `fill`.

    Args:
        image: ``(H, W)`` uint8. Padding that a lossy file format has made waver is taken for
            scan; frames that this package writes hold it exactly.
        fill: Grey value of the padding.

    Returns:
        Top, left, bottom, right, half-open; ``(0, 0, 0, 0)`` for a frame of nothing but fill.
    """
    differs = image != fill
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    if not len(rows):
        return (0, 0, 0, 0)
    return (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def edge_strip(shape: tuple[int, ...], box: Box, share: float = BORDER) -> np.ndarray:
    """Return the pixels of `box` along its four sides, ``(H, W)`` bool.

    Args:
        shape: ``(H, W)``.
        box: The part of the frame that shows the scan.
        share: Width of the strip, as a part of the height (above and below) and of the width
            (left and right) of the box; at least one pixel unless it is 0.
    """
    top, left, bottom, right = box
    rows, columns = (_pixels(share * length) for length in (bottom - top, right - left))
    inner = (top + rows, left + columns, max(bottom - rows, 0), max(right - columns, 0))
    return _inside(shape, box) & ~_inside(shape, inner)


def corner_areas(shape: tuple[int, ...], box: Box, share: int = CORNER) -> np.ndarray:
    """Return the pixels in the four corners of `box`, ``(H, W)`` bool.

    Args:
        shape: ``(H, W)``.
        box: The part of the frame that shows the scan.
        share: A corner is one `share`-th of the height and of the width, at least one pixel.
    """
    top, left, bottom, right = box
    rows, columns = max(1, (bottom - top) // share), max(1, (right - left) // share)
    row, column = np.arange(shape[0])[:, None], np.arange(shape[1])[None]
    high_or_low = (row < top + rows) | (row >= bottom - rows)
    aside = (column < left + columns) | (column >= right - columns)
    return high_or_low & aside & _inside(shape, box)


def _depth_zones(layers: RetinaLayers, height: int) -> np.ndarray:
    """Return the zones from vitreous to choroid, by depth alone, ``(H, W)`` uint8."""
    thickness = layers.rpe - layers.ilm
    bounds = (
        layers.ilm,
        layers.ilm + HALF * thickness,
        layers.rpe - BAND_ABOVE * thickness,
        layers.rpe + BAND_BELOW * thickness,
    )
    row = np.arange(height)[:, None]
    passed = [row >= bound for bound in bounds]  # each surface that lies above is one zone more
    return np.asarray(np.sum(passed, axis=0, dtype=np.uint8))


def _shown(grey: np.ndarray, fill: int, box: Box) -> np.ndarray:
    """Return where the frame shows the scan: within `box`, without registration borders."""
    shown = _inside(grey.shape, box)
    top, left, bottom, right = box
    scan = grey[top:bottom, left:right]
    if scan.size:
        if BLACK_TO < fill < WHITE_FROM:  # borders that the framing painted over
            scan = np.where(scan == fill, np.uint8(255), scan)
        shown[top:bottom, left:right] = frame_border(scan).valid
    return shown


def _inside(shape: tuple[int, ...], box: Box) -> np.ndarray:
    """Return the pixels of `box`, ``(H, W)`` bool."""
    inside = np.zeros(shape, bool)
    inside[box[0] : box[2], box[1] : box[3]] = True
    return inside


def _pixels(length: float) -> int:
    """Return a length in whole pixels, at least 1 unless it is 0."""
    return max(1, round(length)) if length > 0 else 0
