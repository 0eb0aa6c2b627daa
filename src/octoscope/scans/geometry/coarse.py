"""A first, robust place for both surfaces of the retina, on a strongly reduced B-scan.

The reduction averages the speckle away and makes the joint search of both surfaces cheap. Costs
are made of saturating contrasts, so that a faint retina counts as much as a bright one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from octoscope.scans.geometry.path import cheapest_pair
from octoscope.scans.geometry.profiles import cumulative, means_beside

ROWS = 72
"""Rows of the reduced B-scan, at most; a row of it covers at least `LEAST_STEP` pixels."""
COLUMNS = 96
LEAST_STEP = 3.0
PAD_ABOVE, PAD_BELOW = 2, 7
"""Rows added to the frame, so that the ILM can be found at its upper edge and the RPE can leave it
at the lower one."""
LEAST_RANGE = 8.0
"""Grey values between vitreous and brightest band under which nothing is looked for."""

STEP_COST = (0.10 * np.abs(np.arange(-3, 4))).astype(np.float32)
ONSET_SATURATES = 0.15
"""Contrast at which a dark-to-bright step is as good a start of the retina as any."""
LIT_COST = 0.12
"""Cost of one bright pixel above the ILM."""
SHADE_ROWS, SHADE_COLUMNS = 24, 21
"""Rows below, and columns around, over which it is judged whether a column lies in shadow."""
LEAST_LIGHT = 0.1
"""Weight of what is seen in the deepest shadow; there the surface follows its neighbours."""
DEEP = 0.05
"""Brightness around, on the scale of `Brightness`, below which it is too dark for a shadow."""
DARKEST, FULL_LIGHT = 0.2, 0.6
"""Brightness below, as a part of that of the columns around: of a deep shadow, and of none."""
LASTING, LASTING_REWARD = 3, 0.4
"""Rows below the ILM that are all lit, and their reward: a detached hyaloid is thinner, the roof of
a cyst is not."""
LEAST = 8
"""Rows of retinal thickness (of at most 72) under which a pair costs `THIN_COST` per row."""
THIN_COST = 0.15
RETINA_FROM = 0.35
"""Brightness above which pixels at the frame's edge are taken for retina."""
CUT_EDGE = 0.7
"""Brightness below the frame, relative to a bright last row."""
FORBIDDEN = 1e4


@dataclass(frozen=True, eq=False)
class Brightness:
    """A reduced B-scan on a scale where the vitreous is 0 and the brightest band about 1.

    Attributes:
        values: ``(R, C)`` float32 in [0, 1.2].
        noise: Standard deviation of what is left of the speckle, on that scale.
        dark: Grey value of the vitreous.
        span: Grey values from there to the brightest band.
    """

    values: np.ndarray
    noise: float
    dark: float
    span: float

    @property
    def lit(self) -> np.ndarray:
        """``(R, C)`` in [0, 1]: 0 for what is as dark as the vitreous, 1 for what is surely not."""
        return lit(self.values, self.noise)


