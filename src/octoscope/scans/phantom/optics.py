"""From backscattered power to the picture on the screen: point spread, speckle, noise, tone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy import fft

from octoscope.scans.phantom.fields import Array


@dataclass(frozen=True)
class Device:
    """How an instrument records and shows a B-scan.

    Attributes:
        name: As it stands in the manifest.
        widths: Lateral fields of view it offers, mm.
        depth: Axial field of view, mm.
        frames: How many frames are averaged, lowest and highest.
        axial: Standard deviation of the coherence gate, mm.
        lateral: Standard deviation of the beam, mm.
        noise: Power of the noise floor, relative to a perfect reflector.
        noise_decay: Depth in mm over which the recorded power falls by e, as the instrument
            shows it.
        subtracts: Whether the mean noise is subtracted before display.
        tone: "root" (fourth root of the power) or "log" (decibels between `black` and `white`).
        black: Decibels shown as 0.
        white: Decibels shown as 255.
    """

    name: str
    widths: tuple[float, ...]
    depth: float
    frames: tuple[int, int]
    axial: float
    lateral: float
    noise: float
    noise_decay: float
    subtracts: bool
    tone: str
    black: float = -34.0
    white: float = -3.0


DEVICES: Mapping[str, Device] = MappingProxyType(
    {
        d.name: d
        for d in (
            # Eye-tracked averaging, noise subtracted, fourth-root display: dark and clean.
            Device("spectralis", (5.8, 5.8, 8.7), 1.92, (5, 12), 0.0026, 0.0075, 2.2e-3, 0.45,
                   True, "root"),
            # Fewer frames, decibel display: grey vitreous, coarser grain.
            Device("cirrus", (6.0,), 2.0, (2, 4), 0.0022, 0.010, 1.6e-3, 1.6, False, "log",
                   -31.0, -2.5),
            # Hardly averaged, high floor: noisy.
            Device("topcon", (6.0, 6.0, 9.0), 2.3, (1, 2), 0.0028, 0.011, 3.5e-3, 1.2, False,
                   "log", -30.0, -3.0),
        )
    }
)  # fmt: skip


def expose(
    power: Array, noise: Array, device: Device, frames: int, spacing: tuple[float, float],
    rng: np.random.Generator,
) -> Array:  # fmt: skip
    """Record a B-scan: speckle and noise over `frames` frames, averaged, then the display curve.

    Args:
        power: Mean backscattered power ``(H, W)``, relative to a perfect reflector.
        noise: Mean noise power ``(H, 1)`` or ``(H, W)``.
        device: The instrument.
        frames: Number of averaged frames.
        spacing: Millimetres per pixel, (axial, lateral).
        rng: Random numbers of this exposure.

    Returns:
        The image ``(H, W)`` uint8.
    """
    sigma = (device.axial / spacing[0], device.lateral / spacing[1])
    # Signal and noise of a frame are independent circular Gaussian fields; so is their sum.
    mean = power + noise
    recorded = mean * speckle(mean.shape, sigma, looks(frames, sigma), rng)
    return display(recorded, noise, device)


def looks(frames: int, sigma: tuple[float, float]) -> int:
    """Return the number of independent speckle patterns in a pixel.

    A pixel larger than the point spread function averages over several speckles of each frame.
    """
    grains = max(1.0, 0.28 / sigma[0]) * max(1.0, 0.28 / sigma[1])
    return max(1, round(frames * grains))


def speckle(
    shape: tuple[int, int], sigma: tuple[float, float], count: int, rng: np.random.Generator
) -> Array:
    """Return the mean intensity of `count` fully developed speckle patterns ``(H, W)``, mean 1.

    Each is |a|² of a complex circular Gaussian field a, white noise seen through the point spread
    function (Goodman, Speckle Phenomena in Optics, section 3.2); the filter is applied where the
    noise is drawn, in the Fourier domain.

    Args:
        shape: Pixels (H, W).
        sigma: Standard deviation of the amplitude point spread in pixels, (axial, lateral).
        count: How many patterns are averaged.
        rng: Source of the noise.
    """
    fz, fx = fft.fftfreq(shape[0])[:, None], fft.fftfreq(shape[1])[None, :]
    transfer = np.exp(-2 * np.pi**2 * ((fz * sigma[0]) ** 2 + (fx * sigma[1]) ** 2))
    transfer = (transfer * np.sqrt(transfer.size / (2 * np.sum(transfer**2)))).astype(np.float32)
    total = np.zeros(shape, np.float32)
    for _ in range(count):
        white = rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
        field = fft.ifft2(white * transfer, norm="ortho", overwrite_x=True)
        total += field.real**2 + field.imag**2
    return total / count


def display(recorded: Array, noise: Array, device: Device) -> Array:
    """Return the recorded power ``(H, W)`` as the device shows it, uint8."""
    if device.subtracts:
        recorded = np.maximum(recorded - noise, 0)
    if device.tone == "root":
        shown = recorded**0.25
    else:
        decibels = 10 * np.log10(np.maximum(recorded, 1e-9))
        shown = (decibels - device.black) / (device.white - device.black)
    return np.clip(255 * shown + 0.5, 0, 255).astype(np.uint8)
