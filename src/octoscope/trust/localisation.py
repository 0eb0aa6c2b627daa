"""How much of an attribution map lies on the lesions.

One definition throughout: the **positive part** of a map is its evidence *for* the class; what
speaks against is not counted. (Peers differ: absolute values in CLEVR-XAI, signed sums in
Quantus, which can exceed 1.) A map without positive part says nothing and an image without
lesion cannot be hit: both give NaN, to be counted, and never a hit or a zero.

Every function takes numpy arrays or tensors on any device: maps ``(..., B, *S)`` (leading axes
are methods, seeds…) and masks ``(B, *S)``, for any number of spatial axes *S. A score never
depends on the other maps of the batch.

Relevance mass: Arras et al., "CLEVR-XAI", Information Fusion 2022, section 3.3 (there with
absolute values). The "energy-based pointing game" of Wang et al., "Score-CAM", CVPRW 2020,
section 4.3, is the same number under another name and not listed twice. Pointing game: Zhang et
al., "Excitation Backprop", IJCV 2018, section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from octoscope.errors import OctoscopeError
from octoscope.trust.pixels import Pixels
from octoscope.trust.scores import TOLERANCE

Array = np.ndarray | Tensor

BLOCK = 64
"""Scans whose maps are held at the size of the image at once."""


def relevance_mass(maps: Array, masks: Array, within: Array | None = None) -> Tensor:
    """Return the share of a map's positive part that lies in the mask.

    mass = sum_{i in mask} max(M_i, 0) / sum_i max(M_i, 0)

    Args:
        maps: ``(..., B, *S)``.
        masks: ``(B, *S)`` bool; the lesions.
        within: ``(B, *S)`` bool; if given (the retina), both sums run over it only.

    Returns:
        ``(..., B)`` float64 in 0…1; NaN where the mask is empty or the map has no positive part
        or is not finite.

    Raises:
        OctoscopeError: If the shapes do not fit.
    """
    region = None if within is None else region_of(within, masks)
    maps, masks = flat(maps, masks)  # (..., B, P), (B, P)
    share = positive_share(maps if region is None else maps.where(region, 0))
    return mass_on(share, Pixels.of(masks)).where(says_something(maps), torch.nan)


def mass_on(share: Tensor, pixels: Pixels) -> Tensor:
    """Return the sum over masks of shares ``(..., B, P)`` that add up to 1, ``(..., B)`` float64.

    NaN where a mask has no pixel.
    """
    mass = pixels.total_of(share).clamp(max=1)  # but for rounding
    return mass.where(pixels.count > 0, torch.nan)


def lesion_area(masks: Array, within: Array | None = None) -> Tensor:
    """Return the share of the frame that the mask fills, ``(B,)``: what a constant map scores.

    Args:
        masks: ``(B, *S)`` bool.
        within: ``(B, *S)`` bool; if given, the share of this region instead of the frame.
    """
    region = None if within is None else region_of(within, masks)
    masks = _as_mask(masks).flatten(1)
    region = torch.ones_like(masks) if region is None else region
    return (masks & region).sum(-1).double() / region.sum(-1)


def lift_over_chance(maps: Array, masks: Array, within: Array | None = None) -> Tensor:
    """Return relevance mass divided by the area share of the mask, ``(..., B)``.

    1 is chance; with `within` (the retina), chance knows where the retina is.
    """
    area = lesion_area(masks, within)
    return relevance_mass(maps, masks, within) / area


def pointing_game(maps: Array, masks: Array, tolerance: float = TOLERANCE) -> Tensor:
    """Return whether the maximum of a map lies within `tolerance` pixels of the mask.

    Of pixels tied at the maximum one is meant to be picked at random, so the value is the share
    of them that hit; a constant map then scores what chance does (`pointing_chance`).

    Args:
        maps: ``(..., B, *S)``.
        masks: ``(B, *S)`` bool.
        tolerance: Euclidean distance in pixels.

    Returns:
        ``(..., B)`` float64 in 0…1; NaN where the mask is empty or the map has no positive part
        or is not finite.

    Raises:
        OctoscopeError: If the shapes do not fit.
    """
    maps, grown = flat(maps, grow(masks, tolerance))
    share = hits(highest(maps), grown).view(maps.shape[:-1])
    return share.where(says_something(maps), torch.nan)


def highest(maps: Tensor) -> Pixels:
    """Return the pixels that are tied at the maximum of each of maps ``(..., B, P)``."""
    return Pixels.of((maps == maps.amax(-1, keepdim=True)).flatten(0, -2))


def hits(tops: Pixels, grown: Tensor) -> Tensor:
    """Return the share of each map's highest pixels that lies in its mask.

    Args:
        tops: `highest` of A maps of each of B scans.
        grown: ``(B, P)`` bool, the masks; NaN where one is empty.

    Returns:
        ``(A * B,)`` float64.
    """
    scan, place = tops.row % len(grown), tops.at % tops.size
    share = tops.total(grown[scan, place]) / tops.count
    there = grown.any(-1).repeat(len(share) // len(grown))
    return share.where(there, torch.nan)


def pointing_chance(masks: Array, tolerance: float = TOLERANCE) -> Tensor:
    """Return the share of pixels that hit in the pointing game, ``(B,)``; NaN without lesion."""
    share = grow(masks, tolerance).flatten(1).double().mean(-1)
    return share.where(share > 0, torch.nan)


def grow(masks: Array, radius: float) -> Tensor:
    """Return the pixels within `radius` of each mask, ``(B, *S)`` bool; empty masks stay empty.

    Grow masks once and play the pointing game with tolerance 0 where many methods share them.
    """
    masks = _as_mask(masks)
    if radius <= 0:
        return masks
    out = np.zeros(masks.shape, dtype=bool)
    for grown, mask in zip(out, masks.cpu().numpy(), strict=True):
        if mask.any():
            grown[...] = distance_transform_edt(~mask) <= radius
    return torch.from_numpy(out).to(masks.device)


def mass_of_other_scans(
    maps: Array,
    masks: Array,
    patients: np.ndarray,
    labels: np.ndarray,
    *,
    donors: int = 64,
    seed: int = 0,
) -> Tensor:
    """Return the mass that the maps of *other* patients of the class put on each mask.

    Lesions lie where the retina does and maps are brightest in the middle, so a map of any scan
    of the class beats the area share. Only what a map scores above this prior shows that it
    looked at *this* scan.

    Args:
        maps: ``(B, *S)`` of one method.
        masks: ``(B, *S)`` bool.
        patients: Patient of each scan, ``(B,)``.
        labels: Class of each scan, ``(B,)``.
        donors: At most so many maps per class are tried on each mask, drawn at random.
        seed: Seed of that draw.

    Returns:
        ``(B,)`` float64: mean over the donors; NaN where there is none or the mask is empty.

    Raises:
        OctoscopeError: If the shapes do not fit.
    """
    maps, masks = flat(maps, masks)
    given = draw_donors(says_something(maps), labels, donors=donors, seed=seed)
    return mass_of_donors({k: maps[v] for k, v in given.items()}, given, masks, patients, labels)


def draw_donors(
    usable: Tensor, labels: np.ndarray, *, donors: int = 64, seed: int = 0
) -> dict[str, np.ndarray]:
    """Draw the scans of each class whose maps are tried on the masks of the others.

    Args:
        usable: ``(B,)`` bool: whose maps say something (`says_something`).
        labels: Class of each scan, ``(B,)``.
        donors: At most so many of a class.
        seed: Seed of the draw.

    Returns:
        Class → positions among the B scans.
    """
    labels, fit = np.asarray(labels), usable.numpy(force=True)
    generator = np.random.default_rng(seed)
    return {
        label: generator.permutation(np.flatnonzero((labels == label) & fit))[:donors]
        for label in np.unique(labels)
    }


def mass_of_donors(
    maps: Mapping[str, Array],
    given: Mapping[str, np.ndarray],
    masks: Array,
    patients: np.ndarray,
    labels: np.ndarray,
) -> Tensor:
    """Return `mass_of_other_scans` from the maps of the donors alone.

    Args:
        maps: Class → ``(D, *S)`` maps of its donors.
        given: Class → positions of its donors among the B scans, ``(D,)``.
        masks: ``(B, *S)`` bool.
        patients: Patient of each scan, ``(B,)``.
        labels: Class of each scan, ``(B,)``.

    Returns:
        ``(B,)`` float64.
    """
    masks = _as_mask(masks).flatten(1)
    patients, labels = np.asarray(patients), np.asarray(labels)
    out = torch.full((len(masks),), torch.nan, dtype=torch.float64, device=masks.device)
    has_lesion = masks.any(-1).numpy(force=True)
    for label, places in given.items():
        scans = np.flatnonzero((labels == label) & has_lesion)
        if min(places.size, scans.size) == 0:
            continue
        share = positive_share(_as_floats(maps[label]).flatten(1)).to(masks.device)
        crossed = torch.cat(
            [masks[some].to(share) @ share.T for some in in_blocks(scans)]
        ).double()  # (scans, donors)
        foreign = torch.as_tensor(patients[scans][:, None] != patients[places][None])
        foreign = foreign.to(crossed)
        out[scans] = (crossed * foreign).sum(-1) / foreign.sum(-1)
    return out


def in_blocks(places: np.ndarray, size: int = BLOCK) -> list[np.ndarray]:
    """Cut positions into pieces, so that what is made of each fits into memory."""
    return [places[start : start + size] for start in range(0, max(len(places), 1), size)]


def positive_share(maps: Tensor) -> Tensor:
    """Return the positive part of maps ``(..., B, P)``, each divided by its sum."""
    positive = maps.clamp(min=0)
    return positive.div_(positive.sum(-1, keepdim=True))


def says_something(maps: Tensor) -> Tensor:
    """Say of maps ``(..., B, P)`` whether they are finite and somewhere positive, ``(..., B)``."""
    low, high = maps.amin(-1), maps.amax(-1)  # NaN anywhere makes both NaN
    return low.isfinite() & high.isfinite() & (high > 0)


def flat(maps: Array, masks: Array) -> tuple[Tensor, Tensor]:
    """Return maps ``(..., B, P)`` and masks ``(B, P)`` on one device, P pixels.

    Raises:
        OctoscopeError: If the maps do not end in the shape of the masks.
    """
    maps, masks = torch.as_tensor(maps), _as_mask(masks)
    if masks.ndim < 2 or maps.shape[-masks.ndim :] != masks.shape:
        raise OctoscopeError(
            f"maps of shape {tuple(maps.shape)} do not fit masks of shape {tuple(masks.shape)}; "
            "read the maps at the size of the masks, one mask per scan"
        )
    maps = _as_floats(maps)
    return maps.flatten(maps.ndim - masks.ndim + 1), masks.flatten(1).to(maps.device)


def region_of(within: Array, masks: Array) -> Tensor:
    """Return a region ``(B, *S)`` as bool ``(B, P)``, on the device of the masks."""
    if tuple(within.shape) != tuple(masks.shape):
        raise OctoscopeError(
            f"a region of shape {tuple(within.shape)} does not fit masks of shape "
            f"{tuple(masks.shape)}; give one of the same size per scan"
        )
    return _as_mask(within).flatten(1).to(torch.as_tensor(masks).device)


def _as_floats(maps: Array) -> Tensor:
    """Return maps as a tensor, float32 unless they are float64."""
    maps = torch.as_tensor(maps)
    return maps if maps.dtype == torch.float64 else maps.float()


def _as_mask(mask: Array) -> Tensor:
    """Return a mask as a bool tensor; anything but zero is lesion."""
    mask = torch.as_tensor(mask)
    return mask if mask.dtype == torch.bool else mask != 0
