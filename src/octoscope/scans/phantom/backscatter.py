"""Backscattered power of an eye along a B-scan: layers, lesions, vessels, choroid, vitreous."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from octoscope.scans.phantom.anatomy import LAYERS, choroid_thickness, disc_cover
from octoscope.scans.phantom.cut import Cut, pocket_bounds, pockets_within
from octoscope.scans.phantom.fields import Array
from octoscope.scans.phantom.lesions import photoreceptor_loss
from octoscope.scans.phantom.patient import Eye
from octoscope.scans.phantom.tissue import (
    SAMPLES,
    between,
    grey,
    layer_coordinate,
    mottle_table,
    power_table,
)

PHOTORECEPTORS = (LAYERS.index("MYOID"), LAYERS.index("FLUID"))
"""First and one past the last layer whose bands vanish with the photoreceptors."""


def backscatter(eye: Eye, cut: Cut, height: int, step: float) -> Array:
    """Return the mean power ``(H, W)`` of a B-scan, relative to a perfect reflector.

    Single scattering: what a depth sends back is its own power times exp(-2 ∫ extinction dz) of
    all that lies above. The layers' own extinction is in their grey levels already; vessels,
    exudates and solid lesions add to it.

    Args:
        eye: The eye.
        cut: Its geometry over one line, ``(W,)``.
        height: Rows H.
        step: Millimetres per row.
    """
    z = ((np.arange(height, dtype=np.float32) + 0.5) * np.float32(step))[:, None]
    power = np.zeros((height, len(cut.x)), np.float32)
    first, last = row_range(cut.depth["RNFL"].min(), cut.depth["BM"].max(), step)
    power[first:last] = _layers(eye, cut, z[first:last])
    first, _ = row_range(cut.depth["BM"].min(), np.inf, step)
    d = z[first:] - cut.depth["BM"].astype(np.float32)
    power[first:] = np.where(d > 0, _choroid(eye, cut, d), power[first:])
    extinction = np.zeros_like(power)
    _paint_solid(cut, z, step, extinction)
    _paint_pockets(eye, cut, z, step, power, extinction)
    _paint_vessels(eye, cut, z, step, power, extinction)
    power = gaussian_filter1d(power, 0.0022 / step, axis=0, truncate=3)
    power *= np.exp(-2 * step * np.cumsum(extinction, axis=0, dtype=np.float32))
    power *= np.exp(eye.illumination(cut.x, cut.y)).astype(np.float32)
    return power + _vitreous(eye, cut, z, step)


def row_range(top: float, bottom: float, step: float) -> tuple[int, int | None]:
    """Return the first and one past the last row that depths (mm) between top and bottom touch."""
    last = None if np.isinf(bottom) else max(int(bottom / step) + 2, 0)
    return max(int(top / step) - 1, 0), last


def _layers(eye: Eye, cut: Cut, z: Array) -> Array:
    """Return the power of the retina ``(H, W)``; 0 in the vitreous, undefined below Bruch's."""
    u = layer_coordinate(z, cut.depth)
    index = np.ceil(u * SAMPLES).astype(np.int32)
    gain = dict(eye.gain)
    # A detachment is dark where it holds serum and grey where tissue has grown into it.
    gain["PED"] = float(grey(18 + 100 * eye.disease.solid) / grey(60))
    gains = np.repeat(
        [1.0, *(gain.get(name, 1.0) for name in LAYERS)], [1, *[SAMPLES] * len(LAYERS)]
    )
    power = (power_table() * gains.astype(np.float32))[index]
    relative = z - cut.depth["BM"].astype(np.float32)
    power *= np.exp(mottle_table()[index] * eye.mottle(relative, cut.x, cut.y))
    # A thin fibre layer fills its resolution cell only in part.
    thin = 0.35 + 0.65 * (1 - np.exp(-cut.thickness["RNFL"] / 0.016))
    power = np.where(u < 1, power * thin.astype(np.float32), power)
    loss = photoreceptor_loss(cut.thickness, eye.disease)
    if loss.any():
        bands = (u > PHOTORECEPTORS[0]) & (u < PHOTORECEPTORS[1])
        power += bands * loss.astype(np.float32) * (grey(72) - power)
    return power


