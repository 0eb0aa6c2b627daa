"""Whether a map ranks the pixels of the lesions above the others.

As throughout (see `localisation`) the positive part of a map is its evidence: whatever is not
positive is tied at zero, since to speak against the class is not to say where it is. So only the
order of the positive part counts, and any rising transform of it scores the same. Of tied pixels
none comes first: those at a cut count in proportion, which is what breaking ties at random gives
on average. A constant map then scores the lesion's share of the area, and an image without lesion
or a map that says nothing NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from octoscope.trust.localisation import Array, flat, region_of, says_something


def relevance_rank_accuracy(maps: Array, masks: Array, within: Array | None = None) -> Tensor:
    """Return which share of the k highest pixels lies on the lesion of k pixels.

    accuracy = |top_k(M) ∩ mask| / k, k = |mask|

    Arras et al., "CLEVR-XAI", Information Fusion 2022, section 3.3 (there with absolute values
    or sums over colours, and ties as they come). Chance is the lesion's share of the area.

    Args:
        maps: ``(..., B, *S)``.
        masks: ``(B, *S)`` bool; the lesions.
        within: ``(B, *S)`` bool; if given (the retina), only its pixels are ranked.

    Returns:
        ``(..., B)`` float64 in 0…1; NaN where the mask is empty (in the region) or the map has no
        positive part there or is not finite.

    Raises:
        OctoscopeError: If the shapes do not fit.
    """
    return _judged(maps, masks, within, top_share)


def pixel_average_precision(maps: Array, masks: Array, within: Array | None = None) -> Tensor:
    """Return the area under the precision–recall curve of the pixels, by the step rule.

    AP = sum_t (R_t - R_{t-1}) P_t over the values t of the map from high to low

    Everingham et al., "The PASCAL VOC Challenge", IJCV 2010, section 4.2, without its
    interpolation, as in scikit-learn's `average_precision_score`. Chance is the lesion's share of
    the area. A map that is silent on the lesion ties it with all else that it is silent on, and
    scores near chance, not 0; only one that ranks the lesion last scores less.

    Args:
        maps: ``(..., B, *S)``.
        masks: ``(B, *S)`` bool; the lesions.
        within: ``(B, *S)`` bool; if given (the retina), only its pixels are ranked.

    Returns:
        ``(..., B)`` float64 in 0…1; NaN as of `relevance_rank_accuracy`.

    Raises:
        OctoscopeError: If the shapes do not fit.
    """
    return _judged(maps, masks, within, average_precision)


def iou_at_own_area(maps: Array, masks: Array, within: Array | None = None) -> Tensor:
    """Return the IoU of the lesion with the map's highest pixels, as many as the lesion has.

    IoU = |top_k ∩ mask| / (2 k - |top_k ∩ mask|), k = |mask|

    The threshold is told the lesion's size, so it asks only for the place. A rising function of
    `relevance_rank_accuracy`, r / (2 - r), on the scale of the IoU. Chance is a / (2 - a) of the
    area share a.

    Args:
        maps: ``(..., B, *S)``.
        masks: ``(B, *S)`` bool; the lesions.
        within: ``(B, *S)`` bool; if given (the retina), only its pixels are ranked.

    Returns:
        ``(..., B)`` float64 in 0…1; NaN as of `relevance_rank_accuracy`.

    Raises:
        OctoscopeError: If the shapes do not fit.
    """
    return iou_of_equal_areas(relevance_rank_accuracy(maps, masks, within))


def iou_of_equal_areas(share: Tensor) -> Tensor:
    """Return the IoU of two areas of one size that share this much of each."""
    return share / (2 - share)


@dataclass(frozen=True, eq=False)
class Ranking:
    """The P pixels of maps from the highest to the lowest; several masks may share one.

    Attributes:
        order: ``(..., B, P)`` int64; where the pixel of each place in the ranking lies.
        values: ``(..., B, P)``; the positive part in that order.
        last: ``(..., B, P)`` int64; the last place that is tied with each.
    """

    order: Tensor
    values: Tensor
    last: Tensor

    def __getitem__(self, rows: Tensor) -> Ranking:
        """Return that of some of the maps."""
        return Ranking(self.order[rows], self.values[rows], self.last[rows])


def rank_pixels(maps: Tensor, *, runs: bool = False) -> Ranking:
    """Rank the pixels of maps ``(..., B, P)`` by their positive part.

    Args:
        maps: The maps.
        runs: Whether they are made of a few sorted pieces, which a merging sort is quicker at.
    """
    positive = maps.clamp(min=0)
    order = _falling(positive, runs)
    values = positive.gather(-1, order)
    ends = torch.ones_like(values, dtype=torch.bool)
    ends[..., :-1] = values[..., :-1] != values[..., 1:]
    place = torch.arange(maps.shape[-1], device=maps.device)
    last = place.where(ends, maps.shape[-1]).flip(-1).cummin(-1).values.flip(-1)
    return Ranking(order, values, last)


@dataclass(frozen=True, eq=False)
class Met:
    """What is met on the way down a ranking.

    Attributes:
        hit: ``(..., B, P)`` bool; whether the pixel of each place lies in the mask.
        found: ``(..., B, P)`` int32; pixels of the mask up to each place.
        seen: ``(..., B, P)`` integer; pixels of the region up to each place.
    """

    hit: Tensor
    found: Tensor
    seen: Tensor


def meet(ranking: Ranking, masks: Tensor, region: Tensor | None = None) -> Met:
    """Walk down a ranking.

    Args:
        ranking: Of maps ``(..., B, P)``.
        masks: ``(B, P)`` bool.
        region: ``(B, P)`` bool or None; whose pixels alone are ranked.
    """
    order = ranking.order
    masks = masks if region is None else masks & region
    hit = masks.expand_as(order).gather(-1, order)
    found = hit.cumsum(-1, dtype=torch.int32)
    if region is None:
        seen = torch.arange(1, order.shape[-1] + 1, device=order.device).expand_as(order)
    else:
        seen = region.expand_as(order).gather(-1, order).cumsum(-1, dtype=torch.int32)
    return Met(hit, found, seen)


def top_share(ranking: Ranking, met: Met) -> Tensor:
    """Return the share of the k highest pixels that lies in a mask of k, ``(..., B)`` float64."""
    found, seen = met.found, met.seen
    k = found[..., -1:]
    cut = (seen < k).sum(-1, keepdim=True)  # the place at which k pixels have been seen
    tied = ranking.values.gather(-1, cut)
    above = (ranking.values > tied).sum(-1, keepdim=True)  # places before those tied at the cut
    below = ranking.last.gather(-1, cut)
    found_above, found_below = _before(found, above), found.gather(-1, below)
    seen_above, seen_below = _before(seen, above), seen.gather(-1, below)
    taken = (k - seen_above).double() / (seen_below - seen_above)
    return ((found_above + taken * (found_below - found_above)) / k).squeeze(-1)


def average_precision(ranking: Ranking, met: Met) -> Tensor:
    """Return the mean precision at a mask's pixels, each at the end of its tie, ``(..., B)``."""
    precision = (met.found.double() / met.seen).gather(-1, ranking.last)
    return precision.where(met.hit, 0).sum(-1) / met.found[..., -1]


def _judged(
    maps: Array,
    masks: Array,
    within: Array | None,
    metric: Callable[[Ranking, Met], Tensor],
) -> Tensor:
    """Return a metric of rankings where it is defined."""
    region = None if within is None else region_of(within, masks)
    drawn, lesion = flat(maps, masks)
    if region is not None:
        region = region.to(drawn.device)
        drawn, lesion = drawn.where(region, 0), lesion & region
    ranking = rank_pixels(drawn)
    score = metric(ranking, meet(ranking, lesion, region))
    return score.where(lesion.any(-1) & says_something(drawn), torch.nan)


def _before(counts: Tensor, place: Tensor) -> Tensor:
    """Return running counts ``(..., P)`` as they stood before a place ``(..., 1)``."""
    return counts.gather(-1, (place - 1).clamp(min=0)).where(place > 0, 0)


def _falling(values: Tensor, runs: bool) -> Tensor:
    """Return the order of pixels from high to low; that of tied ones is of no consequence."""
    if values.device.type != "cpu":
        return values.argsort(dim=-1, descending=True)
    # Several times as quick as torch on a CPU.
    order = (-values.detach()).numpy().argsort(axis=-1, kind="stable" if runs else "quicksort")
    return torch.from_numpy(order)
