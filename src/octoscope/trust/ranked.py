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
from functools import cached_property

import torch
from torch import Tensor

from octoscope.trust.localisation import Array, flat, region_of, says_something
from octoscope.trust.pixels import Pixels


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

    @cached_property
    def place(self) -> Tensor:
        """``(..., B, P)`` int64; the place of each pixel, the inverse of `order`."""
        places = torch.arange(self.order.shape[-1], device=self.order.device)
        return torch.empty_like(self.order).scatter_(-1, self.order, places.expand_as(self.order))

    def seen(self, region: Tensor) -> Tensor:
        """Return how many pixels of a region ``(B, P)`` stand up to each place, as int64."""
        return region.expand_as(self.order).gather(-1, self.order).cumsum(-1)


def rank_pixels(maps: Tensor, *, runs: bool = False) -> Ranking:
    """Rank the pixels of maps ``(..., B, P)`` by their positive part.

    Args:
        maps: The maps.
        runs: Whether they are made of a few sorted pieces, which a merging sort is quicker at.
    """
    positive = maps.clamp(min=0)
    order = _falling(positive, runs)
    values = positive.gather(-1, order)
    return Ranking(order, values, _last_tied(values))


@dataclass(frozen=True, eq=False)
class Met:
    """Where the pixels of masks stand in the rankings of as many maps.

    Attributes:
        pixels: The n pixels.
        keys: ``(..., n)`` int64; row · P + place of each, rising.
        seen: ``(..., B, P)`` int64; pixels of the region up to each place, None for all pixels.
    """

    pixels: Pixels
    keys: Tensor
    seen: Tensor | None = None

    def found(self, row: Tensor, place: Tensor) -> Tensor:
        """Return how many pixels of the masks `row` ``(m,)`` stand up to `place` ``(..., m)``."""
        before = self.pixels.count.cumsum(0) - self.pixels.count
        reach = (row * self.pixels.size + place).contiguous()
        return torch.searchsorted(self.keys, reach, right=True) - before[row]

    def seen_to(self, row: Tensor, place: Tensor) -> Tensor:
        """Return how many pixels of the region stand up to `place` ``(..., m)``, likewise."""
        if self.seen is None:
            return place + 1
        reach = row * self.pixels.size + place
        return self.seen.flatten(-2).gather(-1, reach.clamp(min=0)).where(place >= 0, 0)


def meet(ranking: Ranking, pixels: Pixels, seen: Tensor | None = None) -> Met:
    """Find the pixels of masks in rankings.

    Args:
        ranking: Of maps ``(..., B, P)``.
        pixels: Of masks ``(B, P)``; within the region, if there is one.
        seen: `Ranking.seen` of the region whose pixels alone are ranked, if there is one.
    """
    keys = pixels.row * pixels.size + pixels.take(ranking.place)
    return Met(pixels, keys.sort(-1).values, seen)


def top_share(ranking: Ranking, met: Met) -> Tensor:
    """Return the share of the k highest pixels that lies in a mask of k, ``(..., B)`` float64."""
    last = ranking.last
    k = met.pixels.count.expand(last.shape[:-1])  # (..., B)
    row = torch.arange(last.shape[-2], device=last.device)
    cut = k - 1  # the place at which k pixels have been seen
    if met.seen is not None:
        cut = torch.searchsorted(met.seen, k.unsqueeze(-1).contiguous()).squeeze(-1)
    below = last.gather(-1, cut.clamp(0, last.shape[-1] - 1).unsqueeze(-1))  # ends the tie there
    above = torch.searchsorted(last, below).squeeze(-1) - 1  # the place before that tie
    below = below.squeeze(-1)
    found_above, found_below = met.found(row, above), met.found(row, below)
    seen_above, seen_below = met.seen_to(row, above), met.seen_to(row, below)
    taken = (k - seen_above).double() / (seen_below - seen_above)
    return (found_above + taken * (found_below - found_above)) / k


def average_precision(ranking: Ranking, met: Met) -> Tensor:
    """Return the mean precision at a mask's pixels, each at the end of its tie, ``(..., B)``."""
    last = ranking.last.flatten(-2).gather(-1, met.keys)
    row = met.pixels.row
    precision = met.found(row, last).double() / met.seen_to(row, last)
    return met.pixels.total(precision) / met.pixels.count


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
    seen = None if region is None else ranking.seen(region)
    score = metric(ranking, meet(ranking, Pixels.of(lesion), seen))
    return score.where(lesion.any(-1) & says_something(drawn), torch.nan)


def _last_tied(values: Tensor) -> Tensor:
    """Return the last place that is tied with each, of falling values ``(..., P)``."""
    ends = torch.ones_like(values, dtype=torch.bool)
    ends[..., :-1] = values[..., :-1] != values[..., 1:]
    (last,) = ends.flatten().nonzero(as_tuple=True)  # the last place of all is an end in each map
    length = last.diff(prepend=last.new_full((1,), -1))
    place = last % values.shape[-1]
    return place.repeat_interleave(length, output_size=values.numel()).view(values.shape)


def _falling(values: Tensor, runs: bool) -> Tensor:
    """Return the order of pixels from high to low; that of tied ones is of no consequence."""
    if values.device.type != "cpu":
        return values.argsort(dim=-1, descending=True)
    # Several times as quick as torch on a CPU.
    order = (-values.detach()).numpy().argsort(axis=-1, kind="stable" if runs else "quicksort")
    return torch.from_numpy(order)
