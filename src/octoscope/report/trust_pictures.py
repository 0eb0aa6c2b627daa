"""Small pictures of scans with the map of one method, for clusters and galleries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from octoscope.report.explanations import _cell, _draw, _signed
from octoscope.report.figures.outline import lesion_paths
from octoscope.report.figures.overlay import scan_jpeg
from octoscope.report.html import data_uri
from octoscope.report.trust_read import Trust, words

WIDEST = 320
"""Pixels of a small picture."""


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

    def _map(
        self, trust: Trust, row: int, method: str, predicted: str, size: tuple[int, int]
    ) -> dict[str, Any]:
        """Return the map's picture and what is to be known of it."""
        if trust.run.maps is None or method not in trust.run.maps.methods:
            return {"image": None, "warning": "this map was not kept", "explained": None}
        cell = _cell(trust.run.maps, row, method, trust.study.classes, predicted)
        signed = _signed(trust.study, [trust.run], [method])[method]
        if cell["values"] is not None:
            signed = signed or bool((cell["values"] < 0).any())
        _draw(cell, size, signed)
        self.used += len(cell["image"] or "")
        return {key: words(cell[key]) or None for key in ("image", "warning", "explained")}
