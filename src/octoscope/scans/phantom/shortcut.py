"""Artefacts planted in the scans of one class, to test whether a model falls for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.scans.phantom.bscan import Acquisition
from octoscope.scans.phantom.diseases import CLASSES
from octoscope.scans.phantom.fields import Array
from octoscope.scans.phantom.optics import DEVICES

Kind = Literal["marker", "border", "size", "device"]

PLANTED_DEVICE = "topcon"
"""The instrument of a device shortcut; no scan without the shortcut is then taken with it."""


@dataclass(frozen=True)
class Shortcut:
    """An artefact tied to a class.

    Attributes:
        kind: "marker", a small bright sign in a corner; "border", a white wedge as registration
            leaves it; "size", a frame with three quarters of the rows; "device", another
            instrument.
        label: The class it is tied to.
        strength: P(artefact | label), met as closely as the number of scans allows.
        elsewhere: P(artefact | any other class).
    """

    kind: Kind
    label: str = "DME"
    strength: float = 1.0
    elsewhere: float = 0.0

    def __post_init__(self) -> None:
        kinds = get_args(Kind)
        if self.kind not in kinds:
            raise OctoscopeError(
                f'shortcut kind "{self.kind}" is unknown{did_you_mean(str(self.kind), kinds)}; '
                f"use one of {', '.join(kinds)}"
            )
        if self.label not in CLASSES:
            raise OctoscopeError(
                f'shortcut label "{self.label}" is not a class of the phantoms'
                f"{did_you_mean(self.label, CLASSES)}; use one of {', '.join(CLASSES)}"
            )
        for name, value in (("strength", self.strength), ("elsewhere", self.elsewhere)):
            if not 0 <= value <= 1:
                raise OctoscopeError(f"shortcut {name} {value} is no probability; use 0 to 1")

    def chosen(self, labels: Array, rng: np.random.Generator) -> Array:
        """Return which scans ``(N,)`` bool get the artefact: the asked share of every class."""
        flags = np.zeros(len(labels), bool)
        for label in sorted(set(labels)):
            rows = np.flatnonzero(labels == label)
            share = self.strength if label == self.label else self.elsewhere
            flags[rng.permutation(rows)[: round(share * len(rows))]] = True
        return flags

    def before(self, how: Acquisition) -> Acquisition:
        """Return the acquisition with the artefact in it (size and device)."""
        if self.kind == "size":
            return replace(how, height=round(0.75 * how.height), crop=0.75)
        if self.kind == "device":
            device = DEVICES[PLANTED_DEVICE]
            noise = float(np.sqrt(np.prod(device.noise)))
            return replace(how, device=device, frames=device.frames[0], noise=noise)
        return how

    def after(self, image: Array, rng: np.random.Generator) -> Array:
        """Return the image ``(H, W)`` uint8 with the artefact drawn on it (marker and border)."""
        if self.kind == "marker":
            return _marker(image, rng)
        if self.kind == "border":
            return _border(image, rng)
        return image


def _marker(image: Array, rng: np.random.Generator) -> Array:
    """Draw a bright letter R of a few pixels in the upper left corner."""
    glyph = np.array(
        [
            [1, 1, 1, 1, 0],
            [1, 0, 0, 0, 1],
            [1, 0, 0, 0, 1],
            [1, 1, 1, 1, 0],
            [1, 0, 1, 0, 0],
            [1, 0, 0, 1, 0],
            [1, 0, 0, 0, 1],
        ],
        np.uint8,
    )
    size = max(1, image.shape[0] // 120)
    drawn = np.kron(glyph, np.ones((size, size), np.uint8))
    row, column = (int(v) for v in size * rng.integers(3, 6, 2))
    image = image.copy()
    part = image[row : row + drawn.shape[0], column : column + drawn.shape[1]]
    part[drawn[: part.shape[0], : part.shape[1]] > 0] = 230
    return image


def _border(image: Array, rng: np.random.Generator) -> Array:
    """Fill a wedge along the lower edge and a strip at one side with white."""
    height, width = image.shape
    row, column = np.arange(height)[:, None], np.arange(width)[None, :]
    low, slope = rng.uniform(0.02, 0.05) * height, rng.uniform(0.02, 0.06) * height
    fall = column / width if rng.uniform() < 0.5 else 1 - column / width
    wedge = row >= height - low - slope * fall
    strip = rng.uniform(0.01, 0.03) * width
    side = column < strip if rng.uniform() < 0.5 else column >= width - strip
    return np.where(wedge | side, np.uint8(255), image)
