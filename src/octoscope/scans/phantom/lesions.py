"""Lesions in millimetres: where they are, how they change the layers, and their exact extent.

A lesion sits at (x, y) on the retina and is a height over it, so a B-scan that passes beside
its middle cuts less of it. `grow` draws the lesions of a disease at a severity; with the same
seed a higher severity gives the same lesions larger, plus more of them, which is what a later
visit of the same patient is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

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

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")


@dataclass(frozen=True)
class Mound:
    """A dome of `layer` (one of the empty spaces): height × (1 - r²)^sharpness within its base.

    Attributes:
        layer: DRUSEN, PED, FLUID or MATERIAL.
        x: Middle in mm from the fovea, towards the nose.
        y: Middle in mm from the fovea, upwards.
        radius: Half width of the base in mm.
        height: In mm.
        sharpness: 1 for a dome, 2 and more for a peak with soft feet.
        oblong: Half width along y over that along x.
    """

    layer: str
    x: float
    y: float
    radius: float
    height: float
    sharpness: float = 1.0
    oblong: float = 1.0

    def __call__(self, x: Array, y: Array) -> Array:
        """Return the height in mm at x, y, ``(..., W)``."""
        return self.height * np.clip(1 - self.distance2(x, y), 0, None) ** self.sharpness

    def distance2(self, x: Array, y: Array) -> Array:
        """Return the squared distance from the middle, 1 at the edge of the base."""
        return ((x - self.x) / self.radius) ** 2 + ((y - self.y) / (self.radius * self.oblong)) ** 2


@dataclass(frozen=True)
class Pocket:
    """An ellipsoid inside the retina: a cyst (dark) or an exudate (bright).

    Attributes:
        name: intraretinal_cyst or hard_exudate.
        layer: The layer its middle lies in.
        level: Where in that layer, 0 at its inner boundary, 1 at its outer one.
        x: Middle in mm from the fovea, towards the nose.
        y: Middle in mm from the fovea, upwards.
        radius: Half width along x and y in mm.
        half_height: Half height in mm.
    """

    name: str
    layer: str
    level: float
    x: float
    y: float
    radius: float
    half_height: float

    def half(self, x: Array, y: Array) -> Array:
        """Return half the height in mm of the cut at x, y, ``(..., W)``; 0 outside."""
        r2 = ((x - self.x) / self.radius) ** 2 + ((y - self.y) / self.radius) ** 2
        return self.half_height * np.sqrt(np.clip(1 - r2, 0, None))

    def swelling(self, x: Array, y: Array) -> Array:
        """Return by how much (mm) it pushes its layer apart: the cut, with soft feet."""
        r2 = ((x - self.x) / self.radius) ** 2 + ((y - self.y) / self.radius) ** 2
        return 1.6 * self.half_height * np.exp(-0.8 * r2)


@dataclass(frozen=True)
class Swelling:
    """Thickening of the neural retina by diffuse fluid, a Gaussian over (x, y); not in masks."""

    x: float
    y: float
    radius: float
    height: float

    def __call__(self, x: Array, y: Array) -> Array:
        """Return the thickening in mm at x, y, ``(..., W)``."""
        r2 = ((x - self.x) ** 2 + (y - self.y) ** 2) / self.radius**2
        return self.height * np.exp(-r2)


@dataclass(frozen=True, eq=False)
class Disease:
    """The lesions of one eye at one time.

    Attributes:
        label: CNV, DME, DRUSEN or NORMAL.
        severity: 0 to 1; 0 for NORMAL.
        mounds: Domes under the retina.
        pockets: Ellipsoids in the retina.
        swellings: Thickenings.
        rough: Edge irregularity of the mounds (a relative height), or None.
        disruption: How far the photoreceptor bands are lost over mounds, 0 to 1.
    """

    label: str
    severity: float
    mounds: Sequence[Mound] = ()
    pockets: Sequence[Pocket] = ()
    swellings: Sequence[Swelling] = ()
    rough: Waves | None = None
    disruption: float = 0.0
    solid_ped: float = 0.0
    extra: Mapping[str, float] = field(default_factory=dict)


def grow(label: str, severity: float, rng: np.random.Generator) -> Disease:
    """Draw the lesions of a disease.

    Args:
        label: One of `CLASSES`.
        severity: 0 (nothing) to 1; sizes and numbers rise with it.
        rng: Its state decides everything else; draws do not depend on `severity`.

    Returns:
        The disease.
    """
    return {"CNV": _cnv, "DME": _dme, "DRUSEN": _drusen, "NORMAL": _normal}[label](severity, rng)


def _normal(severity: float, rng: np.random.Generator) -> Disease:
    return Disease("NORMAL", 0.0)


def _spread(rng: np.random.Generator, count: int, sigma: float, gap: float) -> Array:
    """Draw up to `count` points (mm) around the fovea that keep `gap` from each other ``(N, 2)``."""
    points: list[Array] = []
    for point in rng.normal(0, sigma, (count * 6, 2)):
        if all(np.hypot(*(point - other)) > gap for other in points):
            points.append(point)
        if len(points) == count:
            break
    return np.array(points)


def _drusen(severity: float, rng: np.random.Generator) -> Disease:
    points = _spread(rng, 70, 1.1, 0.14)
    size = rng.gamma(6.0, 1 / 6, len(points))
    oblong = rng.uniform(0.8, 1.3, len(points))
    peak = rng.uniform(0.8, 1.7, len(points))
    large = rng.uniform(0.8, 1.3)
    count = round(len(points) * (0.25 + 0.75 * severity))
    grown = (0.45 + 0.55 * severity) * large
    mounds = [
        Mound(
            "DRUSEN",
            x=float(p[0]),
            y=float(p[1]),
            radius=float(0.15 * s * (0.7 + 0.3 * grown)),
            height=float(0.075 * s * grown),
            sharpness=float(k),
            oblong=float(o),
        )
        for p, s, o, k in zip(points[:count], size, oblong, peak, strict=False)
    ]
    return Disease("DRUSEN", severity, mounds, disruption=0.35)


def _dme(severity: float, rng: np.random.Generator) -> Disease:
    middle = rng.normal(0, 0.45, 2)
    grown = 0.4 + 0.6 * severity
    swellings = [
        Swelling(middle[0], middle[1], rng.uniform(0.7, 1.3), grown * rng.uniform(0.08, 0.20)),
        *(
            Swelling(*rng.normal(0, 1.0, 2), rng.uniform(0.4, 0.9), grown * rng.uniform(0, 0.10))
            for _ in range(2)
        ),
    ]
    points = _spread(rng, 90, 0.75, 0.17) + middle
    size = rng.gamma(4.0, 1 / 4, len(points))
    outer = rng.uniform(size=len(points)) < 0.55
    tall = rng.uniform(0.8, 1.6, len(points))
    level = rng.uniform(0.3, 0.7, len(points))
    count = round(len(points) * (0.25 + 0.75 * severity))
    cysts = [
        Pocket(
            "intraretinal_cyst",
            "ONL" if o else "INL",
            float(v),
            float(p[0]),
            float(p[1]),
            radius=float(np.clip(0.085 * s * (0.6 + 0.4 * grown), 0.03, 0.16)),
            half_height=float(np.clip(0.055 * s * t * grown * (1.3 if o else 0.7), 0.012, 0.16)),
        )
        for p, s, o, t, v in zip(points[:count], size, outer, tall, level, strict=False)
    ]
    spots = _spread(rng, 60, 0.9, 0.08) + middle + rng.normal(0, 0.5, 2)
    spot_size = rng.gamma(4.0, 1 / 4, len(spots))
    spot_level = rng.uniform(-0.3, 0.7, len(spots))
    spot_count = round(len(spots) * severity * rng.uniform(0.3, 1.0))
    exudates = [
        Pocket(
            "hard_exudate",
            "ONL",
            float(v),
            float(p[0]),
            float(p[1]),
            radius=float(np.clip(0.036 * s * (0.7 + 0.3 * grown), 0.015, 0.09)),
            half_height=float(np.clip(0.018 * s * (0.7 + 0.3 * grown), 0.010, 0.040)),
        )
        for p, s, v in zip(spots[:spot_count], spot_size, spot_level, strict=False)
    ]
    fluid = []
    wet = rng.uniform() < 0.3
    radius, height = rng.uniform(0.4, 1.0), rng.uniform(0.05, 0.14)
    if wet:
        fluid = [Mound("FLUID", middle[0] * 0.5, middle[1] * 0.5, radius * grown, height * grown)]
    return Disease("DME", severity, fluid, [*cysts, *exudates], swellings)


def _cnv(severity: float, rng: np.random.Generator) -> Disease:
    grown = 0.45 + 0.55 * severity
    middle = rng.normal(0, 0.4, 2)
    rough = Waves.draw(rng, 0.22, (0.12, 0.7), count=14)
    kind = rng.choice(["under", "over", "both"], p=[0.35, 0.3, 0.35])
    mounds = []
    ped = Mound(
        "PED",
        *(middle + rng.normal(0, 0.2, 2)),
        radius=rng.uniform(0.5, 1.2) * grown,
        height=rng.uniform(0.10, 0.28) * grown,
        sharpness=rng.uniform(0.5, 1.0),
        oblong=rng.uniform(0.8, 1.2),
    )
    small = [
        Mound(
            "PED",
            *(middle + rng.normal(0, 0.9, 2)),
            radius=rng.uniform(0.15, 0.4) * grown,
            height=rng.uniform(0.04, 0.10) * grown,
        )
        for _ in range(3)
    ]
    material = Mound(
        "MATERIAL",
        *(middle + rng.normal(0, 0.15, 2)),
        radius=rng.uniform(0.4, 1.0) * grown,
        height=rng.uniform(0.09, 0.22) * grown,
        oblong=rng.uniform(0.8, 1.2),
    )
    fluid = Mound(
        "FLUID",
        *(middle + rng.normal(0, 0.35, 2)),
        radius=rng.uniform(0.6, 1.3) * grown,
        height=rng.uniform(0.06, 0.17) * grown,
        oblong=rng.uniform(0.8, 1.2),
    )
    wet = rng.uniform() < 0.7
    if kind in ("under", "both"):
        mounds += [ped, *small]
    if kind in ("over", "both"):
        mounds.append(material)
    if wet:
        mounds.append(fluid)
    points = _spread(rng, 24, 0.5, 0.17) + middle
    size = rng.gamma(4.0, 1 / 4, len(points))
    count = round(len(points) * severity * rng.choice([0.0, 0.5, 1.0]))
    cysts = [
        Pocket(
            "intraretinal_cyst",
            "ONL" if s > 0.9 else "INL",
            0.45,
            float(p[0]),
            float(p[1]),
            radius=float(np.clip(0.07 * s, 0.03, 0.12)),
            half_height=float(np.clip(0.035 * s * grown, 0.012, 0.08)),
        )
        for p, s in zip(points[:count], size, strict=False)
    ]
    swelling = Swelling(middle[0], middle[1], rng.uniform(0.8, 1.4), grown * rng.uniform(0, 0.10))
    solid = float(rng.uniform(0, 1))
    return Disease("CNV", severity, mounds, cysts, [swelling], rough, 0.85, solid)


def diseased_thickness(
    healthy: Mapping[str, Array], disease: Disease, x: Array, y: Array
) -> dict[str, Array]:
    """Return the thickness (mm) of every layer with the lesions in it, ``(..., W)``.

    Swelling widens the inner nuclear, outer plexiform and outer nuclear layer. A mound lifts what
    is above it; the outer nuclear layer gives way first, so small drusen leave the ILM flat.
    """
    t = dict(healthy)
    for swelling in disease.swellings:
        height = swelling(x, y)
        for name, share in (("INL", 0.38), ("OPL", 0.12), ("ONL", 0.50)):
            t[name] = t[name] + share * height
    for pocket in disease.pockets:
        if pocket.name == "intraretinal_cyst":
            t[pocket.layer] = t[pocket.layer] + pocket.swelling(x, y)
    for mound in disease.mounds:
        height = mound(x, y)
        if disease.rough is not None:
            height = height * np.clip(1 + disease.rough(x + 7 * len(mound.layer), y), 0.1, None)
        # Overlapping mounds of one kind merge instead of adding up.
        t[mound.layer] = np.maximum(t[mound.layer], height)
    lifted = t["DRUSEN"] + t["PED"] + t["MATERIAL"] + t["FLUID"]
    t["ONL"] = t["ONL"] - np.minimum(0.75 * lifted, 0.55 * t["ONL"])
    under = t["DRUSEN"] + t["PED"] + t["MATERIAL"]
    flat = np.exp(-under / 0.05)
    t["OS"] = t["OS"] * (0.25 + 0.75 * flat)
    t["RPE"] = t["RPE"] * (0.60 + 0.40 * np.exp(-(t["DRUSEN"] + t["PED"]) / 0.04))
    return t
