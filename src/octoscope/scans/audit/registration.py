"""Lay one thumbnail over another: an affine map by the inverse compositional Lucas-Kanade method.

Baker, Matthews, "Lucas-Kanade 20 Years On: A Unifying Framework", IJCV 56(3), 2004. The pictures
are compared by their local contrasts, so that brightness, gamma and gain do not matter, from a
quarter of the resolution up to the whole. Many pairs are registered at a time: at a quarter of the
resolution, where most of the work is, one step of one pair is too little for a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter

STEPS = ((4, 20), (2, 10), (1, 5))
"""Reduction of the resolution, and most steps taken at it."""
SETTLED = 0.01
"""Pixels at the edge by which a step changes the map when no further one is needed."""
CONTRAST = 3.0
"""Standard deviation, in pixels, of the surroundings of a pixel."""
QUIET = 2.0
"""Grey levels of spread below which there is no contrast to speak of."""
LEAST_ALIKE = (0.45, 0.6, -1.0)
"""Correlation once registered at each resolution, below which the finer ones are not tried."""
FARTHEST = 3.0
"""Largest entry of a map that is not lost, in half sides of the picture."""


class Registrable:
    """A thumbnail with what registration asks of it, worked out once.

    Attributes:
        picture: ``(SIDE, SIDE)`` float32 grey.
    """

    def __init__(self, picture: np.ndarray) -> None:
        self.picture = picture.astype(np.float32)

        self._levels: dict[int, Level] = {}

    def level(self, index: int) -> Level:
        """Return the local contrasts at one of the resolutions of `STEPS`."""
        if index not in self._levels:  # most pictures are looked at by the coarser ones only
            by, side = STEPS[index][0], len(self.picture)
            means = self.picture.reshape(side // by, by, side // by, by).mean(axis=(1, 3))
            self._levels[index] = Level(local_contrast(means))
        return self._levels[index]


@dataclass(frozen=True, eq=False)
class Level:
    """The local contrasts ``(n, n)`` at one resolution, with their steepest descents."""

    contrast: np.ndarray

    @cached_property
    def descents(self) -> tuple[np.ndarray, np.ndarray]:
        """Return how each parameter changes each pixel (6, n²), and the inverse Hessian (6, 6)."""
        n = len(self.contrast)
        down, along = (g.ravel() * n / 2 for g in np.gradient(self.contrast))
        y, x = (np.broadcast_to(c, (n, n)).ravel() for c in _coordinates(n))
        steepest = np.stack([along, down, along * x, along * y, down * x, down * y])
        hessian = steepest @ steepest.T
        damped = hessian + (1e-5 * np.trace(hessian) + 1e-6) * np.eye(6)
        return steepest, np.linalg.inv(damped)


def register(
    parts: Sequence[Registrable],
    wholes: Sequence[Registrable],
    starts: np.ndarray,
    signs: np.ndarray,
) -> list[np.ndarray | None]:
    """Find where thumbnails lie in others, pair by pair.

    Args:
        parts: Those that are laid, P.
        wholes: Those they are laid on, P.
        starts: ``(P, 2, 3)`` maps to begin with.
        signs: ``(P,)`` -1 if bright is dark in one of the two.

    Returns:
        For each pair the ``(2, 3)`` map of (x, y, 1) in the part, each from -1 to 1, to x, y in the
        whole; None if they are not alike anywhere near.
    """
    places = np.array(starts, np.float64)
    left = np.arange(len(places))
    for index, ((_, steps), least) in enumerate(zip(STEPS, LEAST_ALIKE, strict=True)):
        if not len(left):
            break
        own = [parts[i].level(index) for i in left.tolist()]
        other = np.stack(
            [signs[i] * wholes[i].level(index).contrast for i in left.tolist()]
        )  # (L, n, n)
        places[left], found = _descend(own, other, places[left], steps)
        if least > 0:
            laid, inside = _laid(other, places[left])
            contrast = np.stack([level.contrast for level in own])
            found &= _correlation(contrast * inside, laid * inside) >= least
        left = left[found]
    return [places[i] if i in set(left.tolist()) else None for i in range(len(places))]


def resample(picture: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return a picture (n, n) as seen through a map, bilinear, its edges extended."""
    n = len(picture)
    turn = place[::-1, 1::-1]  # of (x, y) to of (row, column)
    middle = (n - 1) / 2
    offset = middle + place[::-1, 2] * n / 2 - turn @ np.array([middle, middle])
    return np.asarray(affine_transform(picture, turn, offset, order=1, mode="nearest"))


