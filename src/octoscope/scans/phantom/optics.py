"""From backscattered power to the picture on the screen: point spread, speckle, noise, tone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter1d

from octoscope.scans.phantom.fields import Array


@dataclass(frozen=True)
class Device:
    """How an instrument records and shows a B-scan.

    Attributes:
        name: As it stands in the manifest.
        widths: Lateral fields of view it offers, mm.
        depth: Axial field of view, mm.
        frames: How many frames are averaged, lowest and highest.
        axial: Standard deviation of the coherence gate (field amplitude), mm.
        lateral: Standard deviation of the beam (field amplitude), mm.
        noise: Noise power of one frame, lowest and highest, relative to a perfect reflector.
        decay: Depth in mm over which the power falls by e, beyond a third of the frame.
        noise_decay: The same for the noise, where the display evens it out.
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
    noise: tuple[float, float]
    decay: float
    noise_decay: float
    subtracts: bool
    tone: str
    black: float = -34.0
    white: float = -3.0


DEVICES: Mapping[str, Device] = MappingProxyType(
    {
        # Eye-tracked averaging, noise subtracted, fourth-root display: dark and clean.
        "spectralis": Device(
            "spectralis",
            widths=(5.8, 7.2, 8.7),
            depth=1.92,
            frames=(16, 50),
            axial=0.0047,
            lateral=0.0090,
            noise=(5e-4, 1.2e-2),
            decay=2.0,
            noise_decay=0.35,
            subtracts=True,
            tone="root",
        ),
        # Fewer frames, decibel display: grey vitreous, coarser grain.
        "cirrus": Device(
            "cirrus",
            widths=(6.0,),
            depth=2.0,
            frames=(4, 8),
            axial=0.0042,
            lateral=0.0120,
            noise=(1e-3, 2e-3),
            decay=2.5,
            noise_decay=4.0,
            subtracts=False,
            tone="log",
            black=-33.0,
            white=-3.5,
        ),
        # Hardly averaged, high floor: noisy.
        "topcon": Device(
            "topcon",
            widths=(6.0, 6.0, 9.0),
            depth=2.3,
            frames=(2, 4),
            axial=0.0052,
            lateral=0.0130,
            noise=(1.2e-3, 2.8e-3),
            decay=2.0,
            noise_decay=4.0,
            subtracts=False,
            tone="log",
            black=-33.0,
            white=-4.0,
        ),
    }
)


def looks(frames: int) -> int:
    """Return how many independent speckle patterns `frames` averaged frames hold.

    Speckle is bound to the tissue: what little the eye moves between frames decorrelates it only
    in part, while the noise of the frames is independent.
    """
    return max(1, round(frames**0.45))


def speckle(
    shape: tuple[int, int], sigma: tuple[float, float], count: int, rng: np.random.Generator
) -> Array:
    """Return the mean intensity of `count` fully developed speckle patterns ``(H, W)``, mean 1.

    Each is |a|² of a complex circular Gaussian field a, white noise seen through the point spread
    function (Goodman, Speckle Phenomena in Optics, chapter 3); the filter is applied where the
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


def detector_noise(
    shape: tuple[int, int], sigma: float, frames: int, rng: np.random.Generator
) -> Array:
    """Return the power of receiver noise averaged over `frames`, ``(H, W)``, mean 1.

    One frame has exponential power; the mean of n has a Gamma(n) distribution, drawn here through
    its cube root, which is nearly normal (Wilson and Hilferty 1931). A-scans are independent;
    along depth the spectral window correlates neighbours (`sigma`, pixels).
    """
    white = rng.standard_normal(shape, dtype=np.float32)
    normal = gaussian_filter1d(white, sigma, axis=0, mode="wrap", truncate=3)
    normal /= normal.std()
    spread = 1 / (9 * frames)
    return (1 - spread + np.sqrt(spread, dtype=np.float32) * normal) ** 3


def expose(
    power: Array,
    noise: Array,
    device: Device,
    frames: int,
    spacing: tuple[float, float],
    rng: np.random.Generator,
) -> Array:
    """Record a B-scan: speckle and noise averaged over `frames`, then the display curve.

    The power of signal plus noise, |s + n|², varies by s² + 2sn + n²; the middle term is carried
    by the noise.

    Args:
        power: Mean backscattered power ``(H, W)``, relative to a perfect reflector.
        noise: Mean noise power ``(H, W)``.
        device: The instrument.
        frames: Number of averaged frames.
        spacing: Millimetres per pixel, (axial, lateral).
        rng: Random numbers of this exposure.

    Returns:
        The image ``(H, W)`` uint8.
    """
    sigma = (device.axial / spacing[0], device.lateral / spacing[1])
    signal = power * speckle(power.shape, sigma, looks(frames), rng)
    floor = detector_noise(power.shape, 0.6 * sigma[0], frames, rng)
    recorded = signal + noise + (floor - 1) * np.sqrt(noise * (noise + 2 * power))
    return display(recorded, noise, device)


def display(recorded: Array, noise: Array, device: Device) -> Array:
    """Return the recorded power ``(H, W)`` as the device shows it, uint8."""
    if device.subtracts:
        recorded = recorded - noise
    if device.tone == "root":
        shown = np.sqrt(np.sqrt(np.maximum(recorded, 0)))
    else:
        decibels = 10 * np.log10(np.maximum(recorded, 1e-9))
        shown = (decibels - device.black) / (device.white - device.black)
    return np.clip(255 * shown + 0.5, 0, 255).astype(np.uint8)
