"""The look of an instrument, without any anatomy, comes from another scan: is it followed?

What is transferred is contrast (background and bright tissue) and speckle (strength within and
outside of the retina). A histogram of the retina is not matched: it would bring the dark fluid
and the bright scars of the donor with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from octoscope.trust.probes.donors import Edit, found_with_donors
from octoscope.trust.probes.probe import Finding, Scans, Subject
from octoscope.trust.probes.regions import inpaint, shown
from octoscope.trust.probes.retina_box import retina_bands

PROBE = "appearance"
TITLE = "look of the instrument transplanted"
LIMIT = 0.02
TONES = (0.25, 0.5, 0.75, 0.95)
"""Quantiles of the retina's grey values that are matched; the darkest, where fluid is, are not."""
BLUR = 0.8
"""Standard deviation in pixels of the blur whose remainder is taken for speckle."""
SEAM = 2.0
"""Standard deviation in pixels over which speckle changes from retina to background."""
GAIN = (0.4, 2.5)
"""By how much contrast may change: beyond, a scan holds too little for a ratio."""
SMOOTHEST = 0.3
"""Share of its speckle that a scan keeps at least; less would blur the layers."""


@dataclass(frozen=True, eq=False)
class Looks:
    """What every scan looks like; strengths are ``(N,)``.

    Attributes:
        tones: Grey values from 0 over the background and the retina to white, ``(N, Q)``, rising.
        outside: Strength of speckle in the background, grey levels.
        inside: Strength of speckle in the retina.
    """

    tones: np.ndarray
    outside: np.ndarray
    inside: np.ndarray


def appearance(subject: Subject) -> Finding:
    """Give every scan contrast and speckle of other patients' scans; see which class is said.

    The effect is the rise of the probability of the donor's class with donors of another class,
    over that with donors of the recipient's own class.

    Raises:
        OctoscopeError: If fewer than two classes have scans of two patients.
    """
    scans, fill = subject.scans, subject.fill
    edit = scans.once((PROBE, fill), lambda: restyling(scans, fill))
    return found_with_donors(subject, PROBE, TITLE, edit, what="contrast and speckle", limit=LIMIT)


def restyling(scans: Scans, fill: int = 0) -> Edit:
    """Return the edit: the recipient with contrast and speckle of the donor, anatomy as it was.

    Padding and registration borders of the recipient stay as they are.

    Args:
        scans: Recipients and donors.
        fill: Grey value of the padding.
    """
    images = scans.images
    tissue = shown(scans, fill)
    retina = retina_bands(scans) & tissue
    ground = tissue & ~retina
    style = looks(images, retina, ground)
    grain = speckle(inpaint(images, ~ground, ground))
    grain /= np.maximum(grain.std(axis=(1, 2)), 1.0)[:, None, None]
    contrast = style.tones[:, -2] - style.tones[:, 1]
    within = ndimage.gaussian_filter(retina.astype(np.float32), (0, SEAM, SEAM), mode="nearest")

    def edit(recipients: np.ndarray, donors: np.ndarray) -> np.ndarray:
        def of(values: np.ndarray, who: np.ndarray) -> np.ndarray:
            return values[who][:, None, None].astype(np.float32)

        share = within[recipients]
        toned = np.stack(
            [
                np.interp(image, style.tones[one], style.tones[other])
                for image, one, other in zip(images[recipients], recipients, donors, strict=True)
            ]
        ).astype(np.float32)
        gain = np.clip(of(contrast, donors) / of(contrast, recipients), *GAIN)
        has = gain * _mix(share, of(style.inside, recipients), of(style.outside, recipients))
        wants = _mix(share, of(style.inside, donors), of(style.outside, donors))
        keeps = np.clip(wants / np.maximum(has, 1e-6), SMOOTHEST, 1)
        lacks = np.sqrt(np.maximum(wants**2 - has**2, 0))
        smooth = ndimage.gaussian_filter(toned, (0, BLUR, BLUR), mode="nearest")
        styled = smooth + keeps * (toned - smooth) + lacks * grain[donors]
        edited = np.clip(np.rint(styled), 0, 255).astype(np.uint8)
        return np.where(tissue[recipients], edited, images[recipients])

    return edit


def looks(images: np.ndarray, retina: np.ndarray, ground: np.ndarray) -> Looks:
    """Measure contrast and speckle of every scan.

    Args:
        images: ``(N, H, W)`` uint8.
        retina: ``(N, H, W)`` bool.
        ground: ``(N, H, W)`` bool, the background.
    """
    rough = speckle(images)
    smooth = images - rough
    tones, strengths = [], []
    for soft, grain, tissue, below in zip(smooth, rough, retina, ground, strict=True):
        inner = [_quantile(soft[below], 0.5), *(_quantile(soft[tissue], q) for q in TONES)]
        tones.append(_rising(np.array([0.0, *inner, 255.0])))
        strengths.append((_strength(grain[below]), _strength(grain[tissue])))
    outside, inside = np.array(strengths).T
    return Looks(np.array(tones), outside, inside)


def _rising(tones: np.ndarray) -> np.ndarray:
    """Return grey values that rise by one at least, so that the curve can be inverted."""
    step = np.arange(len(tones))
    return np.asarray(np.maximum.accumulate(tones - step) + step)


def speckle(images: np.ndarray) -> np.ndarray:
    """Return what a blur takes away from each image, ``(N, H, W)`` float32."""
    grey = images.astype(np.float32)
    return np.asarray(grey - ndimage.gaussian_filter(grey, (0, BLUR, BLUR), mode="nearest"))


def _mix(share: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Return the value of the retina where `share` is 1, and that of the background where 0."""
    return share * inside + (1 - share) * outside


def _quantile(values: np.ndarray, q: float) -> float:
    """Return a quantile, 0 of nothing."""
    return float(np.quantile(values, q)) if values.size else 0.0


def _strength(values: np.ndarray) -> float:
    """Return the standard deviation of most of the values: half the width of the middle 68 %.

    What steps at the edges of layers, vessels and lesions is in the tails.
    """
    return (_quantile(values, 0.84) - _quantile(values, 0.16)) / 2
