"""Small pictures of scans with the map of one method, for clusters and galleries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from octoscope.attribution.store import MapStore
from octoscope.attribution.store_check import DamagedMapsError
from octoscope.errors import OctoscopeError
from octoscope.report.explanations import diverging, draw_cell, map_cell
from octoscope.report.figures.outline import lesion_paths
from octoscope.report.figures.overlay import overlay_png, scan_jpeg
from octoscope.report.html import data_uri
from octoscope.report.trust_read import Trust, words

WIDEST = 320
"""Pixels of a small picture."""

MOST_AVERAGED = 200
"""Scans behind a mean map: more would take long to read and look the same."""


@dataclass(eq=False)
class Album:
    """Pictures of a report, each scan kept once, until the bytes are used up.

    Attributes:
        most: Bytes that may be used, as they stand in the page.
        used: Bytes used.
        scans: Name of a CSS class → scan as data URI.
        left_out: Pictures there was no room for.
    """

    most: int
    used: int = 0
    scans: dict[str, str] = field(default_factory=dict)
    left_out: int = 0

    def picture(
        self, trust: Trust, row: Any, method: str, predicted: str = ""
    ) -> dict[str, Any] | None:
        """Return a scan with the map of a method and its lesions; None if it cannot be shown."""
        cache = trust.study.cache
        if cache is None or not isinstance(row, int) or not 0 <= row < len(cache):
            return None
        if self.used >= self.most:
            self.left_out += 1
            return None
        name = f"small-{row}"
        if name not in self.scans:
            picture, _ = scan_jpeg(cache.images[row], widest=WIDEST)
            self.scans[name] = data_uri(picture, "image/jpeg")
            self.used += len(self.scans[name])
        height, width = cache.images.shape[1:]
        outlines = []
        if cache.masks is not None and cache.has_mask[row]:
            outlines = lesion_paths(np.asarray(cache.masks[row]), dict(cache.table.lesions))
        cell = self._map(trust, row, method, predicted, (height, width))
        self.used += sum(len(outline["path"]) for outline in outlines)
        return {**cell, "scan": name, "size": (width, height), "outlines": outlines}

    def mean(self, trust: Trust, rows: np.ndarray, method: str) -> dict[str, Any] | None:
        """Return the mean map of a method over the mean of some scans; None if there is none."""
        cache, store = trust.study.cache, trust.run.maps
        if cache is None or store is None or not len(rows):
            return None
        if self.used >= self.most:
            self.left_out += 1
            return None
        places = np.linspace(0, len(rows) - 1, min(len(rows), MOST_AVERAGED)).round().astype(int)
        values, count = mean_map(store, rows[places], method)
        if values is None:
            return None
        height, width = cache.images.shape[1:]
        ground = np.mean([cache.images[row] for row in rows[places]], axis=0)
        picture, _ = scan_jpeg(np.rint(ground).astype(np.uint8), widest=WIDEST)
        name = f"mean-{len(self.scans)}"
        self.scans[name] = data_uri(picture, "image/jpeg")
        image = data_uri(overlay_png(values, (height, width), signed=False), "image/png")
        self.used += len(self.scans[name]) + len(image)
        return {"image": image, "scan": name, "size": (width, height), "outlines": [],
                "count": count}  # fmt: skip

    def _map(
        self, trust: Trust, row: int, method: str, predicted: str, size: tuple[int, int]
    ) -> dict[str, Any]:
        """Return the map's picture and what is to be known of it."""
        if trust.run.maps is None or method not in trust.run.maps.methods:
            return {"image": None, "warning": "this map was not kept", "explained": None}
        cell = map_cell(trust.run.maps, row, method, trust.study.classes, predicted)
        signed = diverging(trust.study, [trust.run], [method])[method]
        if cell["values"] is not None:
            signed = signed or bool((cell["values"] < 0).any())
        draw_cell(cell, size, signed)
        self.used += len(cell["image"] or "")
        return {key: words(cell[key]) or None for key in ("image", "warning", "explained")}


def mean_map(store: MapStore, rows: np.ndarray, method: str) -> tuple[np.ndarray | None, int]:
    """Return the mean of the positive parts of maps, each of mass one, and how many they are.

    Maps without positive values and those that are not finite have no say. None if no map is
    left, one is missing, or a scan has several.
    """
    try:
        maps = store.read_rows(rows, method)
    except DamagedMapsError:
        raise
    except OctoscopeError:
        return None, 0
    if maps.ndim != 3:
        return None, 0
    positive = np.maximum(maps, 0).astype(np.float64)
    mass = positive.sum(axis=(1, 2))
    told = np.isfinite(mass) & (mass > 0)
    if not told.any():
        return None, 0
    return (positive[told] / mass[told, None, None]).mean(axis=0), int(told.sum())
