"""What stands in one cell of a figure: a scan, a map over its scan, bars, or words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from octoscope.attribution.colours import colour_limit
from octoscope.attribution.resize import resize
from octoscope.report.figures.blend import blended, faded
from octoscope.report.figures.outline import Outline, lesion_outlines

MOSTLY_CLIPPED = 0.9
"""From this share of positions cut to zero by the method's ReLU a map carries a warning."""

MOST_BARS = 12
"""Classes shown, the likeliest of them; more cannot be read."""

Box = tuple[int, int, int, int]
"""Top, left, height, width in pixels of the frame."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan in the frame of a model.

    Attributes:
        image: ``(H, W)`` uint8.
        mask: Lesion index ``(H, W)``, 0 for background; None if it is not known.
        lesions: Mask value → name.
    """

    image: np.ndarray
    mask: np.ndarray | None = None
    lesions: Mapping[int, str] = field(default_factory=dict)

    @property
    def outlines(self) -> list[Outline]:
        """The lesions' outlines, none without a mask."""
        return [] if self.mask is None else lesion_outlines(self.mask, self.lesions)


@dataclass(frozen=True, eq=False)
class Map:
    """A map and what must be known to read it.

    Attributes:
        title: The method, or the model.
        values: ``(h, w)`` at any resolution, raw.
        claim: What it explains, such as ``for DME, p = 0.93``.
        signed: Whether the method gives negative values (`Method.signed`); colours are then
            centred on zero, as they are wherever there are some.
        clipped: Share of positions whose negative value was cut off by the method's ReLU.
    """

    title: str
    values: np.ndarray
    claim: str = ""
    signed: bool = False
    clipped: float = 0.0

    @property
    def diverging(self) -> bool:
        """Whether its colours are centred on zero."""
        return self.signed or bool((self.values < 0).any())

    @property
    def empty(self) -> str:
        """Why there is nothing to draw, '' if there is something."""
        if not np.isfinite(self.values).all():
            return "holds NaN or infinite values"
        return "" if self.values.any() else "all zero"

    @property
    def warning(self) -> str:
        """What to know before believing it, '' if nothing."""
        if self.clipped < MOSTLY_CLIPPED:
            return ""
        return f"{100 * self.clipped:.0f} % of it was negative and cut off"


@dataclass(frozen=True)
class Bar:
    """The colour bar of a map: its colours run to ±`most` (signed) or from 0 to `most`.

    Attributes:
        most: Magnitude at which the colours end.
        signed: Whether they are centred on zero.
        beyond: Whether some values lie beyond.
    """

    most: float
    signed: bool
    beyond: bool

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Place in [0, 1] and text of every tick."""
        above, below = ("≥", "≤") if self.beyond else ("", "")
        most = compact(self.most)
        top = (1.0, f"{above}{most}")
        if not self.signed:
            return [(0.0, "0"), top]
        return [(0.0, f"{below}−{most}"), (0.5, "0"), top]


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels, with what is drawn on them.

    Attributes:
        title: Upper line above.
        pixels: ``(H, W)`` grey or ``(H, W, 3)``, uint8.
        claim: Lower line above.
        outlines: Lesions to outline.
        box: A window to draw.
        contour: Where this mask (H, W) begins, a line is drawn.
        bar: Colour bar beside it.
        words: Written across it.
    """

    title: str
    pixels: np.ndarray
    claim: str = ""
    outlines: list[Outline] = field(default_factory=list)
    box: Box | None = None
    contour: np.ndarray | None = None
    bar: Bar | None = None
    words: str = ""


@dataclass(frozen=True)
class Bars:
    """Values of the classes as bars.

    Attributes:
        title: Upper line above.
        values: Class → value; those of the largest are shown.
        claim: Lower line above.
        explained: The class in colour.
        limits: Ends of the axis.
        signed: Whether values may be negative: numbers are then written with their sign.
    """

    title: str
    values: Mapping[str, float]
    claim: str = ""
    explained: str = ""
    limits: tuple[float, float] = (0.0, 1.0)
    signed: bool = False

    @property
    def shown(self) -> dict[str, float]:
        """At most `MOST_BARS` classes, in the model's order, the explained one among them."""
        ranked = sorted(self.values, key=lambda name: (name != self.explained, -self.values[name]))
        return {name: v for name, v in self.values.items() if name in ranked[:MOST_BARS]}


@dataclass(frozen=True)
class Words:
    """A cell without a picture, and why.

    Attributes:
        title: Upper line above.
        words: Why.
        claim: Lower line above.
    """

    title: str
    words: str
    claim: str = ""


Cell = Picture | Bars | Words


def compact(value: float) -> str:
    """Write a positive number with two digits, short enough to stand beside a colour bar."""
    if 0.01 <= value < 1000:
        return f"{value:.2g}" if value < 100 else f"{value:.0f}"
    digits, power = f"{value:.1e}".split("e")
    return f"{digits}e{int(power)}"


def scan_picture(scan: Scan, title: str = "scan", claim: str = "") -> Picture:
    """Return a scan as it is, its lesions outlined."""
    return Picture(title, scan.image, claim, scan.outlines)


def map_picture(scan: Scan, seen: Map) -> Picture:
    """Return a map over its scan, with the lesions outlined; pale where there is no map to draw."""
    if seen.empty:
        return Picture(seen.title, faded(scan.image), seen.claim, words=seen.empty)
    signed = seen.diverging
    most, beyond = colour_limit(resize(seen.values.astype(np.float32), scan.image.shape))
    pixels = blended(scan.image, seen.values, signed=signed)
    picture = Picture(seen.title, pixels, seen.claim, scan.outlines, bar=Bar(most, signed, beyond))
    return replace(picture, words=seen.warning) if seen.warning else picture
