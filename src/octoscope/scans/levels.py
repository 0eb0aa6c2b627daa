"""Grey levels: one rule per data set for which values become black and white.

Files of 8 bits are taken as they are. Others do not say what white is: a camera of 12 bits writes
16, a program writes fractions that end at 1 or a little above. Taking it from each scan alone
would make one scan sixteen times darker than the next for one bright pixel, so it is taken from
all scans of a table at once, and travels with the model that was trained on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from octoscope.errors import OctoscopeError

Kind = Literal["8 bits", "whole", "fractions"]
Range = tuple[float, float]

ROBUST = (0.1, 99.9)
"""Percentiles of a scan that stand for its darkest and brightest value: dead and hot pixels, and
letters in a corner, lie outside."""
TOLERANCE = 0.1
"""How far above white a scan may reach, as a part of white: resampling overshoots."""
BELOW = 0.05
"""How far below black it may reach, as a part of its brightest value: decibels reach further."""
SPARED = 0.02
"""Part of the scans, at either end, that have no say in what the range of a table is."""
DEPTHS = (8, 10, 12, 14, 16)
DEPTHS_OF_ONE = (8, 12, 16)
"""Of a scan on its own: a dark one of 12 bits should not pass for a bright one of 10."""
SHOWS = 0.25
"""Part of a range that must be used for it to be the one that was meant."""


@dataclass(frozen=True)
class Levels:
    """Which values become black and which white; what lies beyond is cut off.

    Attributes:
        whole: Black and white of whole numbers of more than 8 bits; None where no scan had such.
        fractions: Black and white of numbers stored as fractions; None alike.
        scans: How many scans the rule was found over; 0 where it was given.
    """

    whole: tuple[float, float] | None = None
    fractions: tuple[float, float] | None = None
    scans: int = 0

    def __post_init__(self) -> None:
        for name in ("whole", "fractions"):
            value = getattr(self, name)
            if value is None:
                continue
            if (
                not isinstance(value, tuple | list)
                or len(value) != 2
                or not all(isinstance(v, int | float) and np.isfinite(v) for v in value)
                or value[0] >= value[1]
            ):
                raise OctoscopeError(
                    f"levels: {name} must be two numbers, black and then the greater white, "
                    f"not {value!r}"
                )
            object.__setattr__(self, name, (float(value[0]), float(value[1])))

    def of(self, dtype: np.dtype) -> Range | None:
        """Return the range of numbers of this type, or None if the rule knows none."""
        return self.fractions if dtype.kind == "f" else self.whole

    def describe(self) -> str:
        """Return the rule as a sentence, '' where all files have 8 bits."""
        parts = []
        if self.whole is not None:
            parts.append(f"{_span(self.whole)} of files with more than 8 bits")
        if self.fractions is not None:
            parts.append(f"{_span(self.fractions)} of files with fractions")
        if not parts:
            return ""
        origin = f"found over {self.scans:,} scans" if self.scans else "as given"
        return f"Grey levels {' and '.join(parts)} become 0…255 ({origin}, the same for all)."


def _span(limits: Range) -> str:
    """Return ``0…4095 (12 bits)`` or ``-0.5…1.25``."""
    black, white = limits
    bits = next((f" ({b} bits)" for b in DEPTHS if limits == (0, 2**b - 1)), "")
    return f"{black:g}…{white:g}{bits}" if white < 1e5 else f"{black:.4g}…{white:.4g}{bits}"


@dataclass(frozen=True)
class GreyRange:
    """What one scan says about the range of its data set.

    Attributes:
        kind: How its numbers are stored.
        low: Its robust darkest value.
        high: Its robust brightest value.
        integral: Whether all of its values are whole numbers.
        depth: Bits that its file says they use, or None.
    """

    kind: Kind
    low: float = 0.0
    high: float = 255.0
    integral: bool = True
    depth: int | None = None

    @classmethod
    def of(cls, grey: np.ndarray, depth: int | None = None) -> GreyRange | None:
        """Measure a grey array of any shape; None if no value is finite."""
        if grey.dtype.itemsize == 1 and grey.dtype.kind in "ub":
            return cls("8 bits")
        values = grey[np.isfinite(grey)] if grey.dtype.kind == "f" else grey.ravel()
        if not values.size:
            return None
        low, high = np.percentile(values, ROBUST, method="nearest").tolist()
        fractions = grey.dtype.kind == "f"
        integral = not fractions or bool((values == np.rint(values)).all())
        return cls("fractions" if fractions else "whole", low, high, integral, depth)


def find_range(scans: Sequence[GreyRange]) -> Range:
    """Return what is black and white in scans of one kind.

    Neither their order nor a single one of three or more decides.

    Args:
        scans: At least one, all ``whole`` or all ``fractions``.
    """
    alone = len(scans) == 1
    spared = 0 if len(scans) < 3 else max(1, int(SPARED * len(scans)))
    low = sorted(scan.low for scan in scans)[spared]
    high = sorted(scan.high for scan in scans)[-1 - spared]
    if scans[0].kind == "fractions":
        if low >= -TOLERANCE and high <= 1 + TOLERANCE and (high >= SHOWS or alone):
            return 0, 1
        if -1 - TOLERANCE <= low < -SHOWS and high <= 1 + TOLERANCE:
            return -1, 1
    integral = sum(scan.integral for scan in scans) > len(scans) - spared - 1
    if integral and low >= -BELOW * max(high, 0):
        declared = sorted(scan.depth or 8 for scan in scans)[-1 - spared]
        for bits in sorted({*(DEPTHS_OF_ONE if alone else DEPTHS), declared}):
            if bits >= declared and high <= (1 + TOLERANCE) * (2**bits - 1):
                return 0, 2**bits - 1
    if 255 * SHOWS <= high <= 255 * (1 + TOLERANCE) and low >= -BELOW * high:
        return 0, 255
    return low, high if high > low else low + 1


def find_levels_of(scans: Sequence[GreyRange], given: Levels | None = None) -> Levels | None:
    """Return the rule of a table from what its scans say; None where all have 8 bits.

    Args:
        scans: Those that could be read.
        given: A rule that stands; only what it does not know is found.
    """
    known = given or Levels()
    found: dict[Kind, Range | None] = {"whole": known.whole, "fractions": known.fractions}
    for kind, stands in list(found.items()):
        own = [scan for scan in scans if scan.kind == kind]
        if stands is None and own:
            found[kind] = find_range(own)
    if (found["whole"], found["fractions"]) == (known.whole, known.fractions):
        return given
    deep = sum(scan.kind != "8 bits" for scan in scans)
    return Levels(found["whole"], found["fractions"], deep)


def to_uint8(
    array: np.ndarray, levels: Levels | None = None, *, depth: int | None = None
) -> np.ndarray:
    """Return an array of any shape and number type as uint8, 0 black and 255 white.

    uint8 passes; bool becomes 0 and 255. Other numbers are scaled by `levels`, linearly, and cut
    off at black and white. Where `levels` is silent, the range is that of the array alone, which
    is right for one picture and wrong for comparing several:

    - whole numbers: the full range of 8, 12 or 16 bits, the least that holds 99.9 % of them;
    - fractions: [0, 1], [-1, 1] or [0, 255], if 99.9 % lie within (or up to a tenth beyond);
    - anything else: its 0.1th percentile becomes 0 and its 99.9th 255.

    NaN and infinities become 0.

    Args:
        array: The values.
        levels: The rule of the data set.
        depth: Bits that the file says its values use, where `levels` is silent.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    limits = levels.of(array.dtype) if levels else None
    if limits is None:
        own = GreyRange.of(array, depth)
        limits = (0, 1) if own is None else find_range([own])
    black, white = limits
    values = array.astype(np.float64)
    finite = np.isfinite(values)
    scaled = (np.where(finite, values, black).clip(black, white) - black) * (255 / (white - black))
    return np.rint(scaled).astype(np.uint8)


def levels_from(values: Any) -> Levels | None:
    """Return the rule that plain values describe, as `dataclasses.asdict` writes it.

    Raises:
        OctoscopeError: If they describe none.
    """
    if values is None or isinstance(values, Levels):
        return values
    try:
        return Levels(**values)
    except (TypeError, AttributeError):
        raise OctoscopeError(
            f"levels: {values!r} is no rule; give whole and fractions, each black and white"
        ) from None
