"""Lay one thumbnail over another: an affine map by the inverse compositional Lucas-Kanade method.

Baker, Matthews, "Lucas-Kanade 20 Years On: A Unifying Framework", IJCV 56(3), 2004. The pictures
are compared by their local contrasts, so that brightness, gamma and gain do not matter, from a
quarter of the resolution up to the whole.
"""

from __future__ import annotations

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

    @cached_property
    def levels(self) -> list[Level]:
        """The local contrasts at each of the resolutions of `STEPS`."""
        side = len(self.picture)
        return [
            Level(
                local_contrast(
                    self.picture.reshape(side // by, by, side // by, by).mean(axis=(1, 3))
                )
            )
            for by, _ in STEPS
        ]


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
    part: Registrable, whole: Registrable, start: np.ndarray, sign: int
) -> np.ndarray | None:
    """Find where a thumbnail lies in another.

    Args:
        part: The one that is laid.
        whole: The one it is laid on.
        start: ``(2, 3)`` map to begin with.
        sign: -1 if bright is dark in one of them.

    Returns:
        ``(2, 3)`` map of (x, y, 1) in the part, each from -1 to 1, to x, y in the whole; None if
        they are not alike anywhere near.
    """
    place = start
    for (_, steps), least, own, other in zip(
        STEPS, LEAST_ALIKE, part.levels, whole.levels, strict=True
    ):
        found = _descend(own, sign * other.contrast, place, steps)
        if found is None:
            return None
        place = found
        if least > 0:
            laid = resample(sign * other.contrast, place)
            inside = covered(place, len(laid))
            if not inside.any() or _correlation(own.contrast[inside], laid[inside]) < least:
                return None
    return place


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


def _descend(own: Level, other: np.ndarray, place: np.ndarray, steps: int) -> np.ndarray | None:
    """Improve a map at one resolution."""
    steepest, inverse = own.descents
    for _ in range(steps):
        difference = np.clip(
            resample(other, place) - own.contrast, -2, 2
        )  # few pixels must not rule
        difference *= covered(place, len(difference))
        p = inverse @ (steepest @ difference.ravel())
        change = np.array([[1 + p[2], p[3], p[0]], [p[4], 1 + p[5], p[1]], [0, 0, 1]])
        if abs(np.linalg.det(change)) < 0.1:
            return None
        place = (np.vstack([place, [0, 0, 1]]) @ np.linalg.inv(change))[:2]
        if np.abs(place).max() > FARTHEST:
            return None
        if np.abs(p).max() * len(other) / 2 < SETTLED:
            break
    return place


@lru_cache(maxsize=8)
def _coordinates(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return y (n, 1) and x (1, n) of the pixels, from -1 to 1."""
    along = ((np.arange(n) + 0.5) / n * 2 - 1).astype(np.float32)
    return along[:, None], along[None, :]


def _correlation(one: np.ndarray, two: np.ndarray) -> float:
    """Return the correlation of two lists of contrasts, about zero."""
    length = np.sqrt(float(one @ one) * float(two @ two))
    return float(one @ two) / length if length else 0.0
