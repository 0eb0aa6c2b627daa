"""What covering a part of a scan does to what the model says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from octoscope.report.figures.cells import (
    Bars,
    Box,
    Map,
    Picture,
    Scan,
    Words,
    map_picture,
    scan_picture,
)
from octoscope.report.figures.sheet import Strip, sheet_png


@dataclass(frozen=True, eq=False)
class Covered:
    """A scan with one window covered, and what the model says then.

    Attributes:
        image: ``(H, W)`` uint8, the scan with the window covered.
        box: The window.
        before: Class → logit of the whole scan.
        after: Class → logit of the covered one.
    """

    image: np.ndarray
    box: Box
    before: Mapping[str, float]
    after: Mapping[str, float]


def occlusion_png(
    scan: Scan,
    cam: Map | str,
    occlusion: Map,
    covered: Covered,
    *,
    explained: str,
    title: str,
    note: str = "",
) -> bytes:
    """Draw scan, logits and Grad-CAM; and below, the occlusion map, the best window, its logits.

    Args:
        scan: The scan in the model's frame.
        cam: Its Grad-CAM; or why there is none.
        occlusion: Its occlusion map.
        covered: The scan with the window covered that `note` names.
        explained: The class explained.
        title: What the scan is called.
        note: Which window was chosen.

    Returns:
        PNG.
    """
    most = max(*covered.before.values(), *covered.after.values(), 0.0)
    least = min(*covered.before.values(), *covered.after.values(), 0.0)
    room = 0.06 * (most - least or 1.0)
    limits = (least - room, most + room)  # the same in both, so that bars can be compared
    change = covered.after[explained] - covered.before[explained]
    said = f"{explained} changes by {change:+.2f}".replace(" -", " −")
    above = (
        scan_picture(scan),
        Bars("logits", covered.before, "of the whole scan", explained, limits, signed=True),
        Words("Grad-CAM", cam) if isinstance(cam, str) else map_picture(scan, cam),
    )
    mapped = replace(map_picture(scan, occlusion), box=covered.box)
    below = (
        mapped,
        Picture("window covered", covered.image, _where(covered.box), scan.outlines, covered.box),
        Bars("logits, window covered", covered.after, said, explained, limits, signed=True),
    )
    return sheet_png([Strip(above), Strip(below)], title=title, note=note)


def _where(box: Box) -> str:
    top, left, height, width = box
    return f"{height}×{width} pixels at row {top}, column {left}"
