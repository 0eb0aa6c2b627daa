"""Noisy linear imputation: removed pixels become weighted means of all their neighbours.

ROAD (Rong et al., ICML 2022): every removed pixel x_i solves

    Σ_j w_ij (x_i - x_j) = 0,   w = 1/6 beside, 1/12 across a corner,

over the neighbours j inside the frame, removed or not. The weights are those of the binomial
(1, 2, 1) along every axis, without its middle, which says what they are for any number of axes: in
a volume 1/14 beside, 1/28 across an edge and 1/56 across a corner. A sum over neighbours is then
a filter per axis, and no matrix is ever made.

The system is symmetric and, as long as a pixel is left, positive definite: conjugate gradients.
Alone they need hundreds of steps to carry values into a large hole; preconditioned with the
same residual seen at every coarser scale (Bramble, Pasciak & Xu, Math. Comp. 55, 1990) some 30.

Shapes: x (n, C, *S) for n images, zero but at removed pixels; g (n, 1, *S) one there.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from octoscope.errors import OctoscopeError

TOLERANCE = 1e-5
"""Of the residual's norm, in parts of the right side's. Values are then right to about 1e-4 of the
image's contrast, a hundredth of the noise."""
STEPS = 1000
"""Steps after which rounding, not the system, is the reason for what is left."""
NOISE = 0.01
"""Standard deviation of the noise, in units of the images."""


def imputed(images: Tensor, gone: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Return images with removed pixels linearly imputed, all at once.

    Args:
        images: (n, C, *S).
        gone: (n, *S) bool, the pixels of which nothing is known, in every channel.
        tolerance: Residual at which an image is done, relative to its right side.

    Returns:
        (n, C, *S); what is not gone is exactly as it was. Each image is solved on its own: its
        steps do not depend on the others.

    Raises:
        OctoscopeError: If all pixels of an image are gone, from which nothing can be imputed.
    """
    if bool(gone.flatten(1).all(1).any()):
        raise OctoscopeError("all pixels of an image are gone; leave at least one to impute from")
    g = gone[:, None].to(images)
    # Imputation commutes with adding a constant; near zero fewer digits are lost.
    level = _sum((1 - g) * images) / _sum(1 - g)
    known = (1 - g) * (images - level)
    total = _neighbours(torch.ones_like(g[:1]))  # Σ_j w_ij, less than one at the border
    solution = _solved(g, total, g * _neighbours(known), tolerance)
    return torch.where(gone[:, None], solution + level, images)


def noise_like(images: Tensor, seed: int = 0) -> Tensor:
    """Return the noise of an image, the same for every one of its size, (1, C, *S)."""
    generator = torch.Generator().manual_seed(seed)
    return NOISE * torch.randn(1, *images.shape[1:], generator=generator).to(images)


def _solved(g: Tensor, total: Tensor, right: Tensor, tolerance: float) -> Tensor:
    """Solve g (Σ_j w_ij) x - g W x = right by preconditioned conjugate gradients."""
    coarser = _coarser(g)
    x, r = torch.zeros_like(right), right
    z = _at_every_scale(r, coarser)
    p, rz, enough = z, _sum(r * z), tolerance**2 * _sum(right * right)
    for _ in range(STEPS):
        on = _sum(r * r) > enough  # (n, C, 1…); those that are done stay as they are
        if not bool(on.any()):
            break
        image = g * (total * p - _neighbours(p))
        step = (rz / _sum(p * image)).where(on, 0)
        x, r = x + step * p, r - step * image
        z = _at_every_scale(r, coarser)
        before, rz = rz, _sum(r * z)
        p = z + (rz / before).where(on, 0) * p
    return x


def _at_every_scale(r: Tensor, coarser: list[Tensor]) -> Tensor:
    """Add up a residual as seen at every scale: Σ_l P_l P_l' r, the preconditioner.

    P_l interpolates linearly from cells of 2^l pixels, those that are removed as a whole. In d
    axes the energy of a cell's tent grows by 2^(d-2) from scale to scale, by which it is divided.
    """
    seen = [r]
    for mask in coarser[1:]:
        seen.append(mask * _summed_up(seen[-1]))
    growth = 2.0 ** (r.ndim - 4)
    z = seen[-1]
    for mask, finer in zip(reversed(coarser[:-1]), reversed(seen[:-1]), strict=True):
        z = mask * _interpolated(z / growth, tuple(finer.shape[2:])) + finer
    return z


def _coarser(g: Tensor) -> list[Tensor]:
    """Return what is removed at every scale: a cell is if all of its 2 × 2 (× 2) pixels are."""
    scales = [g]
    while min(scales[-1].shape[2:]) > 2:
        padded = F.pad(scales[-1], _to_even(scales[-1]), value=1.0)
        scales.append((_pooled(padded) == 1).to(g))
    return scales


def _neighbours(x: Tensor) -> Tensor:
    """Return Σ_j w_ij x_j over the neighbours inside the frame."""
    axes = x.ndim - 2
    return (_binomial(x) - 2**axes * x) / (4**axes - 2**axes)


def _binomial(x: Tensor) -> Tensor:
    """Filter with (1, 2, 1) along every spatial axis, zeros beyond the frame."""
    for axis in range(2, x.ndim):
        length = x.shape[axis]
        wider = 2 * x
        wider.narrow(axis, 1, length - 1).add_(x.narrow(axis, 0, length - 1))
        wider.narrow(axis, 0, length - 1).add_(x.narrow(axis, 1, length - 1))
        x = wider
    return x


def _interpolated(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Interpolate linearly from cells to their 2 × 2 (× 2) pixels: weights 3/4 and 1/4 per axis."""
    for axis, length in enumerate(size, start=2):
        x = x.repeat_interleave(2, axis).narrow(axis, 0, length)
    return _binomial(x) / 4 ** len(size)


def _summed_up(x: Tensor) -> Tensor:
    """Sum pixels up into cells: the transpose of `_interpolated`."""
    axes = x.ndim - 2
    return _pooled(F.pad(_binomial(x), _to_even(x))) * 2**axes / 4**axes


def _pooled(x: Tensor) -> Tensor:
    """Return the mean of every 2 × 2 (× 2) pixels."""
    return F.avg_pool2d(x, 2) if x.ndim == 4 else F.avg_pool3d(x, 2)


def _to_even(x: Tensor) -> list[int]:
    """Return how much each axis is to be padded to be even, the last axis first."""
    return [side for length in reversed(x.shape[2:]) for side in (0, length % 2)]


def _sum(x: Tensor) -> Tensor:
    """Sum over space, (n, C, 1…)."""
    return x.sum(tuple(range(2, x.ndim)), keepdim=True)
