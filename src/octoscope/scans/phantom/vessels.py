"""Retinal vessels: tubes in the inner retina that shine at the top and shade what is below."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from octoscope.scans.phantom.fields import Array


@dataclass(frozen=True, eq=False)
class Vessels:
    """Arcs over (x, y), none in the avascular middle of the fovea.

    Attributes:
        start: ``(K, 2)`` middle of each arc, mm.
        angle: ``(K,)`` direction at the middle, radians.
        bend: ``(K,)`` curvature, 1/mm.
        length: ``(K,)`` half length, mm.
        caliber: ``(K,)`` diameter, mm.
    """

    start: Array
    angle: Array
    bend: Array
    length: Array
    caliber: Array

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Vessels:
        """Draw the large arcades above and below, and small branches between them."""
        big, small = 5, 26
        side = rng.choice([-1.0, 1.0], big)
        arcade = np.stack([rng.uniform(-2.5, 3.5, big), side * rng.uniform(1.6, 2.6, big)], axis=1)
        radius, turn = rng.uniform(0.7, 4.0, small), rng.uniform(0, 2 * np.pi, small)
        branch = np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)
        return cls(
            start=np.concatenate([arcade, branch]),
            angle=np.concatenate([rng.normal(0, 0.35, big), rng.uniform(0, np.pi, small)]),
            bend=rng.normal(0, 0.15, big + small),
            length=np.concatenate([rng.uniform(2, 4, big), rng.uniform(0.3, 1.4, small)]),
            caliber=np.concatenate(
                [rng.uniform(0.07, 0.12, big), np.exp(rng.uniform(-4.0, -2.9, small))]
            ),
        )

    def off_axis(self, x: Array, y: Array) -> Array:
        """Return how far a beam at x, y passes from each axis, in radii, ``(K, ..., W)``.

        Beyond the ends of a vessel it is infinite.
        """
        ahead = (slice(None), *[None] * np.ndim(x))
        dx, dy = x - self.start[:, 0][ahead], y - self.start[:, 1][ahead]
        cos, sin = np.cos(self.angle)[ahead], np.sin(self.angle)[ahead]
        along = dx * cos + dy * sin
        across = dy * cos - dx * sin - self.bend[ahead] * along**2 / 2
        radius = self.caliber[ahead] / 2
        return np.where(np.abs(along) < self.length[ahead], np.abs(across) / radius, np.inf)
