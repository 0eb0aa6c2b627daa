"""`RetinaLayers`: the two surfaces of the retina in one B-scan, and the areas they bound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BAND_COVERAGE = 0.995
"""Part of the columns whose surface must lie in the band; the rest may be one column's slip."""


@dataclass(frozen=True, eq=False)
class RetinaLayers:
    """The inner and the outer surface of the retina.

    Rows are counted downwards in pixels, 0 at the centre of the first row: a surface at 11.5 runs
    between the rows 11 and 12. One that leaves the frame runs along its edge, −0.5 or H − 0.5.

    Attributes:
        ilm: ``(W,)`` float, the inner limiting membrane: the first lasting step from the dark
            vitreous to the bright retina.
        rpe: ``(W,)`` float, the outer edge (towards the choroid) of the bright band that the
            retinal pigment epithelium makes, with Bruch's membrane where the two lie together.
            Over a drusen or a detachment it follows the raised RPE, not Bruch's membrane below.
            ``ilm <= rpe`` everywhere.
        confidence: ``(W,)`` float in [0, 1] per column; 0 where the column shows no scan.
        valid: ``(W,)`` bool, columns that show the scan at the height of the retina, not a
            registration border.
        found: Whether there is a retina at all, judged over all columns.
    """

    ilm: np.ndarray
    rpe: np.ndarray
    confidence: np.ndarray
    valid: np.ndarray
    found: bool

    def mask(self, shape: tuple[int, int]) -> np.ndarray:
        """Return the retina as ``(H, W)`` bool: pixels whose centre lies between the surfaces."""
        row = np.arange(shape[0])[:, None]
        inside = (row >= self.ilm[None]) & (row < self.rpe[None])
        return inside & self.valid[None]

    def band(self, shape: tuple[int, int], margin: float = 0.0) -> tuple[int, int, int, int]:
        """Return the box that holds the retina: top, left, bottom, right, half-open.

        Args:
            shape: ``(H, W)`` of the scan.
            margin: Rows added above and below, as a part of the median retinal thickness.
        """
        height = shape[0]
        columns = np.flatnonzero(self.valid)
        if not len(columns):
            return (0, 0, *shape)
        ilm, rpe = self.ilm[columns], self.rpe[columns]
        extra = margin * float(np.median(rpe - ilm))
        top = np.floor(np.quantile(ilm, 1 - BAND_COVERAGE) + 0.5 - extra)
        bottom = np.ceil(np.quantile(rpe, BAND_COVERAGE) + 0.5 + extra)
        first = int(np.clip(top, 0, height - 1))
        last = int(np.clip(bottom, first + 1, height))
        return (first, int(columns[0]), last, int(columns[-1]) + 1)
