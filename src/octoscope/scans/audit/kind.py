"""What a picture among B-scans seems to be: a B-scan, an en-face picture, or a label mask.

A B-scan is layered: across a small neighbourhood its grey changes in one direction, through the
layers, wherever one looks, also where the layers slope. The vessels of an en-face angiogram or
projection run all ways. A fundus photograph, or a map of thickness, is as uneven across as it is
along. A label mask
holds few values over large flat areas, whose edges JPEG or smooth resizing may have blurred.

benchmarks/picture_kinds.py says on which pictures the limits were set, and judges them on others.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

Kind = Literal["B-scan", "en-face", "mask"]

LONGER_SIDE = 96
"""Pixels to which the longer side is reduced; the aspect ratio is kept."""
NEIGHBOURHOOD = 6.0
"""Standard deviation, in reduced pixels, of a neighbourhood."""
COHERENT = 0.52
"""Coherence of the gradient's direction in its neighbourhood below which nothing is layered."""
VERTICAL = 0.45
"""Excess of vertical over horizontal change above which a picture counts as layered."""
IN_ROWS = 0.86
"""Part of the unevenness between rows or columns that lies between rows, above which a picture
counts as layered though its layers wind, as they do in a narrow frame."""
UPRIGHT, IN_BOTH = 0.2, 0.7
"""Excess of vertical change, and that part, below both of which a picture is a photograph or a map:
it changes as much across as it does along, however smoothly."""
FEW_LEVELS = 16
"""Grey values that make up a mask, but for PART_LEFT of its pixels."""
PART_LEFT = 0.005
FLAT = 0.4
"""Share of the pixels of a mask that equal those to the right and below."""
WAVER, BLOCK, FAR = 2, 11, 0.2
"""Grey levels by which JPEG makes a flat area waver; pixels over which it, or smooth resizing,
blurs an edge; and the share of such blocks of a mask that may hold nothing flat."""
LEAST_RANGE = 64
"""Grey levels between the values of such a mask: a dark scan wavers no more."""


def kind_of(image: np.ndarray) -> Kind:
    """Tell a B-scan from an en-face picture and from a label mask.

    Args:
        image: ``(H, W)`` uint8.
    """
    if _is_mask(image):
        return "mask"
    return "en-face" if _is_enface(image) else "B-scan"


def _is_mask(image: np.ndarray) -> bool:
    """Whether nearly all pixels have one of few values, or lie in or beside flat areas."""
    if min(image.shape) < 3 or np.ptp(image) == 0:
        return False  # blank, which is said elsewhere
    count = np.bincount(image.ravel(), minlength=256)
    most = PART_LEFT * image.size
    if np.sort(count)[:-FEW_LEVELS].sum() <= most and _flat(image) >= FLAT:
        return True
    return bool(np.ptp(image) >= LEAST_RANGE and _far_from_flat(image) <= FAR)


def _flat(image: np.ndarray) -> float:
    """Return the share of pixels that equal those to the right and below."""
    pixel = image[:-1, :-1]
    return float(((pixel == image[:-1, 1:]) & (pixel == image[1:, :-1])).mean())


def _far_from_flat(image: np.ndarray) -> float:
    """Return the share of `BLOCK` × `BLOCK` pixels in which no 3 × 3 pixels are flat."""
    high, low = image, image
    for _ in range(2):  # down, then across
        high = np.maximum(np.maximum(high[:-2], high[1:-1]), high[2:]).T
        low = np.minimum(np.minimum(low[:-2], low[1:-1]), low[2:]).T
    flat = high - low <= WAVER
    side = min(BLOCK, *flat.shape)
    rows, columns = (length // side for length in flat.shape)
    blocks = flat[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return float(1 - blocks.any(axis=(1, 3)).mean())


def _is_enface(image: np.ndarray) -> bool:
    """Whether a picture is not layered."""
    vertical, coherence, in_rows = layering(image)
    if coherence < COHERENT and vertical < VERTICAL and in_rows < IN_ROWS:
        return True
    return vertical < UPRIGHT and in_rows < IN_BOTH


def layering(image: np.ndarray) -> tuple[float, float, float]:
    """Return how a picture is layered.

    Args:
        image: ``(H, W)`` uint8.

    Returns:
        Excess of vertical over horizontal change in [-1, 1]; coherence of the gradient's
        direction in its neighbourhood, in [0, 1], by the structure tensor (Bigün, Granlund,
        "Optimal orientation detection of linear symmetry", ICCV 1987); variance between the means
        of rows, as a part of that sum with the variance between those of columns, in [0, 1].
    """
    scale = LONGER_SIDE / max(image.shape)
    height, width = (max(8, round(length * scale)) for length in image.shape)
    small = Image.fromarray(image).resize((width, height), Image.Resampling.BOX)
    grey = gaussian_filter(np.asarray(small, np.float32), 1.0)
    down, along = np.gradient(grey)
    yy, xx, xy = down * down, along * along, down * along
    change = yy.mean() + xx.mean() + 1e-6
    vertical = (yy.mean() - xx.mean()) / change
    yy, xx, xy = (gaussian_filter(t, NEIGHBOURHOOD) for t in (yy, xx, xy))
    directed = np.sqrt((yy - xx) ** 2 + 4 * xy**2)
    coherence = directed.sum() / ((yy + xx).sum() + 1e-6)
    rows, columns = (float(np.asarray(small, np.float32).mean(axis=k).var()) for k in (1, 0))
    return float(vertical), float(coherence), rows / (rows + columns + 1e-6)
