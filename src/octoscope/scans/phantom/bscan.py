"""One B-scan of a phantom eye: image, exact lesion mask and true surfaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from octoscope.scans.phantom.backscatter import backscatter
from octoscope.scans.phantom.cut import Cut, cut_eye, lesion_mask
from octoscope.scans.phantom.fields import Array
from octoscope.scans.phantom.optics import Device, expose
from octoscope.scans.phantom.patient import Eye


@dataclass(frozen=True, eq=False)
class PhantomBScan:
    """A B-scan whose truth is known.

    Attributes:
        image: ``(H, W)`` uint8.
        mask: ``(H, W)`` uint8, values of `LESION_VALUES`, 0 elsewhere.
        surfaces: Name → row of that boundary ``(W,)``, float, 0 at the upper edge of the frame;
            from the vitreous down: ILM, RNFL/GCL, … , RPE, RPE base, BM.
        label: Class.
        severity: 0 to 1.
        spacing: Millimetres per pixel, (axial, lateral).
        patient: Patient id.
        laterality: OD or OS.
        device: Name of the instrument.
        y: Where the retina is cut, mm above the fovea.
    """

    image: Array
    mask: Array
    surfaces: dict[str, Array]
    label: str
    severity: float
    spacing: tuple[float, float]
    patient: str
    laterality: str
    device: str
    y: float


@dataclass(frozen=True)
class Acquisition:
    """How one B-scan is taken.

    Attributes:
        height: Rows.
        width: Columns.
        y: Position of the cut, mm above the fovea.
        centre: Position of the middle column, mm from the fovea towards the right.
        tilt: Slope of the retina in the frame, mm per mm.
        placing: Where in the room left by the retina it lies, 0 high to 1 low.
        field: Lateral field of view, mm.
        frames: Averaged frames.
        noise: Noise power of one frame.
        gain: Factor on the light that comes back (pupil, focus, clear media).
        seed: Of the speckle and noise.
        device: The instrument; None for the eye's own.
        crop: Share of the instrument's depth that the frame shows.
    """

    height: int
    width: int
    y: float
    centre: float
    tilt: float
    placing: float
    field: float
    frames: int
    noise: float
    gain: float
    seed: int
    device: Device | None = None
    crop: float = 1.0


def draw_acquisition(
    eye: Eye, height: int, width: int, seed: int, *, y: float | None = None
) -> Acquisition:
    """Draw how a B-scan of `eye` is taken; `y` (mm) is near the fovea unless given."""
    rng = np.random.default_rng(seed)
    device = eye.device
    drawn_y = eye.fixation[1] + rng.normal(0, 0.45)
    return Acquisition(
        height=height,
        width=width,
        y=float(drawn_y if y is None else y),
        centre=float(eye.fixation[0] + rng.normal(0, 0.15)),
        tilt=float(rng.normal(0, 0.055)),
        placing=float(rng.uniform(0.15, 0.75)),
        field=float(rng.choice(device.widths)),
        frames=int(rng.integers(device.frames[0], device.frames[1] + 1)),
        noise=float(np.exp(rng.uniform(*np.log(device.noise)))),
        gain=float(np.exp(rng.normal(0, 0.5))),
        seed=int(rng.integers(2**62)),
    )


def positions(eye: Eye, how: Acquisition) -> tuple[Array, Array]:
    """Return where the columns lie on the retina: x towards the nose and y, mm ``(W,)``."""
    across = ((np.arange(how.width) + 0.5) / how.width - 0.5) * how.field + how.centre
    return eye.nasal * across, np.full(how.width, how.y)


def render(eye: Eye, how: Acquisition) -> PhantomBScan:
    """Render one B-scan.

    Args:
        eye: The eye.
        how: Position, frame and noise seed.
    """
    device = how.device or eye.device
    room = device.depth * how.crop
    spacing = (room / how.height, how.field / how.width)
    x, y = positions(eye, how)
    cut = cut_eye(eye.anatomy, eye.disease, x, y).shifted(how.tilt * eye.nasal * x)
    cut = cut.shifted(_placing(cut, how.placing, room))
    power = backscatter(eye, cut, how.height, spacing[0])

    z = ((np.arange(how.height) + 0.5) * spacing[0])[:, None]
    beyond = np.maximum(z - device.depth / 3, 0).astype(np.float32)
    power *= np.float32(how.gain) * np.exp(-beyond / device.decay)
    noise = np.broadcast_to(how.noise * np.exp(-beyond / device.noise_decay), power.shape)
    rng = np.random.default_rng(how.seed)
    return PhantomBScan(
        image=expose(power, noise, device, how.frames, spacing, rng),
        mask=lesion_mask(cut, eye.disease, how.height, spacing[0]),
        surfaces={name: depth / spacing[0] - 0.5 for name, depth in cut.surfaces.items()},
        label=eye.disease.label,
        severity=eye.disease.severity,
        spacing=spacing,
        patient=eye.patient,
        laterality=eye.laterality,
        device=device.name,
        y=how.y,
    )


def _placing(cut: Cut, placing: float, room: float) -> float:
    """Return the shift (mm) that puts the retina into the frame with the choroid below it.

    It follows Bruch's membrane, which no lesion moves, unless the retina would leave the frame.
    """
    bruch = cut.depth["BM"]
    high, low = 0.06 * room - (bruch.min() - 0.36), 0.86 * room - bruch.max()
    wanted = high + placing * max(low - high, 0.0)
    return max(wanted, 0.02 * room - cut.depth["RNFL"].min())