def _choroid(eye: Eye, cut: Cut, d: Array) -> Array:
    """Return the power at depth d (mm) below Bruch's membrane ``(H, W)``.

    Dim choriocapillaris, then bright granules of the inner choroid, then the dark lumens of the
    large vessels; all fading with depth, in stripes where the pigment lets more light through.
    """
    d = np.maximum(d, 0)
    x, y = cut.x, cut.y
    thick = choroid_thickness(eye.anatomy, x, y).astype(np.float32)
    rise = 0.55 + 0.45 * np.clip((d - 0.012) / 0.025, 0, 1) + 0.9 * np.exp(-d / 0.008)
    grain = 0.25 + 0.45 * np.exp(-d / 0.06)
    inner = grey(85) * rise * np.exp(grain * eye.granules(d, x, y))
    lumen = 1 / (1 + np.exp(-6 * (eye.lumens(d, x, y) - np.float32(eye.lumen_share))))
    large = np.clip((d - 0.03) / 0.06, 0, 1) * np.clip((thick - d) / 0.04, 0, 1)
    stripes = eye.streaks(x, y).astype(np.float32) * np.clip(d / 0.12, 0, 1)
    # Where the epithelium is damaged more light gets through, unevenly.
    damage = photoreceptor_loss(cut.thickness, eye.disease).astype(np.float32) ** 3
    stripes = stripes * (1 + 2 * damage) + 0.6 * damage * (cut.thickness["MATERIAL"] == 0)
    fade = np.exp(stripes - np.float32(eye.pigment) * np.maximum(d - 0.04, 0))
    power = inner * (1 - np.float32(eye.lumen_contrast) * large * lumen) * fade
    disc = disc_cover(eye.anatomy, x, y).astype(np.float32)
    if disc.max() > 0.01:
        nerve = grey(105) * np.exp(-7 * d) * np.exp(0.4 * eye.granules(d, x, y))
        power += disc * (nerve - power)
    return power


def _paint_solid(cut: Cut, z: Array, step: float, extinction: Array) -> None:
    """Let material under the retina shade what is below."""
    if cut.thickness["MATERIAL"].max() > 0:
        top, bottom = cut.depth["MATERIAL"], cut.depth["RPE"]
        extinction += 3.0 * between(z, top, bottom, step)


def _paint_pockets(
    eye: Eye, cut: Cut, z: Array, step: float, power: Array, extinction: Array
) -> None:
    """Put cysts (dark) and exudates (bright, with a shadow) into the retina."""
    for pocket in pockets_within(cut, eye.disease):
        top, bottom = pocket_bounds(pocket, cut)
        columns = np.flatnonzero(bottom > top)
        if not len(columns):
            continue
        c = slice(columns[0], columns[-1] + 1)
        top, bottom = top[c], bottom[c]
        r = slice(*row_range(top.min(), bottom.max(), step))
        share = between(z[r], top, bottom, step)
        if pocket.name == "hard_exudate":
            power[r, c] += share * (grey(205) - power[r, c])
            extinction[r, c] += share * np.float32(28.0)
        else:
            power[r, c] += share * (grey(24) - power[r, c])


def _paint_vessels(
    eye: Eye, cut: Cut, z: Array, step: float, power: Array, extinction: Array
) -> None:
    """Put the retinal vessels into the fibre layer: a bright inner wall and a shadow below."""
    off = eye.vessels.off_axis(cut.x, cut.y)
    for k in np.flatnonzero(off.min(axis=-1) < 1):
        columns = np.flatnonzero(off[k] < 1.5)
        c = slice(columns[0], columns[-1] + 1)
        radius = eye.vessels.caliber[k] / 2
        middle = cut.depth["RNFL"][c] + 0.012 + radius
        half = radius * np.sqrt(np.clip(1 - off[k][c] ** 2, 0, None))
        r = slice(*row_range(middle.min() - radius, middle.max() + radius, step))
        lumen = between(z[r], middle - half, middle + half, step)
        wall = between(z[r], middle - half, np.minimum(middle - half + 0.025, middle + half), step)
        power[r, c] *= 1 + 0.6 * lumen
        power[r, c] += wall * grey(125)
        # The width of the beam gives the shadow a penumbra, so it is wider than the lumen.
        shade = np.exp(-1.5 * off[k][c] ** 2).astype(np.float32)
        extinction[r, c] += shade * between(z[r], middle - radius, middle + radius, step) * 7.5


def _vitreous(eye: Eye, cut: Cut, z: Array, step: float) -> Array:
    """Return what the vitreous and its border with the retina send back ``(H, W)``.

    The inner limiting membrane glints where it is seen at a right angle; a detached vitreous
    shows its back surface as a faint broken line.
    """
    ilm = cut.depth["RNFL"].astype(np.float32)
    spacing = np.abs(cut.x[1] - cut.x[0])
    slope = np.gradient(gaussian_filter1d(ilm, 0.03 / spacing), spacing)
    patches = np.clip(eye.glint(cut.x, cut.y), 0, None)
    glint = (patches * np.exp(-((slope / 0.07) ** 2))).astype(np.float32)
    power = glint * np.exp(-(((z - ilm - 0.003) / 0.006) ** 2))
    if eye.haze > 0 or eye.hyaloid is not None:
        back = ilm
        if eye.hyaloid is not None:
            back = cut.depth["BM"] - 0.36 - eye.hyaloid + eye.hyaloid_shape(cut.x, cut.y)
            back = np.minimum(back, ilm - 0.01).astype(np.float32)
            broken = np.exp(1.5 * eye.hyaloid_shape(4 * cut.x, cut.y) / 0.05 - 1)
            line = np.exp(-(((z - back) / max(0.008, step)) ** 2))
            power += np.float32(eye.hyaloid_power) * broken.astype(np.float32) * line
        power += np.float32(eye.haze) * np.clip((back - z) / 0.02, 0, 1)
    return power
