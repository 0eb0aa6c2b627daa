"""Random fields that can be asked for at any place: the same tissue, cut anywhere.

A B-scan asks for them along one line of the retina, a volume over its whole surface; both see
the same eye, because a field is a function of (x, y) in millimetres and not an array of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Waves:
    """A smooth random field over (x, y): a sum of plane waves in random directions.

    Attributes:
        frequency: ``(K, 2)`` cycles per mm along x and y.
        phase: ``(K,)`` radians.
        amplitude: Standard deviation of the field.
    """

    frequency: Array
    phase: Array
    amplitude: float

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        amplitude: float,
        wavelength: tuple[float, float],
        count: int = 8,
    ) -> Waves:
        """Draw a field whose wavelengths (mm) lie log-uniformly in an interval."""
        length = np.exp(rng.uniform(np.log(wavelength[0]), np.log(wavelength[1]), count))
        angle = rng.uniform(0, 2 * np.pi, count)
        frequency = np.stack([np.cos(angle), np.sin(angle)], axis=1) / length[:, None]
        return cls(frequency, rng.uniform(0, 2 * np.pi, count), amplitude)

    def __call__(self, x: Array, y: Array) -> Array:
        """Return the field at x, y (mm), broadcast to ``(..., W)``."""
        x, y = np.broadcast_arrays(x, y)
        total = np.zeros(x.shape)
        for (fx, fy), phase in zip(self.frequency, self.phase, strict=True):
            total += np.cos(2 * np.pi * (fx * x + fy * y) + phase)
        return self.amplitude * np.sqrt(2 / max(len(self.phase), 1)) * total


@dataclass(frozen=True, eq=False)
class Texture:
    """A periodic block of random texture, sampled in (depth, x, y) by its nearest grid point.

    Attributes:
        block: ``(D, X, Y)`` values of mean 0 and standard deviation 1.
        step: Grid step in mm along depth, x and y.
    """

    block: Array
    step: tuple[float, float, float]

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        step: tuple[float, float, float],
        grain: tuple[float, float, float],
        shape: tuple[int, int, int],
    ) -> Texture:
        """Draw a block with Gaussian correlation of `grain` (standard deviation, mm per axis)."""
        white = rng.standard_normal(shape, dtype=np.float32)
        sigma = [g / s for g, s in zip(grain, step, strict=True)]
        block = gaussian_filter(white, sigma, mode="wrap", truncate=3)
        return cls(((block - block.mean()) / block.std()).astype(np.float32), step)

    def __call__(self, z: Array, x: Array, y: Array) -> Array:
        """Return the texture at depths z ``(H, W)`` over places x, y ``(W,)``, all in mm."""
        (deep, wide, long), (dz, dx, dy) = self.block.shape, self.step
        iz = np.floor(z / np.float32(dz)).astype(np.int32) % deep
        column = (np.floor(x / dx).astype(np.int32) % wide) * long
        column += np.floor(y / dy).astype(np.int32) % long
        return self.block.ravel().take(iz * np.int32(wide * long) + column)
