"""A second opinion on both surfaces, from other evidence, to say how sure the first one is.

The first (`coarse`) takes any saturated step for as good as another, and follows every detour that
a bright ridge makes. This one weighs steps by their height over wide windows, and is stiffer. Where
the retina is clear both agree; they part over a hyaloid, an exudate, the remains of a retina that
has left the frame, or where there is no retina at all.
"""

from __future__ import annotations

import numpy as np

from octoscope.scans.geometry.coarse import FORBIDDEN, LEAST, Brightness, framed, lit
from octoscope.scans.geometry.path import cheapest_pair
from octoscope.scans.geometry.profiles import cumulative, means_beside

STEP_COST = (0.15 * np.abs(np.arange(-3, 4))).astype(np.float32)
LIT_COST = 0.04
ONSET, EDGE = 2.0, 3.0
"""Rewards of a step from 0 to 1 in brightness, at the ILM and (on a square-root scale) the RPE."""
DEEPER_COST = 0.03
"""Cost of each surely lower edge that is left below the RPE."""
APART = 2.0
"""Rows of the reduced B-scan up to which two opinions agree."""
DOUBT = np.array([0.7, 0.5])
"""Part of the confidence that is lost where they do not: over the ILM, and over the RPE, which a
detachment parts though the first opinion is right."""


def second_surfaces(seen: Brightness) -> tuple[np.ndarray, np.ndarray]:
    """Return ILM and RPE as boundaries of the reduced B-scan, each ``(C,)`` in [0, R]."""
    rows, columns = seen.values.shape
    pairs = columns // 2
    halved = seen.values[:, : 2 * pairs].reshape(rows, pairs, 2).mean(axis=2)
    values, padding = framed(halved)
    bounds = len(values) + 1
    above, below = means_beside(values, 4)
    onset = ONSET * (below - above)
    root = np.sqrt(values)
    band, beneath = means_beside(root, 2)[0], means_beside(root, 5)[1]
    fall = band - beneath
    deeper = np.clip(fall / 0.3, 0, 1)[::-1].cumsum(axis=0)[::-1]
    left_below = np.zeros_like(deeper)
    left_below[:-3] = deeper[3:]
    thickness = np.arange(bounds)[None, :] - np.arange(bounds)[:, None]
    pair = np.where(thickness < 2, FORBIDDEN, 0.15 * np.maximum(LEAST - thickness, 0))
    ilm, rpe = cheapest_pair(
        (LIT_COST * cumulative(lit(values, seen.noise)) - onset).astype(np.float32),
        (DEEPER_COST * left_below - EDGE * fall - band).astype(np.float32),
        pair.astype(np.float32),
        STEP_COST,
    )
    at, halves = np.arange(columns), 2 * np.arange(pairs) + 0.5
    ilm, rpe = (np.interp(at, halves, np.clip(s - padding, 0, rows)) for s in (ilm, rpe))
    return ilm, rpe


def agreement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the part of the confidence that is left where two opinions differ, ``(C,)``.

    Args:
        first: ``(2, C)``, ILM and RPE as boundaries of the reduced B-scan.
        second: ``(2, C)``, likewise.
    """
    apart = np.abs(first - second) > APART
    return np.asarray(np.prod(1 - DOUBT[:, None] * apart, axis=0))


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return how far two opinions on the ILM are apart, as a part of the thickness of the retina.

    The mean over the columns, in which up to `APART` counts as none: so a surface that is far off
    counts, even in few columns.

    Args:
        first: ``(2, C)``, ILM and RPE as boundaries of the reduced B-scan.
        second: ``(2, C)``, likewise.
    """
    apart = np.abs(first[0] - second[0])
    mean = float(np.where(apart > APART, apart, 0).mean())
    return mean / max(float(np.median(first[1] - first[0])), 1.0)
