"""Lesions in millimetres: where they are, and how they change the layers.

A lesion sits at (x, y) on the retina and is a height over it, so a B-scan that passes beside
its middle cuts less of it. Mounds fill the empty spaces below the retina and lift what is above;
pockets lie inside a layer; swellings widen layers and are in no mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from octoscope.scans.phantom.anatomy import SPACES
from octoscope.scans.phantom.fields import Array, Waves

LESION_VALUES = {
    "intraretinal_cyst": 1,
    "retinal_drusen": 4,
    "subretinal_fluid": 5,
    "subretinal_hyperreflective_material": 6,
    "hard_exudate": 9,
    "pigment_epithelium_detachment": 10,
}
"""Lesion name → value in the mask; names known from the Kermany polygons keep their values."""

SPACE_LESIONS = {
    "FLUID": "subretinal_fluid",
    "MATERIAL": "subretinal_hyperreflective_material",
    "DRUSEN": "retinal_drusen",
    "PED": "pigment_epithelium_detachment",
}
"""Space below the retina → name of the lesion that fills it."""


SMOOTH = Waves(np.empty((0, 2)), np.empty(0), 0.0)
"""No unevenness at all."""


@dataclass(frozen=True)
class Place:
    """A spot on the retina.

    Attributes:
        x: Middle in mm from the fovea, towards the nose.
        y: Middle in mm from the fovea, upwards.
        radius: Half width along x in mm.
        oblong: Half width along y over that along x.
    """

    x: float
    y: float
    radius: float
    oblong: float = 1.0

    @property
    def reach(self) -> float:
        """Half width along y in mm."""
        return self.radius * self.oblong

    def touches(self, low: float, high: float) -> bool:
        """Say whether it reaches into the band low < y < high (mm)."""
        return low - self.reach < self.y < high + self.reach

    def distance2(self, x: Array, y: Array) -> Array:
        """Return the squared distance from the middle ``(..., W)``, 1 at the edge."""
        return ((x - self.x) / self.radius) ** 2 + ((y - self.y) / self.reach) ** 2


@dataclass(frozen=True)
class Mound:
    """A dome in one of the spaces below the retina: height × (1 - r²)^sharpness.

    Attributes:
        space: One of `SPACES`.
        place: Where its base lies.
        height: In mm.
        sharpness: Below 1 a plateau, 1 a dome, 2 and more a peak with soft feet.
    """

    space: str
    place: Place
    height: float
    sharpness: float = 1.0

    def __call__(self, x: Array, y: Array) -> Array:
        """Return the height in mm at x, y, ``(..., W)``."""
        inside = np.clip(1 - self.place.distance2(x, y), 0, None)
        return self.height * inside**self.sharpness

    def lift(self, x: Array, y: Array) -> Array:
        """Return how far (mm) the inner retina follows: hardly over a small mound, and softly."""
        stiffness = min(1.0, (self.place.radius / 0.55) ** 1.5)
        inside = np.clip(1 - self.lifted.distance2(x, y), 0, None)
        return 0.85 * stiffness * self.height * inside**4

    @property
    def lifted(self) -> Place:
        """Where the inner retina is lifted."""
        return replace(self.place, radius=2 * max(self.place.radius, 0.25))


@dataclass(frozen=True)
class Pocket:
    """An ellipsoid inside a layer: a cyst (dark) or an exudate (bright).

    Attributes:
        name: intraretinal_cyst or hard_exudate.
        layer: The layer its middle lies in.
        level: Where in that layer, 0 at its inner boundary, 1 at its outer one.
        place: Where it lies.
        half_height: Half height in mm, where its layer has room for it.
    """

    name: str
    layer: str
    level: float
    place: Place
    half_height: float

    def half(self, x: Array, y: Array, room: Array) -> Array:
        """Return half the height (mm) of the cut at x, y, ``(..., W)``; 0 outside.

        Args:
            x: mm from the fovea, towards the nose.
            y: mm from the fovea, upwards.
            room: Thickness of its layer there, mm; a thin wall is left on either side.
        """
        nearer = np.minimum(self.level, 1 - self.level) if 0 < self.level < 1 else 0.5
        most = np.minimum(self.half_height, 0.9 * nearer * room)
        return most * np.sqrt(np.clip(1 - self.place.distance2(x, y), 0, None))


@dataclass(frozen=True)
class Swelling:
    """Thickening of the neural retina by diffuse fluid, in no mask: height × exp(-r^(2·flat)).

    Attributes:
        place: Where it lies; the radius is that at 1/e of the height.
        height: In mm.
        flat: 1 for a Gaussian, 2 for a plateau.
    """

    place: Place
    height: float
    flat: float = 1.0

    def __call__(self, x: Array, y: Array) -> Array:
        """Return the thickening in mm at x, y, ``(..., W)``."""
        return self.height * np.exp(-(self.place.distance2(x, y) ** self.flat))


@dataclass(frozen=True, eq=False)
class Disease:
    """The lesions of one eye at one time.

    Attributes:
        label: CNV, DME, DRUSEN or NORMAL.
        severity: 0 to 1; 0 for NORMAL.
        mounds: Domes under the retina.
        pockets: Ellipsoids in the retina.
        swellings: Thickenings.
        rough: Unevenness of everything but free fluid, relative to its height.
        disruption: How far the photoreceptor bands are lost over mounds, 0 to 1.
        solid: How bright pigment-epithelium detachments are inside: 0 serous, 1 fibrous.
    """

    label: str
    severity: float
    mounds: Sequence[Mound] = ()
    pockets: Sequence[Pocket] = ()
    swellings: Sequence[Swelling] = ()
    rough: Waves = SMOOTH
    disruption: float = 0.0
    solid: float = 0.0


def diseased_thickness(
    healthy: Mapping[str, Array], disease: Disease, x: Array, y: Array
) -> dict[str, Array]:
    """Return the thickness (mm) of every layer with the lesions in it, ``(..., W)``.

    Swelling widens the inner nuclear, outer plexiform and outer nuclear layer. A mound lifts what
    is above it; the outer nuclear layer gives way, so that small drusen leave the ILM flat.
    """
    t = dict(healthy)
    for swelling in disease.swellings:
        height = swelling(x, y)
        for name, share in (("INL", 0.36), ("OPL", 0.10), ("ONL", 0.54)):
            t[name] = t[name] + share * height
    lifts = {space: np.zeros(np.broadcast_shapes(np.shape(x), np.shape(y))) for space in SPACES}
    uneven = np.clip(disease.rough(x, y), -0.8, 0.8)
    low, high = float(np.min(y)), float(np.max(y))
    for mound in disease.mounds:
        if not mound.lifted.touches(low, high):
            continue
        height = mound(x, y)
        if mound.space != "FLUID":
            # Small mounds are uneven in proportion; a large one is not the rougher for its height.
            height = height + np.minimum(height, 0.08) * uneven
        # Mounds of one kind that overlap merge instead of adding up.
        t[mound.space] = np.maximum(t[mound.space], height)
        lifts[mound.space] = np.maximum(lifts[mound.space], mound.lift(x, y))
    raised = t["DRUSEN"] + t["PED"] + t["MATERIAL"] + t["FLUID"]
    _yield_to(t, sum(lifts.values(), -raised))
    # The photoreceptors over solid lesions are short and the pigment epithelium is stretched.
    t["OS"] = t["OS"] * (0.3 + 0.7 * np.exp(-(raised - t["FLUID"]) / 0.04))
    t["RPE"] = t["RPE"] * (0.65 + 0.35 * np.exp(-(t["DRUSEN"] + t["PED"]) / 0.04))
    return t


def _yield_to(t: dict[str, Array], change: Array) -> None:
    """Widen or narrow the neural retina by `change` (mm), the outer nuclear layer before others.

    No layer loses more than four fifths of itself; what then remains lifts the ILM.
    """
    for names in (("ONL",), ("INL", "OPL", "IPL", "GCL")):
        together = sum(t[name] for name in names)
        room = 0.8 * together
        shrunk = np.where(change > 0, change, room * np.expm1(np.minimum(change, 0) / room))
        for name in names:
            t[name] = t[name] * (1 + shrunk / together)
        change = change - shrunk


def photoreceptor_loss(thickness: Mapping[str, Array], disease: Disease) -> Array:
    """Return how far the bands of the photoreceptors are lost, 0 to 1, ``(..., W)``."""
    solid = thickness["DRUSEN"] + thickness["PED"] + thickness["MATERIAL"]
    return disease.disruption * np.clip(solid / 0.05, 0, 1)
