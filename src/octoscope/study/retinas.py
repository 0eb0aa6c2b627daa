"""Where the retina lies in the scans of a cache: found once for all models of a study."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from octoscope.data.cache import ScanCache
from octoscope.progress import track
from octoscope.scans.geometry import RetinaLayers, segment_retina


def retinas_of(cache: ScanCache, rows: np.ndarray) -> list[RetinaLayers]:
    """Return ILM and RPE of some rows of a cache, in its frame; under a bar if not yet known."""
    known = _known(cache)
    lacking = [int(row) for row in rows if int(row) not in known]
    for row in track(lacking, "Finding retinas") if lacking else ():
        known[row] = segment_retina(cache.images[row])
    return [known[int(row)] for row in rows]


@lru_cache(maxsize=2)
def _known(cache: ScanCache) -> dict[int, RetinaLayers]:
    """Return row → its layers, of those that were found so far."""
    return {}
