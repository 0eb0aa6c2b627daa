"""Max-sensitivity: how far a map moves when its image is changed imperceptibly.

    sens(Φ, x) = max_{‖δ‖∞ ≤ r} ‖Φ(x + δ) - Φ(x)‖ / ‖Φ(x)‖

Yeh et al., "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019, section 3,
equation 3, there without the division, which makes methods of different units comparable (as in
Captum and Quantus). The maximum is taken over random draws, as in both, and is thus a lower bound.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from octoscope.errors import OctoscopeError


def noisy(images: Tensor, draws: int, radius: float, seed: int = 0) -> Tensor:
    """Return images with noise, uniform in [-radius, radius] at every pixel.

    The noise follows from the pixels of an image and the seed: it is the same on any device and
    whatever else is in the batch. Nothing is clipped.

    Args:
        images: ``(B, C, *S)``.
        draws: Versions n of every image.
        radius: In the units of the images.
        seed: Seed of the noise.

    Returns:
        ``(n, B, C, *S)``.

    Raises:
        OctoscopeError: If there is no draw or the radius is not positive.
    """
    if draws < 1:
        raise OctoscopeError(f"max-sensitivity over {draws} draws means nothing; use 1 or more")
    if not radius > 0:
        raise OctoscopeError(f"a radius of noise of {radius} changes nothing; use 0.02, say")
    noise = torch.empty(draws, *images.shape, dtype=torch.float32)
    for number, image in enumerate(images.detach().float().numpy(force=True)):
        generator = torch.Generator().manual_seed(_digest(image.tobytes(), seed))
        noise[:, number].uniform_(-radius, radius, generator=generator)
    return images + noise.to(images)


def max_sensitivity(original: Tensor, changed: Tensor, *, axes: int = 2) -> Tensor:
    """Return the largest relative distance of the maps of changed images to the original map.

    Args:
        original: ``(..., *S)`` Φ(x).
        changed: ``(n, ..., *S)`` Φ(x + δ) for n draws of δ.
        axes: Number of spatial axes.

    Returns:
        ``(...)`` float64, 0 or more, 0 where nothing moves; NaN where the original map is constant
        (what says nothing is not stable), or one of the maps is not finite.

    Raises:
        OctoscopeError: If the shapes do not fit.
    """
    if changed.ndim != original.ndim + 1 or changed.shape[1:] != original.shape:
        raise OctoscopeError(
            f"maps of shape {tuple(changed.shape)} are no draws of maps of shape "
            f"{tuple(original.shape)}; give (n, ..., *S) and (..., *S)"
        )
    still = original.flatten(-axes).double()
    length = still.norm(dim=-1)
    moved = torch.stack([(draw.flatten(-axes).double() - still).norm(dim=-1) for draw in changed])
    low, high = still.aminmax(dim=-1)
    ratio = moved.amax(0) / length.where(length > 0, 1)
    return ratio.where((high > low) & ratio.isfinite(), torch.nan)


def _digest(pixels: bytes, seed: int) -> int:
    """Return a whole number of 63 bits that follows from the pixels and the seed."""
    code = hashlib.blake2b(pixels, digest_size=8, salt=str(seed).encode()[:16])
    return int.from_bytes(code.digest(), "little") >> 1
