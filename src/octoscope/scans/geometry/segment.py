"""`segment_retina`: both surfaces of the retina in one B-scan."""

from __future__ import annotations

import numpy as np

from octoscope.scans.borders import as_grey8, frame_border
from octoscope.scans.geometry.coarse import brightness, coarse_surfaces
from octoscope.scans.geometry.continued import without_borders
from octoscope.scans.geometry.cut import at_an_edge, below_the_frame
from octoscope.scans.geometry.fine import fine_surfaces
from octoscope.scans.geometry.layers import RetinaLayers
from octoscope.scans.geometry.opinion import agreement, distance, second_surfaces

SURE_CONTRAST = 0.2
"""Contrast of a surface, relative to the brightest band, from which it is trusted fully."""
LEAST_CONFIDENCE = 0.75
"""Mean confidence of the columns that are not cut off, under which no retina counts as found: set
on phantoms with planted faults, and on real scans, see benchmarks/geometry_error.py."""
LEAST_STANDING_OUT = 0.25
"""By how much more the retina must be lit than the vitreous. Real scans have 0.38 and more (median
0.88), noise has 0.01 and smooth clouds with equal confidence 0.10."""
MOST_CUT = 0.25
"""Part of the columns that may be cut off in a scan whose retina counts as found."""
CHOROID, LEAST_WITH_CHOROID = 5, 0.75
"""Rows of the reduced B-scan below the RPE, and how much of them must be lit beyond what the retina
lacks: a choroid scatters light, nothing does below a hyaloid. Real scans have 1.07 in sum and more,
hyaloids alone at most 0.62."""
MOST_APART = 0.15
"""Mean distance of two opinions on the ILM, as a part of the thickness of the retina, above which
they are about different things. (A detachment parts those on the RPE.)"""


def segment_retina(image: np.ndarray) -> RetinaLayers:
    """Find the inner and the outer surface of the retina by dynamic programming.

    First both together on a strongly reduced B-scan, their order kept; then each to the pixel in
    a strip along what was found. Registration borders are left out.

    Args:
        image: ``(H, W)`` grey, uint8 or float in [0, 1].

    Raises:
        OctoscopeError: If `image` is not a grey picture.
    """
    grey = as_grey8(image)
    whole, width = grey.shape
    shown = frame_border(grey).valid
    valid = np.any(shown, axis=0)
    # Rows without any scan are padding; what remains has edges like those of a tight crop.
    scan = np.flatnonzero(shown.any(axis=1))
    top, bottom = (int(scan[0]), int(scan[-1]) + 1) if len(scan) else (0, whole)
    grey, shown = grey[top:bottom], shown[top:bottom]
    height = bottom - top
    filled, beside = without_borders(grey, shown)
    seen = brightness(filled)
    if seen is None:
        nothing = np.zeros(width)
        return RetinaLayers(nothing - 0.5, nothing + whole - 0.5, nothing, valid, False)
    rows, columns = seen.values.shape
    step = height / rows
    at, across = (np.arange(columns) + 0.5) * width / columns, np.arange(width) + 0.5
    small_ilm, small_rpe, small_light = coarse_surfaces(seen)
    ilm, rpe, light = (
        np.interp(across, at, s) for s in (small_ilm * step, small_rpe * step, small_light)
    )
    ilm, rpe, contrast = fine_surfaces(filled, ilm, rpe, light, 2 * step, seen)
    middle = (0.5 * (ilm + rpe)).astype(int).clip(0, height - 1)
    valid &= ~beside[middle, np.arange(width)]  # what shows no retina at its height
    opinions = np.stack([small_ilm, small_rpe]), np.stack(second_surfaces(seen))
    confidence = np.clip(contrast.min(axis=0) / SURE_CONTRAST, 0, 1)
    below = np.interp(across, at, below_the_frame(seen.values, small_ilm, small_rpe)) > 0.5
    cut = (at_an_edge(ilm, rpe, shown) | below) & valid
    whole_columns = valid & ~cut
    confidence *= np.interp(across, at, agreement(*opinions)) * whole_columns
    found = (
        whole_columns.any()
        and cut.sum() <= MOST_CUT * valid.sum()
        and confidence[whole_columns].mean() >= LEAST_CONFIDENCE
        and distance(*opinions) <= MOST_APART
        and _looks_like_a_retina(seen.lit, small_ilm, small_rpe)
    )
    above = top - 0.5  # boundaries to rows, whose centres are whole numbers
    return RetinaLayers(ilm + above, rpe + above, confidence, valid, bool(found))


def _looks_like_a_retina(lit: np.ndarray, ilm: np.ndarray, rpe: np.ndarray) -> bool:
    """Whether the retina and the choroid below it are lit, and the vitreous above is not."""
    row = np.arange(len(lit))[:, None]
    parts = (row >= ilm) & (row < rpe), row < ilm - 1
    inside, outside = (lit[part].mean() if part.any() else 0.0 for part in parts)
    choroid = (row >= rpe + 1) & (row < rpe + 1 + CHOROID)
    below = lit[choroid].mean() if choroid.any() else 1.0  # cut off, so not to be judged
    stands_out = inside - outside
    return bool(stands_out >= LEAST_STANDING_OUT and stands_out + below >= LEAST_WITH_CHOROID)
