"""The healthy retina: thickness of each layer and where Bruch's membrane runs.

Everything is a function of (x, y) in millimetres from the fovea, x towards the nose and y
upwards, on arrays ``(..., W)``: one row for a B-scan, ``(Z, W)`` for a volume. Depth z grows
away from the vitreous. Layers are stacked upwards from Bruch's membrane, so a lesion is a
change of thickness and all surfaces follow.

The thickness profiles follow published normative OCT values of the macula (fovea near 220 µm,
parafovea near 340 µm, 3 mm out near 280 µm; fibres thickest towards the disc).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from octoscope.scans.phantom.fields import Array, Waves

LAYERS = (
    "RNFL",
    "GCL",
    "IPL",
    "INL",
    "OPL",
    "ONL",
    "MYOID",
    "EZ",
    "OS",
    "FLUID",
    "MATERIAL",
    "RPE",
    "DRUSEN",
    "PED",
)
"""From the vitreous to Bruch's membrane. FLUID and MATERIAL are the subretinal space, DRUSEN and
PED the space under the pigment epithelium; all four are empty in a healthy eye."""

SPACES = ("FLUID", "MATERIAL", "DRUSEN", "PED")

SURFACES = {
    "ILM": "RNFL",
    "RNFL/GCL": "GCL",
    "GCL/IPL": "IPL",
    "IPL/INL": "INL",
    "INL/OPL": "OPL",
    "OPL/ONL": "ONL",
    "ELM": "MYOID",
    "EZ": "EZ",
    "EZ/OS": "OS",
    "RPE": "RPE",
    "RPE base": "DRUSEN",
}
"""Name of a surface → the layer whose inner boundary it is; "BM" is the base of them all."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What makes one eye look like itself on every scan.

    Attributes:
        scale: Layer → factor on its normal thickness.
        ripple: Layer → relative thickness variation over the retina.
        pit: Width of the foveal pit relative to the normal one.
        curvature: Bruch's membrane rises by ``curvature * r²`` mm towards the edges (1/mm).
        undulation: Waviness of Bruch's membrane, mm.
        choroid: Choroidal thickness under the fovea, mm.
        choroid_ripple: Relative variation of the choroidal thickness.
        disc: Distance from the fovea to the edge of the optic disc, mm towards the nose.
    """

    scale: Mapping[str, float]
    ripple: Mapping[str, Waves]
    pit: float
    curvature: float
    undulation: Waves
    choroid: float
    choroid_ripple: Waves
    disc: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Anatomy:
        """Draw an eye."""
        healthy = [name for name in LAYERS if name not in SPACES]
        overall = rng.normal(0, 0.04)
        scale = {name: float(np.exp(overall + rng.normal(0, 0.07))) for name in healthy}
        ripple = {name: Waves.draw(rng, 0.035, (0.8, 4.0), count=6) for name in healthy}
        return cls(
            scale=scale,
            ripple=ripple,
            pit=float(np.exp(rng.normal(0, 0.16))),
            curvature=float(rng.gamma(2.0, 0.008) - 0.002),
            undulation=Waves.draw(rng, rng.uniform(0.003, 0.009), (1.0, 4.0), count=6),
            choroid=float(np.clip(rng.normal(0.27, 0.07), 0.12, 0.45)),
            choroid_ripple=Waves.draw(rng, 0.08, (0.7, 3.0), count=8),
            disc=float(rng.uniform(3.4, 4.0)),
        )


def healthy_thickness(eye: Anatomy, x: Array, y: Array) -> dict[str, Array]:
    """Return the thickness in mm ``(..., W)`` of every layer of `LAYERS` at x, y (mm)."""
    x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
    r = np.hypot(x, y) / eye.pit

    def rim(width: float) -> Array:
        """0 in the middle of the pit, 1 outside."""
        return 1 - np.exp(-((r / width) ** 1.6))

    def fall(radius: float, floor: float) -> Array:
        """1 in the middle, down to `floor` in the periphery."""
        return floor + (1 - floor) * np.exp(-((r / radius) ** 2))

    # Fibres run to the disc: thick towards the nose and in the arcs above and below the fovea.
    nasal = 1 / (1 + np.exp(-(x - 2.0) / 0.55))
    arcs = 1 - np.exp(-((y / 1.3) ** 2))
    micrometres = {
        "RNFL": 3 + rim(0.5) * (14 + 45 * nasal + 22 * arcs),
        "GCL": 0.8 + 58 * rim(0.50) * fall(2.2, 0.40),
        "IPL": 0.8 + 44 * rim(0.46) * fall(2.6, 0.66),
        "INL": 1.5 + 41 * rim(0.40) * fall(2.6, 0.76),
        "OPL": 7.0 + 21 * rim(0.34) * fall(3.0, 0.85),
        "ONL": 100 - 36 * rim(0.60) - 12 * rim(2.4),
        "MYOID": 23 - 4 * rim(0.5),
        "EZ": 19 - 1 * rim(0.8),
        "OS": 17 + 10 * np.exp(-((r / 0.22) ** 2)),
        "RPE": 33 + 2 * rim(1.0),
    }
    thickness = {
        name: 1e-3 * t * eye.scale[name] * np.maximum(1 + eye.ripple[name](x, y), 0.3)
        for name, t in micrometres.items()
    }
    # In the disc the layers end and the fibres turn away from the retina.
    disc = disc_cover(eye, x, y)
    thickness = {name: t * (1 - disc) + 5e-4 * disc for name, t in thickness.items()}
    thickness["RNFL"] = thickness["RNFL"] + disc * 0.10
    return thickness | {name: np.zeros(x.shape) for name in SPACES}


def disc_cover(eye: Anatomy, x: Array, y: Array) -> Array:
    """Return how far x, y (mm) lies in the optic disc, 0 outside to 1 inside, ``(..., W)``."""
    radius = 0.85
    distance = np.hypot(x - (eye.disc + radius), y - 0.25)
    return 1 / (1 + np.exp(np.clip((distance - radius) / 0.08, -60, 60)))


def bruch_depth(eye: Anatomy, x: Array, y: Array) -> Array:
    """Return the depth of Bruch's membrane in mm ``(..., W)``, 0 under a smooth fovea."""
    return eye.undulation(x, y) - eye.curvature * (np.square(x) + np.square(y))


def choroid_thickness(eye: Anatomy, x: Array, y: Array) -> Array:
    """Return the thickness of the choroid in mm ``(..., W)``: thinner towards the nose."""
    x, y = np.broadcast_arrays(x, y)
    profile = np.exp(-((x / 6.0) ** 2)) * (1 - 0.30 / (1 + np.exp(-(x - 1.5) / 0.8)))
    return eye.choroid * profile * np.maximum(1 + eye.choroid_ripple(x, y), 0.4)


def stack(thickness: Mapping[str, Array], bruch: Array) -> dict[str, Array]:
    """Return the depth (mm) of the inner boundary of every layer, and of "BM", ``(..., W)``."""
    depth = {"BM": bruch}
    below = bruch
    for name in reversed(LAYERS):
        below = below - thickness[name]
        depth[name] = below
    return depth
