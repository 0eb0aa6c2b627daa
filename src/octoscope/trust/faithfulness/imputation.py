"""Noisy linear imputation: removed pixels become weighted means of all their neighbours.

ROAD (Rong et al., ICML 2022): every removed pixel x_i solves

    Σ_j w_ij (x_i - x_j) = 0,   w = 1/6 beside, 1/12 across a corner,

over the neighbours j inside the frame, removed or not. The weights are those of the binomial
(1, 2, 1) along every axis, without its middle, which says what they are for any number of axes: in
a volume 1/14 beside, 1/28 across an edge and 1/56 across a corner. A sum over neighbours is then
a filter per axis, and no matrix is ever made.

The system is symmetric and, as long as a pixel is left, positive definite: conjugate gradients.
Alone they need hundreds of steps to carry values into a large hole; preconditioned with one cycle
over ever coarser scales, eight or nine. A sweep that makes every removed pixel the weighted mean
of its neighbours leaves a third of what is rough; what is smooth is left to the coarser scales
(Trottenberg, Oosterlee & Schüller,
"Multigrid", 2001, sections 2.4 and 7.8).

Shapes: x (n, C, *S) for n images, zero but at removed pixels; g (n, 1, *S) one there.
Throughout, both sides of the system are multiplied by 12 (56 in a volume), which makes the
weights whole: B x is the sum with weights 4, 2, 1, pixel itself included, and the system

    g (B 1) x - g B x = right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from octoscope.errors import OctoscopeError

TOLERANCE = 1e-4
"""Of the residual's norm, in parts of the right side's. Values are then right to less than 1e-3 of
the image's contrast, a tenth of the noise."""
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
    solution = _solved(_scales(g), g * _binomial(known), tolerance)
    return torch.where(gone[:, None], solution + level, images)


def noise_like(images: Tensor, seed: int = 0) -> Tensor:
    """Return the noise of an image, the same for every one of its size, (1, C, *S)."""
    generator = torch.Generator().manual_seed(seed)
    return NOISE * torch.randn(1, *images.shape[1:], generator=generator).to(images)


@dataclass(frozen=True, eq=False)
class _Scale:
    """The system at one scale.

    Attributes:
        g: (n, 1, *S) what is removed.
        total: (1, 1, *S) B 1, less at the border.
        inverse: (n, 1, *S) of the diagonal of the system, zero but at removed pixels.
    """

    g: Tensor
    total: Tensor
    inverse: Tensor

    def left(self, x: Tensor, right: Tensor) -> Tensor:
        """Return what is left of the right side, right - (B 1) x + B x, also beside the holes."""
        return _binomial(x).addcmul_(self.total, x, value=-1).add_(right)

    def swept(self, x: Tensor, right: Tensor) -> Tensor:
        """Make every removed pixel the weighted mean of its neighbours."""
        return torch.addcmul(x, self.inverse, self.left(x, right))


def _scales(g: Tensor) -> list[_Scale]:
    """Return the system at every scale: a cell is removed if all of its 2 × 2 (× 2) pixels are."""
    scales: list[_Scale] = []
    while True:
        total = _binomial(torch.ones_like(g[:1]))
        diagonal = (total - 2 ** (g.ndim - 2)).clamp(min=1)
        scales.append(_Scale(g, total, g / diagonal))
        if min(g.shape[2:]) <= 2:
            return scales
        g = F.pad(g, _to_even(g), value=1.0)
        for axis in range(2, g.ndim):
            pairs = g.unflatten(axis, (-1, 2))
            g = pairs.select(axis + 1, 0) * pairs.select(axis + 1, 1)


def _solved(scales: list[_Scale], right: Tensor, tolerance: float) -> Tensor:
    """Solve the system by preconditioned conjugate gradients."""
    finest = scales[0]
    x, r = torch.zeros_like(right), right.clone()
    z = _over_all_scales(r, scales)
    p, rz, enough = z, _sum(r * z), tolerance**2 * _sum(right * right)
    for _ in range(STEPS):
        on = _sum(r * r) > enough  # (n, C, 1…); those that are done stay as they are
        if not bool(on.any()):
            break
        image = _binomial(p).addcmul_(finest.total, p, value=-1).mul_(finest.g)  # the opposite
        step = (-rz / _sum(p * image)).where(on, 0)
        x.addcmul_(step, p)
        r.addcmul_(step, image)
        z = _over_all_scales(r, scales)
        before, rz = rz, _sum(r * z)
        p = torch.addcmul(z, (rz / before).where(on, 0), p)
    return x


def _over_all_scales(right: Tensor, scales: list[_Scale]) -> Tensor:
    """Solve the system roughly: sweep, solve for what is left at the next coarser scale, sweep.

    In d axes the same weights between cells twice as large are 2^(d-2) times as strong.
    """
    scale, coarser = scales[0], scales[1:]
    x = scale.inverse * right
    if coarser:
        growth = 2.0 ** (right.ndim - 4)
        left = scale.left(x, right).mul_(scale.g)
        smooth = _over_all_scales(_summed_up(left) / growth, coarser)
        x.addcmul_(scale.g, _interpolated(smooth, tuple(right.shape[2:])))
    return scale.swept(x, right)


def _binomial(x: Tensor) -> Tensor:
    """Filter with (1, 2, 1) along every spatial axis, zeros beyond the frame."""
    for axis in range(2, x.ndim):
        x = _along(x, axis)
    return x


def _along(x: Tensor, axis: int) -> Tensor:
    """Filter with (1, 2, 1) along one axis."""
    length = x.shape[axis]
    wider = 2 * x
    wider.narrow(axis, 1, length - 1).add_(x.narrow(axis, 0, length - 1))
    wider.narrow(axis, 0, length - 1).add_(x.narrow(axis, 1, length - 1))
    return wider


def _mirrored(x: Tensor, axis: int) -> Tensor:
    """Filter with (1, 2, 1) along one axis, the mirror image beyond the frame."""
    wider = _along(x, axis)
    for end in (0, x.shape[axis] - 1):
        wider.select(axis, end).add_(x.select(axis, end))
    return wider


def _interpolated(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Interpolate linearly from cells to their 2 × 2 (× 2) pixels: weights 3/4 and 1/4 per axis."""
    x = x / 4 ** len(size)
    for axis in range(x.ndim - 1, 1, -1):
        x = _mirrored(x.repeat_interleave(2, axis).narrow(axis, 0, size[axis - 2]), axis)
    return x


def _summed_up(x: Tensor) -> Tensor:
    """Sum pixels up into cells: the transpose of `_interpolated`."""
    for axis in range(2, x.ndim):
        x = _mirrored(x, axis)
        if x.shape[axis] % 2:
            x = F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [0, 1])
        pairs = x.unflatten(axis, (-1, 2))
        x = pairs.select(axis + 1, 0) + pairs.select(axis + 1, 1)
    return x / 4 ** (x.ndim - 2)


def _to_even(x: Tensor) -> list[int]:
    """Return how much each axis is to be padded to be even, the last axis first."""
    return [side for length in reversed(x.shape[2:]) for side in (0, length % 2)]


def _sum(x: Tensor) -> Tensor:
    """Sum over space, (n, C, 1…)."""
    return x.sum(tuple(range(2, x.ndim)), keepdim=True)
