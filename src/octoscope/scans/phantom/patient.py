"""Patients: an eye with its anatomy, vessels and tissue texture, a disease, an instrument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from octoscope.scans.phantom.anatomy import LAYERS, SPACES, Anatomy
from octoscope.scans.phantom.diseases import grow
from octoscope.scans.phantom.fields import Texture, Waves
from octoscope.scans.phantom.lesions import Disease
from octoscope.scans.phantom.optics import DEVICES, Device
from octoscope.scans.phantom.vessels import Vessels


@dataclass(frozen=True, eq=False)
class Eye:
    """One eye of a patient as it is at one visit; what changes between visits is `disease`.

    Attributes:
        patient: Patient id.
        laterality: OD or OS.
        anatomy: Layers and shape.
        vessels: Retinal vessels.
        disease: Lesions.
        gain: Layer → factor on its backscattered power.
        mottle: Fine texture of the retina.
        granules: Texture of the inner choroid.
        lumens: Vessels of the outer choroid, dark where positive.
        lumen_contrast: How dark those are, 0 to 1.
        lumen_share: From which value on, low for many and large vessels.
        streaks: Uneven transmission of the pigment epithelium.
        pigment: Attenuation below Bruch's membrane, 1/mm.
        illumination: Natural logarithm of the light that gets through the front of the eye.
        glint: Power of the mirror reflex of the inner limiting membrane, where positive.
        hyaloid: Depth of the detached vitreous above the retina in mm, or None.
        hyaloid_shape: Its waviness, mm.
        hyaloid_power: Power of its back surface.
        haze: Power backscattered by the vitreous.
        fixation: Where the patient looks, mm off the fovea.
        device: The instrument of the practice.
    """

    patient: str
    laterality: str
    anatomy: Anatomy
    vessels: Vessels
    disease: Disease
    gain: Mapping[str, float]
    mottle: Texture
    granules: Texture
    lumens: Texture
    lumen_contrast: float
    lumen_share: float
    streaks: Waves
    pigment: float
    illumination: Waves
    glint: Waves
    hyaloid: float | None
    hyaloid_shape: Waves
    hyaloid_power: float
    haze: float
    fixation: tuple[float, float]
    device: Device

    @property
    def nasal(self) -> float:
        """+1 where the nose is on the right of the picture (OD), -1 for OS."""
        return 1.0 if self.laterality == "OD" else -1.0


def draw_eye(
    patient: str,
    label: str,
    severity: float,
    seed: int,
    *,
    laterality: str | None = None,
    device: str | None = None,
) -> Eye:
    """Draw a patient's eye.

    Args:
        patient: Patient id, only a name.
        label: CNV, DME, DRUSEN or NORMAL.
        severity: 0 to 1. The same seed at another severity is the same eye at another time.
        seed: Decides everything else.
        laterality: OD or OS; drawn if None.
        device: Name of a device in `DEVICES`; drawn if None, mostly spectralis.
    """
    anatomy_rng, lesion_rng, rng = np.random.default_rng(seed).spawn(3)
    names = list(DEVICES)
    drawn_device = str(rng.choice(names, p=[0.6, 0.2, 0.2]))
    drawn_side = str(rng.choice(["OD", "OS"]))
    detached = rng.uniform() < 0.35
    height = rng.uniform(0.12, 0.5)
    return Eye(
        patient=patient,
        laterality=laterality or drawn_side,
        anatomy=Anatomy.draw(anatomy_rng),
        vessels=Vessels.draw(anatomy_rng),
        disease=grow(label, severity, lesion_rng),
        gain={name: float(np.exp(rng.normal(0, 0.18))) for name in LAYERS if name not in SPACES},
        mottle=Texture.draw(rng, (0.004, 0.008, 0.02), (0.004, 0.009, 0.02), (96, 256, 12)),
        granules=Texture.draw(rng, (0.008, 0.014, 0.014), (0.012, 0.026, 0.026), (32, 192, 24)),
        lumens=Texture.draw(rng, (0.014, 0.028, 0.028), (0.028, 0.065, 0.080), (40, 192, 24)),
        lumen_contrast=float(rng.uniform(0.4, 0.95)),
        lumen_share=float(rng.uniform(-0.1, 0.9)),
        streaks=Waves.draw(rng, rng.uniform(0.2, 0.5), (0.06, 0.6), count=24),
        pigment=float(np.exp(rng.normal(np.log(17.0), 0.35))),
        illumination=Waves.draw(rng, 0.22, (1.0, 6.0)),
        glint=Waves.draw(rng, rng.uniform(0, 0.12), (0.15, 0.9), count=12),
        hyaloid=float(height) if detached else None,
        hyaloid_shape=Waves.draw(rng, 0.05, (2.5, 7.0)),
        hyaloid_power=float(rng.uniform(1e-4, 1.2e-3)),
        haze=float(2e-4 * max(rng.uniform(-2, 1), 0)),
        fixation=(float(rng.normal(0, 0.25)), float(rng.normal(0, 0.1))),
        device=DEVICES[device or drawn_device],
    )
