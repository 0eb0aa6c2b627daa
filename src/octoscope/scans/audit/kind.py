"""What a picture among B-scans seems to be: a B-scan, an en-face picture, or a label mask.

A B-scan is layered: across a small neighbourhood its grey changes in one direction, through the
layers, wherever one looks, also where the layers slope. The vessels of an en-face angiogram or
projection run all ways. A fundus photograph is as uneven across as it is along. A label mask
holds few values over large flat areas.

The limits were set on the pictures that docs/data.md names, and not yet judged on others.
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
UPRIGHT, UNEVEN_ACROSS = 0.2, 0.3
"""A picture with less excess, and more of its variance between columns, is a photograph."""
FEW_LEVELS = 16
"""Grey values that make up a mask, but for PART_LEFT of its pixels."""
PART_LEFT = 0.005
FLAT = 0.4
"""Share of the pixels of a mask that equal those to the right and below."""
WAVER, FEW_JPEG_LEVELS, JPEG_FLAT, JPEG_RANGE = 2, 6, 0.8, 64
"""Grey levels by which JPEG makes a flat area waver; such a mask is told by fewer values, flatter
areas, and values that lie apart."""


def kind_of(image: np.ndarray) -> Kind:
    """Tell a B-scan from an en-face picture and from a label mask.

    Args:
        image: ``(H, W)`` uint8.
    """
    if _is_mask(image):
        return "mask"
    return "en-face" if _is_enface(image) else "B-scan"


def _is_mask(image: np.ndarray) -> bool:
    """Whether nearly all pixels have one of few values, in flat areas."""
    if min(image.shape) < 2 or np.ptp(image) == 0:
        return False  # blank, which is said elsewhere
    count = np.bincount(image.ravel(), minlength=256)
    most = PART_LEFT * image.size
    if np.sort(count)[:-FEW_LEVELS].sum() <= most and _flat(image, 0) >= FLAT:
        return True
    for _ in range(FEW_JPEG_LEVELS):
        top = int(count.argmax())
        count[max(top - WAVER, 0) : top + WAVER + 1] = 0
    return bool(
        count.sum() <= most and np.ptp(image) >= JPEG_RANGE and _flat(image, WAVER) >= JPEG_FLAT
    )


def _flat(image: np.ndarray, waver: int) -> float:
    """Return the share of pixels that equal those to the right and below, but for `waver`."""
    pixels = image.astype(np.int16)
    beside = np.abs(pixels[:-1, :-1] - pixels[:-1, 1:]) <= waver
    below = np.abs(pixels[:-1, :-1] - pixels[1:, :-1]) <= waver
    return float((beside & below).mean())


def _is_enface(image: np.ndarray) -> bool:
    """Whether a picture is not layered."""
    vertical, coherence, across = layering(image)
    if coherence < COHERENT and vertical < VERTICAL:
        return True
    return vertical < UPRIGHT and across > UNEVEN_ACROSS


def layering(image: np.ndarray) -> tuple[float, float, float]:
    """Return how a picture is layered.

    Args:
        image: ``(H, W)`` uint8.

    Returns:
        Excess of vertical over horizontal change in [-1, 1]; coherence of the gradient's
        direction in its neighbourhood, in [0, 1], by the structure tensor (Bigün, Granlund,
        "Optimal orientation detection of linear symmetry", ICCV 1987); share of the variance
        that lies between columns.
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
    across = grey.mean(axis=0).var() / (grey.var() + 1e-6)
    return float(vertical), float(coherence), float(across)
