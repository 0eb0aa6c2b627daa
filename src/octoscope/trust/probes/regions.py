"""Parts of a scan that no disease lives in, and how to take a part away without leaving a trace.

All masks are ``(N, H, W)`` bool in the model's frame.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from octoscope.scans.borders import frame_border
from octoscope.scans.geometry.zones import BORDER, CORNER, content_box, corner_areas, edge_strip
from octoscope.trust.probes.probe import Scans
from octoscope.trust.probes.retina_box import retinas

TEXT_STANDS_OUT = 8.0
"""By how many spreads (of 3×3 means) a pixel must be above the background to be a sign."""
TEXT_BRIGHTER = 30
"""And by how many grey levels."""
GLYPH_HEIGHT, GLYPH_WIDTH = 0.12, 0.3
"""Largest sign, as parts of the frame: letters and words, not membranes in the vitreous."""

NEAR = 7
"""Pixels over which grey value and speckle beside a hole are averaged."""
STRONGEST = 3.0
"""Speckle that is borrowed, in standard deviations, so that no step is taken for speckle."""
SHIFTS = 48
"""From how many places speckle is borrowed."""
BLOCK = 64
"""Scans that are filled at once."""


def paddings(images: np.ndarray, fill: int = 0) -> np.ndarray:
    """Return what lies outside of the scan in the model's frame."""
    masks = np.ones(images.shape, bool)
    for mask, image in zip(masks, images, strict=True):
        top, left, bottom, right = content_box(image, fill)
        mask[top:bottom, left:right] = False
    return masks


def registration_borders(images: np.ndarray, fill: int = 0) -> np.ndarray:
    """Return the white and black borders and wedges within the scan, padding apart."""
    masks = np.zeros(images.shape, bool)
    for mask, image in zip(masks, images, strict=True):
        top, left, bottom, right = content_box(image, fill)
        if bottom > top:
            mask[top:bottom, left:right] = ~frame_border(image[top:bottom, left:right]).valid
    return masks


def borders_of(scans: Scans, fill: int = 0) -> np.ndarray:
    """Return `registration_borders` of scans, found once for all models."""
    return scans.once(
        ("registration borders", fill), lambda: registration_borders(scans.images, fill)
    )


def shown(scans: Scans, fill: int = 0) -> np.ndarray:
    """Return where the scan itself is: neither padding nor registration border."""
    return scans.once(
        ("shown", fill), lambda: ~(paddings(scans.images, fill) | borders_of(scans, fill))
    )


def border_strips(scans: Scans, fill: int = 0, share: float = BORDER) -> np.ndarray:
    """Return the outermost part of each scan and its registration borders, without the retina."""
    masks = borders_of(scans, fill).copy()
    for mask, image, retina in zip(masks, scans.images, retinas(scans), strict=True):
        mask |= edge_strip(image.shape, content_box(image, fill), share) & ~retina
    return masks


def corners(scans: Scans, fill: int = 0, share: int = CORNER) -> np.ndarray:
    """Return the four corners of each scan, without the retina."""
    masks = np.zeros(scans.images.shape, bool)
    for mask, image, retina in zip(masks, scans.images, retinas(scans), strict=True):
        mask[:] = corner_areas(image.shape, content_box(image, fill), share) & ~retina
    return masks


def texts(scans: Scans, fill: int = 0) -> np.ndarray:
    """Return small bright signs away from the retina, as letters and markers are.

    Each is a connected area that stands out from the background's speckle, is no larger than a
    word, and does not touch the retina.
    """
    return scans.once(("texts", fill), lambda: _texts(scans, fill))


def _texts(scans: Scans, fill: int) -> np.ndarray:
    masks = np.zeros(scans.images.shape, bool)
    parts = zip(masks, scans.images, retinas(scans), shown(scans, fill), strict=True)
    for mask, image, retina, seen in parts:
        # The choroid below has bright spots that are no signs; only the corners count there.
        below = np.logical_or.accumulate(retina, axis=0)
        box = content_box(image, fill)
        away = seen & (~below | (corner_areas(image.shape, box) & ~retina))
        mask[:] = _glyphs(image, away, retina)
    return masks


def _glyphs(image: np.ndarray, away: np.ndarray, retina: np.ndarray) -> np.ndarray:
    """Return the signs ``(H, W)`` bool within `away`."""
    found = np.zeros(image.shape, bool)
    if away.sum() < 9:
        return found
    smooth = ndimage.uniform_filter(image.astype(np.float32), 3, mode="nearest")
    level = np.median(smooth[away])
    spread = 1.4826 * np.median(np.abs(smooth[away] - level))
    bright = away & (smooth > level + max(TEXT_STANDS_OUT * spread, TEXT_BRIGHTER))
    labels, _ = ndimage.label(bright, np.ones((3, 3)))
    touching = set(np.unique(labels[ndimage.binary_dilation(retina, iterations=2)]))
    height, width = image.shape
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        tall, wide = rows.stop - rows.start, columns.stop - columns.start
        small = tall <= GLYPH_HEIGHT * height and wide <= GLYPH_WIDTH * width
        if small and number not in touching and (tall > 1 or wide > 1):
            found |= labels == number
    return ndimage.binary_dilation(found, np.ones((3, 3)), iterations=2)  # with its halo


