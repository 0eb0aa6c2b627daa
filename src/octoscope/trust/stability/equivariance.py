"""Whether a map moves with its image: equivariance to small shifts and to a mirror.

For a change T of the picture that changes nothing about the eye, the map of the changed picture
should be the changed map:

    Spearman(T(Φ(x)), Φ(T(x)))

Crabbé and van der Schaar, "Evaluating the Robustness of Interpretability Methods through
Explanation Invariance and Equivariance", NeurIPS 2023, section 2, with the rank correlation in
place of the cosine. A map that ignores the model (the edges of the picture) is perfect by this.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from octoscope.errors import OctoscopeError
from octoscope.trust.similarity import spearman


def pixels_of(shift: Sequence[float], size: Sequence[int]) -> tuple[int, ...]:
    """Return a shift in whole pixels along every spatial axis.

    Args:
        shift: Along the last axes of *S, such as ``(down, right)``: whole numbers are pixels,
            numbers between -1 and 1 shares of the side. Axes before are not shifted.
        size: *S.

    Raises:
        OctoscopeError: If it is longer than there are axes, moves nothing, or half a side or more.
    """
    if not 0 < len(shift) <= len(size):
        raise OctoscopeError(f"a shift {tuple(shift)} does not fit {len(size)} spatial axes")
    last = size[len(size) - len(shift) :]
    moved = [
        round(step * length) if isinstance(step, float) and abs(step) < 1 else int(step)
        for step, length in zip(shift, last, strict=True)
    ]
    if any(isinstance(step, float) and abs(step) >= 1 and step % 1 for step in shift):
        raise OctoscopeError(f"a shift {tuple(shift)} is not of whole pixels; use whole numbers")
    if not any(moved) or any(2 * abs(m) >= n for m, n in zip(moved, last, strict=True)):
        raise OctoscopeError(
            f"a shift of {tuple(moved)} pixels is none, or half of an image of {tuple(last)} or "
            "more; use a few pixels"
        )
    return (*[0] * (len(size) - len(shift)), *moved)


def shifted(images: Tensor, shift: Sequence[int]) -> Tensor:
    """Move a picture by whole pixels; its edge is repeated into the margin.

    Args:
        images: ``(..., *S)``.
        shift: Pixels towards higher indices, one per spatial axis.

    Returns:
        ``(..., *S)``, with position i of T(x) holding position i - shift of x.
    """
    for axis, step in enumerate(shift, images.ndim - len(shift)):
        length = images.shape[axis]
        source = (torch.arange(length, device=images.device) - step).clamp(0, length - 1)
        images = images.index_select(axis, source)
    return images


def shift_equivariance(original: Tensor, moved: Tensor, shift: Sequence[int]) -> Tensor:
    """Compare the maps of a shifted picture with the shifted maps, outside of the margin.

    Args:
        original: ``(..., *S)`` Φ(x).
        moved: ``(..., *S)`` Φ(T(x)).
        shift: Pixels, one per spatial axis.

    Returns:
        ``(...)`` float64 in -1…1; NaN where a map is constant there or not finite.
    """
    for axis, step in enumerate(shift, original.ndim - len(shift)):
        kept = original.shape[axis] - abs(step)
        original = original.narrow(axis, max(-step, 0), kept)
        moved = moved.narrow(axis, max(step, 0), kept)
    return spearman(original, moved, axes=len(shift))


def flip_equivariance(original: Tensor, mirrored: Tensor, *, axes: int = 2) -> Tensor:
    """Compare the maps of a picture mirrored left to right with the mirrored maps.

    Args:
        original: ``(..., *S)`` Φ(x).
        mirrored: ``(..., *S)`` Φ(T(x)).
        axes: Number of spatial axes.

    Returns:
        ``(...)`` float64 in -1…1; NaN where a map is constant or not finite.
    """
    return spearman(original.flip(-1), mirrored, axes=axes)