def covered(place: np.ndarray, n: int) -> np.ndarray:
    """Return which pixels (n, n) of the part lie within the whole."""
    y, x = _coordinates(n)
    across = place[0, 0] * x + place[0, 1] * y + place[0, 2]
    down = place[1, 0] * x + place[1, 1] * y + place[1, 2]
    return (np.abs(across) <= 1) & (np.abs(down) <= 1)


def local_contrast(picture: np.ndarray) -> np.ndarray:
    """Return a picture (n, n) less its surroundings, over the local spread."""
    rest = picture - gaussian_filter(picture, CONTRAST, mode="nearest", truncate=3)
    spread = np.sqrt(gaussian_filter(rest**2, CONTRAST, mode="nearest", truncate=3))
    return np.asarray(rest / (spread + QUIET), np.float32)


def _descend(
    own: Sequence[Level], other: np.ndarray, places: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Improve maps at one resolution.

    Args:
        own: The parts, P.
        other: ``(P, n, n)`` contrasts of the wholes.
        places: ``(P, 2, 3)`` maps to begin with.
        steps: Most steps.

    Returns:
        The maps, and ``(P,)`` bool whether they lead anywhere.
    """
    places, found, n = places.copy(), np.ones(len(own), bool), other.shape[-1]
    going = np.arange(len(own))
    contrast = np.stack([level.contrast for level in own])  # (P, n, n)
    steepest = np.stack([level.descents[0] for level in own])  # (P, 6, n²)
    inverse = np.stack([level.descents[1] for level in own])  # (P, 6, 6)
    for _ in range(steps):
        laid, inside = _laid(other, places[going])
        difference = np.clip(laid - contrast, -2, 2)  # few pixels must not rule
        difference *= inside
        p = (inverse @ (steepest @ difference.reshape(len(going), -1, 1)))[..., 0]  # (G, 6)
        change = np.tile(np.eye(3), (len(going), 1, 1))
        change[:, 0] += p[:, [2, 3, 0]]
        change[:, 1] += p[:, [4, 5, 1]]
        lost = np.abs(np.linalg.det(change)) < 0.1
        change[lost] = np.eye(3)
        ahead = np.linalg.inv(change)
        ahead = places[going, :, :2] @ ahead[:, :2] + places[going, :, 2:] * ahead[:, 2:]
        places[going] = np.where(lost[:, None, None], places[going], ahead)
        lost |= np.abs(places[going]).max(axis=(1, 2)) > FARTHEST
        found[going[lost]] = False
        on = ~lost & (np.abs(p).max(axis=1) * n / 2 >= SETTLED)
        if not on.all():
            going, other, contrast = going[on], other[on], contrast[on]
            steepest, inverse = steepest[on], inverse[on]
        if not len(going):
            break
    return places, found


def _laid(pictures: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures as seen through maps, and where those lead into them.

    Args:
        pictures: ``(P, n, n)`` float32.
        places: ``(P, 2, 3)`` maps.

    Returns:
        As `resample` and `covered`: ``(P, n, n)`` float32, bilinear, the edges extended; and bool.
    """
    count, n, _ = pictures.shape
    y, x = _coordinates(n)
    row, column = (
        (place[:, 0, None, None] * x + place[:, 1, None, None] * y + place[:, 2, None, None])
        for place in places[:, ::-1].swapaxes(0, 1).astype(np.float32)
    )  # (P, n, n) each, from -1 to 1
    inside = (np.abs(row) <= 1) & (np.abs(column) <= 1)
    for place in (row, column):  # to pixels
        place *= n / 2
        place += (n - 1) / 2
        np.clip(place, 0, n - 1, out=place)
    top, left = (np.minimum(place.astype(np.int64), n - 2) for place in (row, column))
    row -= top
    column -= left
    first = top * n + left + np.arange(count)[:, None, None] * n * n
    flat = pictures.ravel()
    upper = flat[first] * (1 - column) + flat[first + 1] * column
    lower = flat[first + n] * (1 - column) + flat[first + n + 1] * column
    return upper * (1 - row) + lower * row, inside


@lru_cache(maxsize=8)
def _coordinates(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return y (n, 1) and x (1, n) of the pixels, from -1 to 1."""
    along = ((np.arange(n) + 0.5) / n * 2 - 1).astype(np.float32)
    return along[:, None], along[None, :]


def _correlation(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return the correlations (P,) of contrasts (P, n, n), about zero; 0 where one has none."""
    both, first, second = (
        np.einsum("pij,pij->p", a, b, dtype=np.float64)
        for a, b in ((one, two), (one, one), (two, two))
    )
    return np.asarray(both / np.maximum(np.sqrt(first * second), 1e-12))
