"""Whether two thumbnails show one picture: their fine structure, once laid over each other.

B-scans of one eye share layers, vessels and lesions, but each has speckle of its own, and a copy
has that of its original. So what is compared is the structure finer than a few pixels, by bands
of an octave, after one has been registered to the other and its grey levels have been
mapped to the other's (gamma, equalising and inversion go away). It is compared tile by tile, and
the median tile counts: text burnt into a copy does not hide it, and a mask or a screen's
surround that two scans share does not make them one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from octoscope.scans.audit.registration import Registrable, covered, register, resample

BANDS = (1.0, 2.0, 4.0)
"""Standard deviations, in pixels of the thumbnail, that bound the bands: finer than 1, 1 to 2…"""
TILE = 16
"""Side of a tile in pixels."""
PLAIN = 0.1
"""A tile has nothing to compare with less than this part of the energy of the median tile,"""
QUIET = 1.0
"""or with less than this spread, in grey levels, in either picture: what is left of noise."""
MIDDLE = 1
FEWEST_TILES = 4
"""Tiles with something to see, below which nothing can be said."""
AGREEING = 0.8
"""Share of the tiles with something to see that must be alike: not only a common surround."""
SAME, SAME_IN_A_SERIES = 0.9, 0.92
"""Correlation of the finest band, speckle, from which two pictures are one."""
SAME_MIDDLE = 0.987
"""Correlation of the middle band from which they are one even where the finest has been lost: of
neighbouring B-scans, 30 µm apart, it reaches 0.983, and of one place at two visits 0.952."""
NEARLY = 0.94
"""The least correlation of the middle band of one picture in two forms."""
NEIGHBOURS, NEIGHBOURLY = 2, 0.9
"""A picture is one of a series of neighbouring B-scans if the middle band correlates so much with
so many further pictures that are no copies of it."""
ALIKE = 0.8
"""Correlation of the coarsest band from which two scans look alike."""
LEAST_COVERED = 0.3
"""Share of the thumbnail that must lie within the other."""


@dataclass(frozen=True, eq=False)
class Match:
    """How alike two registered pictures are, from the finest band to the coarsest.

    Attributes:
        correlation: ``(3,)`` of the bands, in the median tile.
        agreeing: Share of the tiles with something to see that are alike in the middle band.
        place: ``(2, 3)`` map from the part to the whole.
    """

    correlation: np.ndarray
    agreeing: float
    place: np.ndarray


def compare(
    parts: Sequence[Registrable],
    wholes: Sequence[Registrable],
    starts: np.ndarray,
    signs: np.ndarray,
) -> list[Match | None]:
    """Register thumbnails and compare their fine structure; None if they do not match at all.

    Args:
        parts: May be copies, or copies of a part, of `wholes`; P.
        wholes: The others, P.
        starts: ``(P, 2, 3)`` maps of the parts into the wholes to begin with.
        signs: ``(P,)`` -1 if one is inverted.
    """
    places = register(parts, wholes, starts, signs)
    return [
        None if place is None else _match(part, whole, place)
        for part, whole, place in zip(parts, wholes, places, strict=True)
    ]


def _match(part: Registrable, whole: Registrable, place: np.ndarray) -> Match | None:
    """Compare the fine structure of two pictures, one laid over the other."""
    inside = covered(place, len(part.picture))
    if inside.mean() < LEAST_COVERED:
        return None
    laid = _same_tones(part.picture, resample(whole.picture, place), inside)
    weight = _tiles(inside.astype(np.float32)) / TILE**2
    energies = []
    one, two = part.picture, laid
    for sigma in BANDS:
        one_blurred, two_blurred = _blurred(one, sigma), _blurred(two, sigma)
        a, b = (one - one_blurred) * inside, (two - two_blurred) * inside
        energies.append((_tiles(a * a) + 1e-6, _tiles(b * b) + 1e-6, _tiles(a * b)))
        one, two = one_blurred, two_blurred
    aa, bb, _ = energies[-1]  # the coarsest band outlives blur and noise: it says what is seen
    seen = (weight >= 0.5) & (np.minimum(aa, bb) > (QUIET * TILE) ** 2)
    energy = np.sqrt(aa * bb)
    told = seen & (energy > PLAIN * np.median(energy[seen])) if seen.any() else seen
    if np.count_nonzero(told) < FEWEST_TILES:
        return None
    correlations, alike = [], []
    for aa, bb, ab in energies:
        energy = np.sqrt(aa * bb)[told]
        heavy = np.minimum(energy, np.median(energy))  # letters are far above tissue
        each = ab[told] / energy
        alike.append(float((each > 0.5).mean()))
        correlations.append(_median(each, heavy))
    agreeing = alike[MIDDLE]
    return Match(np.array(correlations), agreeing, place)


def _tiles(picture: np.ndarray) -> np.ndarray:
    """Return the sums over tiles of a picture (n, n) as a flat array."""
    n = len(picture) // TILE
    return picture.reshape(n, TILE, n, TILE).sum(axis=(1, 3)).ravel()


def _blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(gaussian_filter(picture, sigma, mode="nearest", truncate=3))


def _same_tones(target: np.ndarray, picture: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Map the greys of a picture (n, n) to the mean of the target where they stand."""
    step = 4
    bins = np.clip(picture[inside] / step, 0, 63).astype(np.int64)
    count = gaussian_filter1d(np.bincount(bins, minlength=64).astype(float), 1, mode="nearest")
    total = gaussian_filter1d(np.bincount(bins, target[inside], minlength=64), 1, mode="nearest")
    known = count > 5
    if known.sum() < 2:
        return picture
    centres = np.arange(64) * step + step / 2
    return np.interp(picture, centres[known], total[known] / count[known]).astype(np.float32)


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    """Return the weighted median."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def is_copy(match: Match, crowded: bool) -> bool:
    """Whether two pictures are one, by their fine structure.

    Args:
        match: How alike they are.
        crowded: Whether either is nearly as alike to several further pictures: neighbouring
            B-scans of a dense volume share all but the speckle, so that only this counts.
    """
    fine, middle, coarse = match.correlation
    if match.agreeing < AGREEING or coarse < ALIKE or middle < NEARLY:
        return False
    if crowded:
        return bool(fine >= SAME_IN_A_SERIES)
    return bool(fine >= SAME or middle >= SAME_MIDDLE)
