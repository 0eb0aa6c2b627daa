"""What lesions a disease makes, at a severity.

With the same seed a higher severity gives the same lesions larger, plus more of them: that is
what a later visit of the same patient is. So no draw may depend on the severity.
"""

from __future__ import annotations

import numpy as np

from octoscope.scans.phantom.fields import Array, Waves
from octoscope.scans.phantom.lesions import Disease, Mound, Place, Pocket, Swelling

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")

HALLMARKS = {
    "CNV": ("pigment_epithelium_detachment", "subretinal_hyperreflective_material"),
    "DME": ("intraretinal_cyst",),
    "DRUSEN": ("retinal_drusen",),
}
"""Class → lesions of which at least one makes a B-scan one of that class."""


def grow(label: str, severity: float, rng: np.random.Generator) -> Disease:
    """Draw the lesions of a disease.

    Args:
        label: One of `CLASSES`.
        severity: 0 to 1; sizes and numbers rise with it.
        rng: Decides everything else.
    """
    if label == "NORMAL":
        return Disease("NORMAL", 0.0)
    return {"CNV": cnv, "DME": dme, "DRUSEN": drusen}[label](severity, rng)


def scattered(
    rng: np.random.Generator, count: int, middle: Array, sigma: float, gap: float
) -> Array:
    """Draw up to `count` points (mm) around `middle` that keep `gap` from each other ``(N, 2)``."""
    points = np.empty((0, 2))
    for point in rng.normal(middle, sigma, (count * 6, 2)):
        if len(points) < count and np.all(np.hypot(*(points - point).T) > gap):
            points = np.vstack([points, point])
    return points


def _at(point: Array, radius: float, oblong: float = 1.0) -> Place:
    """Return the place around a point (mm)."""
    return Place(float(point[0]), float(point[1]), float(radius), float(oblong))


def drusen(severity: float, rng: np.random.Generator) -> Disease:
    """Return soft drusen: many mounds under the pigment epithelium around the fovea."""
    points = scattered(rng, 90, np.zeros(2), 1.0, 0.15)
    size = rng.gamma(5.0, 1 / 5, len(points)) * rng.uniform(0.8, 1.3)
    oblong = rng.uniform(0.8, 1.3, len(points))
    sharpness = rng.uniform(0.6, 1.4, len(points))
    grown = 0.5 + 0.5 * severity
    wide = 0.17 * np.sqrt(size) * (0.6 + 0.4 * severity)
    high = np.clip(np.minimum(0.070 * size * grown, 0.7 * wide), 0.012, 0.13)
    mounds = [
        Mound("DRUSEN", _at(point, radius=r, oblong=o), height=h, sharpness=k)
        for point, r, o, h, k in zip(points, wide, oblong, high, sharpness, strict=True)
    ]
    return Disease(
        "DRUSEN",
        severity,
        mounds[: _some(mounds, severity)],
        rough=Waves.draw(rng, 0.16, (0.10, 0.5), count=16),
        disruption=0.65,
    )