def inpaint(
    images: np.ndarray,
    holes: np.ndarray,
    sources: np.ndarray | None = None,
    grain: np.ndarray | None = None,
) -> np.ndarray:
    """Continue the scan into holes: grey value from around, with the speckle of the scan.

    The grey value is spread into the hole from coarse to fine (Gortler et al., "The Lumigraph",
    SIGGRAPH 1996, section 3.4.2, push and pull). Speckle, relative to its strength nearby, is
    copied from elsewhere in the same scan by a shift, so that its grain stays. Nothing is drawn
    at random beyond the fixed shifts: the same scan gives the same result, alone or among others.

    Args:
        images: ``(N, H, W)`` uint8.
        holes: ``(N, H, W)`` bool, what is taken away.
        sources: ``(N, H, W)`` bool, what may be continued; by default all that is no hole. A
            scan with a hole but without any source gets 0.
        grain: ``(N, H, W)`` bool, where speckle is copied from; by default the sources. The
            layers of the retina have steps that are no speckle.

    Returns:
        ``(N, H, W)`` uint8, outside the holes as it was.
    """
    sources = ~holes if sources is None else sources & ~holes
    grain = sources if grain is None else grain
    out = images.copy()
    for start in range(0, len(images), BLOCK):
        part = slice(start, start + BLOCK)
        some = np.flatnonzero(holes[part].any(axis=(1, 2))) + start
        if len(some):
            out[some] = _filled(images[some], holes[some], sources[some], grain[some])
    return out


def _filled(
    images: np.ndarray, holes: np.ndarray, sources: np.ndarray, lent: np.ndarray
) -> np.ndarray:
    """Return `images` with the holes filled, ``(n, H, W)`` uint8."""
    grey = images.astype(np.float32)
    level, _ = _surroundings(grey, sources)
    mean, spread = _surroundings(grey, lent)
    grain = np.clip((grey - mean) / np.maximum(spread, 1), -STRONGEST, STRONGEST)
    level, spread = _spread_out(level, sources), _spread_out(spread, lent)
    filled = level + spread * _borrowed(grain, lent, holes)
    return np.where(holes, np.clip(np.rint(filled), 0, 255), grey).astype(np.uint8)


def _surroundings(grey: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the pixels in `where` around each, ``(n, H, W)``."""
    weight = where.astype(np.float32)
    near = np.maximum(_box_mean(weight), 1e-6)
    mean = _box_mean(grey * weight) / near
    deviation = (grey - mean) * weight
    return mean, np.sqrt(np.maximum(_box_mean(deviation**2), 0) / near)


def _box_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of each pixel's surroundings in its own scan, ``(n, H, W)``."""
    return ndimage.uniform_filter(values, (0, NEAR, NEAR), mode="constant")


def _spread_out(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return `values` in `where`, and elsewhere a smooth continuation, ``(n, H, W)`` float32."""
    return _pulled(values, where.astype(np.float32))


def _pulled(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return what `_spread_out` does, from weights in [0, 1]."""
    if min(values.shape[1:]) < 2 or (weight > 0).all():
        return np.where(weight > 0, values, 0)
    rows, columns = values.shape[1:]
    odd = ((0, 0), (0, rows % 2), (0, columns % 2))
    wide, known = np.pad(values * weight, odd), np.pad(weight, odd)
    total, count = _quarters(wide), _quarters(known)
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    coarse = _pulled(mean, np.minimum(count, 1))
    fine = coarse.repeat(2, axis=1).repeat(2, axis=2)[:, :rows, :columns]
    fine = ndimage.uniform_filter(fine, (0, 3, 3), mode="nearest")
    return weight * values + (1 - weight) * fine


def _quarters(values: np.ndarray) -> np.ndarray:
    """Return the sums of 2×2 pixels, ``(n, H/2, W/2)``."""
    return values[:, ::2, ::2] + values[:, 1::2, ::2] + values[:, ::2, 1::2] + values[:, 1::2, 1::2]


def _borrowed(grain: np.ndarray, sources: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """Return for each hole pixel the grain of a source pixel of the same scan, by shifts."""
    height, width = grain.shape[1:]
    out, left = np.zeros_like(grain), holes.copy()
    for down, along in _shifts(height, width):
        reached = left & np.roll(sources, (down, along), axis=(1, 2))
        if reached.any():
            out[reached] = np.roll(grain, (down, along), axis=(1, 2))[reached]
            left &= ~reached
        if not left.any():
            break
    return out


def _shifts(height: int, width: int) -> np.ndarray:
    """Return fixed shifts ``(SHIFTS, 2)`` in pixels, spread over the frame."""
    step = np.arange(1, SHIFTS + 1)
    golden = np.stack([step * 0.7548777, step * 0.5698403], axis=1) % 1  # fills a square evenly
    return np.rint(golden * (height, width)).astype(int)