def brightness(grey: np.ndarray) -> Brightness | None:
    """Reduce a B-scan ``(H, W)`` uint8 and scale it; None if there is no contrast or no room."""
    height, width = grey.shape
    rows = round(height / max(height / ROWS, LEAST_STEP))
    columns = min(COLUMNS, width)
    if rows < LEAST or columns < LEAST:
        return None
    reduced = Image.fromarray(grey).resize((columns, rows), Image.Resampling.BOX)
    values = ndimage.gaussian_filter(np.asarray(reduced, dtype=np.float32), (0.5, 1.0))
    # In the darker half there is little but noise; 1.05 makes a median difference a deviation.
    left, right = values[:, :-2], values[:, 2:]
    noise = 1.05 * float(np.median(np.abs(right - left)[right <= np.median(right)]))
    # The dark tenth of the upper third is vitreous even where a tight crop leaves little of it;
    # its mean lies 1.28 deviations above its lowest tenth.
    dark = float(np.percentile(values[: rows // 3], 10)) + 1.28 * noise
    span = float(np.percentile(values, 99)) - dark
    if span < LEAST_RANGE:
        return None
    return Brightness(np.clip((values - dark) / span, 0, 1.2), noise / span, dark, span)


def coarse_surfaces(seen: Brightness) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find both surfaces in the reduced B-scan.

    Returns:
        ILM and RPE as boundaries ``(C,)`` in [0, R], and in [0, 1] how well the RPE is lit.
    """
    rows = len(seen.values)
    values, padding = framed(seen.values)
    bounds = len(values) + 1
    thickness = np.arange(bounds)[None, :] - np.arange(bounds)[:, None]
    pair = np.where(thickness < 2, FORBIDDEN, THIN_COST * np.maximum(LEAST - thickness, 0))
    light = _light(values).astype(np.float32)
    ilm, rpe = cheapest_pair(
        _ilm_cost(values, seen.noise),
        light * _rpe_cost(values),
        pair.astype(np.float32),
        STEP_COST,
    )
    ilm, rpe = (np.clip(s - padding, 0, rows).astype(float) for s in (ilm, rpe))
    return ilm, rpe, light


def framed(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Continue ``(R, C)`` brightness above and below the frame; return it and the rows above."""
    # Where the frame's first row is too bright for vitreous, the vitreous has been cut off.
    first = values[:1]
    above = np.repeat(np.where(first > RETINA_FROM, 0, first), PAD_ABOVE, axis=0)
    # A bright last row may be an RPE whose lower edge has been cut off, so a faint edge is added.
    last = values[-1:]
    below = np.repeat(np.where(last > RETINA_FROM, CUT_EDGE * last, last), PAD_BELOW, axis=0)
    return np.concatenate([above, values, below]), PAD_ABOVE


def _ilm_cost(values: np.ndarray, noise: float) -> np.ndarray:
    """Return the cost of the ILM at each boundary: a step up, with nothing bright above it."""
    above, below = means_beside(values, 2)
    step = below - above
    onset = np.clip(step / max(ONSET_SATURATES, 5 * noise), 0, 1) + 0.3 * np.clip(step, 0, 1)
    shining = lit(values, noise)
    below = [shining[k : len(shining) - LASTING + 1 + k] for k in range(LASTING)]
    lasting = np.zeros_like(onset)
    lasting[:-LASTING] = np.minimum.reduce(below)
    return LIT_COST * cumulative(shining) - onset - LASTING_REWARD * lasting


def lit(values: np.ndarray, noise: float) -> np.ndarray:
    """Return how surely each pixel is brighter than the vitreous and its noise, in [0, 1]."""
    return np.clip((values - max(0.12, 3 * noise)) / 0.2, 0, 1)


def _rpe_cost(values: np.ndarray) -> np.ndarray:
    """Return the cost of the RPE at each boundary: the lower edge of the deepest bright ridge."""
    # Shadows and deep retinas are dim; the power brings their contrasts nearer to the others'.
    values = values**0.7
    above_1, _ = means_beside(values, 1)
    above_2, _ = means_beside(values, 2)
    above_3, below = means_beside(values, 3)
    band = np.maximum(above_1, above_2)
    over_band = np.zeros_like(above_3)
    over_band[2:] = above_3[:-2]
    edge = np.clip((band - below) / 0.15, 0, 1)
    ridge = np.clip((band - np.maximum(over_band, below)) / 0.12, 0, 1)
    deeper = ridge[::-1].cumsum(axis=0)[::-1]  # ridges at this boundary and below
    left_below = np.zeros_like(deeper)
    left_below[:-3] = deeper[3:]
    return 0.05 * left_below - np.clip(band, 0, 1) - edge - 0.5 * ridge


def _light(values: np.ndarray) -> np.ndarray:
    """Return how much of the light that the columns around get arrives in each, ``(C,)``.

    Exudates and vessels throw shadows that reach down to the end of the frame; a detachment only
    darkens what is right below it.
    """
    _, below = means_beside(values, SHADE_ROWS)
    around = ndimage.percentile_filter(below, 45, (1, SHADE_COLUMNS), mode="nearest")
    share = np.where(around > DEEP, below / np.maximum(around, DEEP), 1)
    # The darkest quarter of its depths: above the exudate nothing is in shadow yet.
    darkest = np.sort(share, axis=0)[: max(1, len(share) // 4)].mean(axis=0)
    return np.clip((darkest - DARKEST) / (FULL_LIGHT - DARKEST), LEAST_LIGHT, 1)
