"""How alike two attribution maps are: rank correlation, structure, overlap of the top areas.

Every function takes tensors on any device, maps ``(..., *S)`` with `axes` spatial axes, broadcasts
over the leading axes and gives ``(...)`` float64. Maps are compared raw and signed, nowhere by
their absolute values: a map turned upside down says the opposite. A map that is constant or not
finite says nothing, and what is compared with it is NaN, neither alike nor unlike.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp

import torch
from torch import Tensor

from octoscope.attribution.ranks import standard_ranks
from octoscope.errors import OctoscopeError

Similarity = Callable[..., Tensor]
"""Two stacks of maps ``(..., *S)`` and the number of ``axes`` to ``(...)``."""

WINDOW = 11
SIGMA = 1.5
"""Pixels across the Gaussian window of SSIM, and its standard deviation (Wang et al. 2004)."""
C1, C2 = 0.01**2, 0.03**2
"""Its constants (K1 L)² and (K2 L)² for a range L of 1."""
AT_ONCE = 4
"""Maps whose windows are taken at once: more of them leave the caches of a CPU."""


def spearman(a: Tensor, b: Tensor, *, axes: int = 2) -> Tensor:
    """Return Spearman's rank correlation over the pixels of two maps.

    Equal values share the mean of their ranks, as in ``scipy.stats.spearmanr``.

    Args:
        a: ``(..., *S)``.
        b: ``(..., *S)``.
        axes: Number of spatial axes.

    Returns:
        ``(...)`` float64 in -1…1; NaN where a map is constant or not finite.

    Raises:
        OctoscopeError: If the sizes of the maps differ.
    """
    a, b = _pair(a, b, axes)
    return rank_product(_ranks(a), _ranks(b))


def ranked(maps: Tensor, *, axes: int = 2) -> Tensor:
    """Return the ranks of maps, scaled for `rank_product`: to rank once what is compared often.

    Args:
        maps: ``(..., *S)``.
        axes: Number of spatial axes.

    Returns:
        ``(..., P)`` float64 of mean 0 and length 1; NaN where a map is constant or not finite.
    """
    return _ranks(maps.flatten(-axes))


def rank_product(a: Tensor, b: Tensor) -> Tensor:
    """Return `spearman` of maps from their `ranked` rows ``(..., P)``, as ``(...)`` float64."""
    return torch.linalg.vecdot(a, b).clamp(-1, 1)


def ssim(a: Tensor, b: Tensor, *, axes: int = 2) -> Tensor:
    """Return the structural similarity of two maps, each first scaled to 0…1.

    Mean over all places where a Gaussian window of 11 pixels (standard deviation 1.5) fits of

        (2 m_a m_b + C1) (2 s_ab + C2) / ((m_a² + m_b² + C1) (s_a² + s_b² + C2))

    with the means m, variances s² and covariance s_ab under the window: Wang et al., "Image
    Quality Assessment", IEEE TIP 2004, section III-B, equations 13 to 17. It equals
    ``skimage.metrics.structural_similarity(a, b, data_range=1, gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False)`` on the scaled maps.

    Args:
        a: ``(..., *S)``.
        b: ``(..., *S)``.
        axes: Number of spatial axes.

    Returns:
        ``(...)`` float64 in -1…1; NaN where a map is constant or not finite.

    Raises:
        OctoscopeError: If the sizes of the maps differ or an axis is shorter than the window.
    """
    size = tuple(a.shape[a.ndim - axes :])
    flat_a, flat_b = _pair(a, b, axes)
    if min(size) < WINDOW:
        raise OctoscopeError(
            f"maps of size {size} are smaller than the window of SSIM ({WINDOW} pixels); "
            "compare larger maps"
        )
    says = _says(flat_a) & _says(flat_b)
    flat_a, flat_b = torch.broadcast_tensors(_scaled(flat_a), _scaled(flat_b))
    x, y = flat_a.reshape(-1, *size), flat_b.reshape(-1, *size)
    pieces = zip(x.split(AT_ONCE), y.split(AT_ONCE), strict=True)
    found = torch.cat([_structure(one, other, axes) for one, other in pieces])
    return found.view(says.shape).where(says, torch.nan)


def _structure(x: Tensor, y: Tensor, axes: int) -> Tensor:
    """Return SSIM, (n,), of scaled maps (n, *S)."""
    mean_x, mean_y = _windowed(x, axes), _windowed(y, axes)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    variances = _windowed(x * x + y * y, axes) - squares  # s_a² + s_b²
    covariance = _windowed(x * y, axes) - product
    local = (2 * product + C1) * (2 * covariance + C2) / ((squares + C1) * (variances + C2))
    return local.flatten(1).mean(-1)


def top_overlap(a: Tensor, b: Tensor, share: float = 0.1, *, axes: int = 2) -> Tensor:
    """Return the intersection over union of the highest pixels of two maps.

    Of pixels tied at the edge of the top, each belongs to it in part, so that every top weighs the
    same; intersection and union of parts are their minimum and maximum.

    Args:
        a: ``(..., *S)``.
        b: ``(..., *S)``.
        share: Share of the pixels that are the top, in 0…1; at least one pixel.
        axes: Number of spatial axes.

    Returns:
        ``(...)`` float64 in 0…1; NaN where a map is constant or not finite.

    Raises:
        OctoscopeError: If the sizes of the maps differ or the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise OctoscopeError(f"a top share of {share} is not between 0 and 1; use 0.1, say")
    a, b = _pair(a, b, axes)
    says = _says(a) & _says(b)
    one, other = _top(a, share), _top(b, share)
    overlap = torch.minimum(one, other).sum(-1) / torch.maximum(one, other).sum(-1)
    return overlap.where(says, torch.nan)