def dme(severity: float, rng: np.random.Generator) -> Disease:
    """Return macular oedema: clusters of cysts in a swollen retina, exudates, at times fluid."""
    grown = 0.35 + 0.65 * severity
    swellings, cysts = [], []
    for k in range(3):
        middle = rng.normal(0, 0.35 if k == 0 else 0.9, 2)
        broad, high = rng.uniform(0.6, 1.1), rng.uniform(0.13, 0.34) * (1.0 if k == 0 else 0.6)
        swellings.append(Swelling(_at(middle, broad), high * grown))
        outer = scattered(rng, 70, middle, 0.42, 0.10)
        inner = scattered(rng, 60, middle, 0.50, 0.10)
        for layer, points, tallest in (("ONL", outer, 2.6), ("INL", inner, 1.4)):
            size = rng.gamma(2.5, 1 / 2.5, len(points))
            tall = rng.uniform(0.6, tallest, len(points))
            level = rng.uniform(0.28, 0.66, len(points))
            cluster = [
                Pocket(
                    "intraretinal_cyst",
                    layer,
                    float(v),
                    _at(point, float(np.clip(0.085 * np.sqrt(s) * grown**0.5, 0.015, 0.16))),
                    half_height=float(np.clip(0.060 * s * t * grown, 0.014, 0.16)),
                )
                for point, s, t, v in zip(points, size, tall, level, strict=True)
            ]
            cysts += cluster[: _some(cluster, severity)]
    large, radius, high = rng.uniform() < 0.45, rng.uniform(0.14, 0.30), rng.uniform(0.15, 0.35)
    middle = rng.normal(0, 0.08, 2)
    if large:
        swellings.append(Swelling(_at(middle, 1.4 * radius + 0.15), high * grown, flat=1.6))
        central = _at(middle, radius * grown)
        cysts.insert(0, Pocket("intraretinal_cyst", "ONL", 0.45, central, 0.6 * high * grown))
    spots = [
        point
        for _ in range(3)
        for point in scattered(rng, 40, rng.normal(0, 0.8, 2), rng.uniform(0.2, 0.5), 0.05)
    ]
    size = rng.gamma(2.0, 1 / 2, len(spots))
    level = rng.uniform(-0.35, 0.6, len(spots))
    exudates = [
        Pocket(
            "hard_exudate",
            "ONL",
            float(v),
            _at(point, float(np.clip(0.034 * s * grown**0.5, 0.014, 0.045))),
            half_height=float(np.clip(0.013 * s * grown**0.5, 0.007, 0.024)),
        )
        for point, s, v in zip(spots, size, level, strict=True)
    ]
    rng.shuffle(exudates)
    hard = exudates[: round(len(exudates) * severity * rng.uniform(0.2, 1.0))]
    wet, radius, high = rng.uniform() < 0.25, rng.uniform(0.5, 1.0), rng.uniform(0.05, 0.14)
    fluid = [Mound("FLUID", _at(middle, radius * grown), high * grown)] if wet else []
    rough = Waves.draw(rng, 0.25, (0.06, 0.3), count=12)
    return Disease("DME", severity, fluid, [*cysts, *hard], swellings, rough)


def cnv(severity: float, rng: np.random.Generator) -> Disease:
    """Return neovascular disease: detached epithelium, material and fluid under the retina."""
    grown = 0.45 + 0.55 * severity
    middle = rng.normal(0, 0.4, 2)

    def mound(
        space: str, off: float, radius: tuple[float, float], height: tuple[float, float]
    ) -> Mound:
        place = _at(
            rng.normal(middle, off),
            radius=rng.uniform(*radius) * grown,
            oblong=rng.uniform(0.8, 1.25),
        )
        return Mound(space, place, rng.uniform(*height) * grown, rng.uniform(0.5, 1.2))

    kind = rng.choice(["under", "over", "both"], p=[0.35, 0.3, 0.35])
    under = [
        mound("PED", 0.15, (0.7, 1.7), (0.07, 0.24)),
        *(mound("PED", 0.8, (0.15, 0.45), (0.03, 0.09)) for _ in range(4)),
    ]
    over = [
        mound("MATERIAL", 0.15, (0.6, 1.5), (0.08, 0.22)),
        *(mound("MATERIAL", 0.6, (0.2, 0.5), (0.03, 0.08)) for _ in range(2)),
    ]
    fluid = [mound("FLUID", 0.3, (0.7, 1.6), (0.06, 0.18))]
    wet = rng.uniform() < 0.65
    mounds = [
        *(under if kind != "over" else []),
        *(over if kind != "under" else []),
        *(fluid if wet else []),
    ]
    points = scattered(rng, 30, middle, 0.5, 0.13)
    size = rng.gamma(4.0, 1 / 4, len(points))
    leaky = rng.choice([0.0, 0.5, 1.0])
    cysts = [
        Pocket(
            "intraretinal_cyst",
            "ONL" if s > 0.9 else "INL",
            0.45,
            _at(point, float(np.clip(0.06 * s, 0.02, 0.10))),
            half_height=float(np.clip(0.04 * s * grown, 0.012, 0.08)),
        )
        for point, s in zip(points, size, strict=True)
    ]
    return Disease(
        "CNV",
        severity,
        mounds,
        cysts[: round(len(cysts) * severity * leaky)],
        [Swelling(_at(middle, rng.uniform(0.8, 1.4)), grown * rng.uniform(0, 0.08))],
        rough=Waves.draw(rng, 0.15, (0.16, 0.9), count=16),
        disruption=0.9,
        solid=float(rng.uniform(0.5, 1.0) * (rng.uniform() < 0.7)),
    )


def _some(lesions: list[Mound] | list[Pocket], severity: float) -> int:
    """Return how many of the possible lesions there are at a severity."""
    return round(len(lesions) * (0.2 + 0.8 * severity))
