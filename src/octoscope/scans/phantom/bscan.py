"""One B-scan of a phantom eye: image, exact lesion mask and true surfaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from octoscope.scans.phantom.anatomy import (
    LAYERS,
    SPACES,
    SURFACES,
    bruch_depth,
    choroid_thickness,
    healthy_thickness,
    stack,
)
from octoscope.scans.phantom.fields import Array
from octoscope.scans.phantom.lesions import LESION_VALUES, diseased_thickness
from octoscope.scans.phantom.optics import Device, expose
from octoscope.scans.phantom.patient import Eye
from octoscope.scans.phantom.tissue import SAMPLES, between, layer_coordinate, power_table


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
        tilt=float(rng.normal(0, 0.045)),
        placing=float(rng.uniform(0.15, 0.75)),
        field=float(rng.choice(device.widths)),
        frames=int(rng.integers(device.frames[0], device.frames[1] + 1)),
        seed=int(rng.integers(2**62)),
    )


def render(eye: Eye, how: Acquisition) -> PhantomBScan:
    """Render one B-scan.

    Args:
        eye: The eye.
        how: Position, frame and noise seed.
    """
    device = how.device or eye.device
    room = device.depth * how.crop
    spacing = (room / how.height, how.field / how.width)
    across = (np.arange(how.width) + 0.5) * spacing[1] - how.field / 2
    x = eye.nasal * (across + how.centre)
    y = np.full_like(x, how.y)
    thickness = diseased_thickness(healthy_thickness(eye.anatomy, x, y), eye.disease, x, y)
    depth = stack(thickness, bruch_depth(eye.anatomy, x, y) + how.tilt * across)
    offset = _placed(depth, how.placing, room)
    depth = {name: d + offset for name, d in depth.items()}
    z = ((np.arange(how.height) + 0.5) * spacing[0])[:, None]

    power, mask = _backscatter(eye, how, depth, thickness, x, y, z, spacing[0])
    rng = np.random.default_rng(how.seed)
    decay = np.exp(-np.maximum(z - 0.35 * device.depth, 0) / device.noise_decay)
    decay = (decay * np.ones(how.width)).astype(np.float32)
    image = expose(power * decay, device.noise * decay, device, how.frames, spacing, rng)
    rows = {name: depth[layer] / spacing[0] - 0.5 for name, layer in SURFACES.items()}
    rows["BM"] = depth["BM"] / spacing[0] - 0.5
    return PhantomBScan(
        image=image,
        mask=mask,
        surfaces=rows,
        label=eye.disease.label,
        severity=eye.disease.severity,
        spacing=spacing,
        patient=eye.patient,
        laterality=eye.laterality,
        device=device.name,
        y=how.y,
    )


def visible_area(eye: Eye, how: Acquisition, columns: int = 128) -> float:
    """Return the area in mm² of lesions in the cut that `how` would take, quickly."""
    across = (np.arange(columns) + 0.5) * how.field / columns - how.field / 2
    x = eye.nasal * (across + how.centre)
    y = np.full_like(x, how.y)
    healthy = {name: np.full_like(x, 0.05) for name in LAYERS} | {
        name: np.zeros_like(x) for name in SPACES
    }
    thickness = diseased_thickness(healthy, eye.disease, x, y)
    height = sum(thickness[name] for name in SPACES)
    height = height + sum(2 * pocket.half(x, y) for pocket in eye.disease.pockets)
    return float(np.sum(height) * how.field / columns)


def _placed(depth: dict[str, Array], placing: float, room: float) -> float:
    """Return the shift (mm) that puts the retina into the frame with the choroid below it."""
    high = 0.06 * room - depth["RNFL"].min()
    low = 0.86 * room - depth["BM"].max()
    return high + placing * max(low - high, 0.0)


def _backscatter(
    eye: Eye,
    how: Acquisition,
    depth: dict[str, Array],
    thickness: dict[str, Array],
    x: Array,
    y: Array,
    z: Array,
    step: float,
) -> tuple[Array, Array]:
    """Return mean power ``(H, W)`` and mask ``(H, W)`` of the cut."""
    u = layer_coordinate(z, depth)
    gain = np.repeat([eye.gain.get(name, 1.0) for name in LAYERS], SAMPLES)
    table = power_table()[:-SAMPLES].copy()
    table[SAMPLES:] *= gain
    table = np.concatenate([table[SAMPLES - 1 : SAMPLES], table[SAMPLES:]]).astype(np.float32)
    power = table[np.ceil(u * SAMPLES).astype(np.int32)]
    power = gaussian_filter1d(power, 0.45, axis=0, truncate=3)

    relative = z - depth["BM"]
    power *= np.exp(0.30 * eye.mottle(relative, x, y))
    thin = 0.35 + 0.65 * (1 - np.exp(-thickness["RNFL"] / 0.016))
    power = np.where(u < 1, power * thin.astype(np.float32), power)
    below = relative > 0
    power = np.where(below, _choroid(eye, relative, x, y), power)
    extinction = np.zeros_like(power)
    mask = np.zeros(power.shape, np.uint8)

    for name, layer in (
        ("subretinal_fluid", "FLUID"),
        ("subretinal_hyperreflective_material", "MATERIAL"),
        ("retinal_drusen", "DRUSEN"),
        ("pigment_epithelium_detachment", "PED"),
    ):
        if thickness[layer].max() > 0:
            i = LAYERS.index(layer)
            inside = (u > i) & (u < i + 1)
            mask[inside] = LESION_VALUES[name]
    for pocket in eye.disease.pockets:
        half = pocket.half(x, y)
        columns = np.flatnonzero(half > 0)
        if not len(columns):
            continue
        c = slice(columns[0], columns[-1] + 1)
        i = LAYERS.index(pocket.layer)
        nxt = LAYERS[i + 1]
        middle = depth[pocket.layer] + pocket.level * (depth[nxt] - depth[pocket.layer])
        top = np.maximum(middle - half, depth["RNFL"] + 0.02)[c]
        bottom = np.minimum(middle + half, depth["MYOID"] - 0.004)[c]
        rows = slice(max(int(top.min() / step) - 1, 0), max(int(bottom.max() / step) + 2, 0))
        share = between(z[rows], top, bottom, step).astype(np.float32)
        cyst = pocket.name == "intraretinal_cyst"
        value = (8 / 255) ** 4 if cyst else (215 / 255) ** 4
        power[rows, c] += share * (np.float32(value) - power[rows, c])
        if not cyst:
            extinction[rows, c] += share * 22.0
        mask[rows, c] = np.where(share > 0.5, LESION_VALUES[pocket.name], mask[rows, c])

    chord = eye.vessels.chord(x, y)
    for k in np.flatnonzero(chord.max(axis=-1) > 0):
        columns = np.flatnonzero(chord[k] > 0)
        c = slice(columns[0], columns[-1] + 1)
        top = depth["RNFL"][c] + 0.008
        share = between(z, top, top + chord[k][c], step).astype(np.float32)
        power[:, c] += share * (np.float32(0.18) - power[:, c]) * 0.6
        extinction[:, c] += share * 11.0
    passed = np.exp(-2 * step * np.cumsum(extinction, axis=0, dtype=np.float32))
    return power * passed, mask


def _choroid(eye: Eye, relative: Array, x: Array, y: Array) -> Array:
    """Return the power below Bruch's membrane ``(H, W)``."""
    d = np.maximum(relative, 0)
    thick = choroid_thickness(eye.anatomy, x, y)
    inner = (88 / 255) ** 4 * np.exp(0.45 * eye.granules(d, x, y))
    outer = 1 - 0.85 / (1 + np.exp(-4 * (eye.lumens(d, x, y) - 0.2)))
    blend = np.clip((d - 0.03) / 0.06, 0, 1) * np.clip((thick - d) / 0.04, 0, 1)
    fade = np.exp(-eye.pigment * d) * np.exp(np.clip(d / 0.1, 0, 1) * eye.streaks(x, y))
    return inner * (1 - blend * (1 - outer)) * fade