def pairwise(maps: Tensor, function: Similarity, *, axes: int = 2) -> Tensor:
    """Compare the maps of M methods (or models, or seeds) with each other, scan by scan.

    Args:
        maps: ``(M, B, *S)``.
        function: `spearman`, `ssim`, `top_overlap` or another symmetric one like them.
        axes: Number of spatial axes.

    Returns:
        ``(M, M, B)`` float64, symmetric in the first two axes.
    """
    if maps.ndim != axes + 2:
        raise OctoscopeError(
            f"maps of shape {tuple(maps.shape)} are not (M, B, *S) with {axes} spatial axes"
        )
    methods, scans = maps.shape[:2]
    out = torch.empty(methods, methods, scans, dtype=torch.float64, device=maps.device)
    for scan in range(scans):
        of_scan = maps[:, scan]  # (M, *S)
        if function is spearman:
            ranks = ranked(of_scan, axes=axes)  # each once
            out[..., scan] = (ranks @ ranks.T).clamp(-1, 1)
            continue
        for i in range(methods):
            out[i, i:, scan] = out[i:, i, scan] = function(of_scan[i], of_scan[i:], axes=axes)
    return out


def _pair(a: Tensor, b: Tensor, axes: int) -> tuple[Tensor, Tensor]:
    """Return both as (..., P), or raise."""
    if a.ndim < axes or a.shape[a.ndim - axes :] != b.shape[b.ndim - axes :]:
        raise OctoscopeError(
            f"maps of shape {tuple(a.shape)} and {tuple(b.shape)} cannot be compared over "
            f"{axes} spatial axes; give both the same size"
        )
    return a.flatten(-axes), b.flatten(-axes)


def _says(maps: Tensor) -> Tensor:
    """Return whether maps (..., P) are finite and not constant."""
    low, high = maps.aminmax(dim=-1)  # a nan spreads to both
    return low.isfinite() & high.isfinite() & (high > low)


def _ranks(maps: Tensor) -> Tensor:
    """Return the standard ranks of maps (..., P), of NaN where one says nothing."""
    says = _says(maps)[..., None]
    if bool(says.all()):
        return standard_ranks(maps)
    return standard_ranks(maps.where(says, 0)).where(says, torch.nan)


def _scaled(maps: Tensor) -> Tensor:
    """Return maps (..., P) scaled to 0…1, float64; zeros where one says nothing."""
    maps = maps.where(_says(maps)[..., None], 0).double()
    low, high = maps.aminmax(dim=-1, keepdim=True)
    span = high - low
    return (maps - low) / span.where(span > 0, 1)


def _windowed(maps: Tensor, axes: int) -> Tensor:
    """Return the weighted means of maps (..., *S) under every window that fits."""
    half = WINDOW // 2
    bell = [exp(-((k - half) ** 2) / (2 * SIGMA**2)) for k in range(WINDOW)]
    weights = [weight / sum(bell) for weight in bell]
    for axis in range(-axes, 0):  # a Gaussian window is a product of one per axis
        length = maps.shape[axis] - WINDOW + 1
        mean = maps.narrow(axis, half, length) * weights[half]
        for k in range(half):  # and the same on both sides
            both = maps.narrow(axis, k, length) + maps.narrow(axis, WINDOW - 1 - k, length)
            mean.add_(both, alpha=weights[k])
        maps = mean
    return maps


def _top(maps: Tensor, share: float) -> Tensor:
    """Return how far each pixel of (..., P) is of the top, float64 in 0…1."""
    count = max(1, round(share * maps.shape[-1]))
    edge = maps.topk(count, dim=-1).values[..., -1:]
    above, tied = (maps > edge).double(), (maps == edge).double()
    left = count - above.sum(-1, keepdim=True)
    return above + tied * left / tied.sum(-1, keepdim=True).clamp(min=1)
