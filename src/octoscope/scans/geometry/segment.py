"""First whole version, being refined."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from octoscope.scans.borders import as_grey8, frame_border
from octoscope.scans.geometry.layers import RetinaLayers
from octoscope.scans.geometry.path import cheapest_path


def segment_retina(image: np.ndarray) -> RetinaLayers:
    """Find the inner and the outer surface of the retina.

    Args:
        image: ``(H, W)`` grey, uint8 or float in [0, 1].

    Raises:
        OctoscopeError: If `image` is not a grey picture.
    """
    grey = as_grey8(image)
    height, width = grey.shape
    valid = frame_border(grey).valid
    filled = _filled(grey, valid)
    step = min(4.0, max(1.0, height / 112))
    rows, columns = max(1, round(height / step)), min(160, width)
    small = np.asarray(Image.fromarray(filled).resize((columns, rows), Image.Resampling.BOX))
    low, high = np.percentile(small, [5, 99])
    if high - low < 8 or rows < 8:
        flat = np.zeros(width)
        return RetinaLayers(flat, flat + height, flat, np.any(valid, axis=0), False)
    bright = np.clip((small - low) / (high - low), 0, 1.3).astype(np.float32)
    bright = ndimage.gaussian_filter(bright, (0.6, 1.0))
    pad = 6
    bright = np.concatenate(
        [np.zeros((pad, columns), np.float32), bright, np.repeat(bright[-1:], pad, 0)]
    )
    above, below = _means(bright, max(2, round(12 / step)))
    excess = _cumulative(np.maximum(bright - 0.35, 0))
    ilm_cost = -2 * np.clip(below - above, 0, 0.5) + 0.25 * excess
    band, _ = _means(bright, max(1, round(10 / step)))
    _, deep = _means(bright, max(2, round(16 / step)))
    tail = _cumulative(np.maximum(bright - 0.5, 0))
    rpe_cost = -band - np.clip(band - deep, 0, 0.5) + 0.15 * (tail[-1] - tail)
    steps = (0.08 * np.abs(np.arange(-3, 4))).astype(np.float32)
    rpe = cheapest_path(rpe_cost[None], steps)[0]
    at = np.arange(rows + 2 * pad + 1)[:, None]
    ilm_cost = np.where(at > rpe[None] - 2, 10, ilm_cost).astype(np.float32)
    ilm = cheapest_path(ilm_cost[None], steps)[0]
    where = (np.arange(columns) + 0.5) * width / columns

    def full(path: np.ndarray) -> np.ndarray:
        return np.interp(np.arange(width) + 0.5, where, (path - pad) * height / rows)

    seen = np.any(valid, axis=0)
    return RetinaLayers(
        np.clip(full(ilm), 0, height), np.clip(full(rpe), 0, height), seen.astype(float), seen, True
    )


def _filled(grey: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Give pixels outside of the scan the value of the nearest scan pixel above, else below."""
    if valid.all():
        return grey
    last = np.maximum.accumulate(np.where(valid, np.arange(len(grey))[:, None], -1), axis=0)
    source = np.where(last < 0, valid.argmax(axis=0)[None], last)
    return np.take_along_axis(np.where(valid, grey, 0).astype(np.uint8), source, 0)


def _cumulative(values: np.ndarray) -> np.ndarray:
    """Return the sum of all rows above each boundary, ``(R + 1, C)``."""
    return np.concatenate([np.zeros((1, values.shape[1]), values.dtype), values.cumsum(axis=0)])


def _means(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of `count` rows above and below each boundary, each ``(R + 1, C)``."""
    total = _cumulative(values)
    at = np.arange(len(total))
    first, last = np.maximum(at - count, 0), np.minimum(at + count, len(values))
    above = (total - total[first]) / np.maximum(at - first, 1)[:, None]
    below = (total[last] - total) / np.maximum(last - at, 1)[:, None]
    return above, below
