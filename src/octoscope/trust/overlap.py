"""How well the region that a map marks coincides with the lesions.

The region is what lies above a threshold that the map sets itself: Otsu's, or its mean. Only the
positive part counts (see `localisation`). A map that is constant there marks no region; it gives
NaN as does one that says nothing, or an image without lesion.

Intersection over attention: Gotkowski et al., "M3d-CAM", arXiv:2007.00453 (2020), as the evaluator
of its library defines it. Segmentation protocol (what lies above the mean): Chefer, Gur & Wolf,
"Transformer Interpretability Beyond Attention Visualization", CVPR 2021, section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from octoscope.trust.localisation import Array, flat, says_something
from octoscope.trust.pixels import Pixels
from octoscope.trust.ranked import Ranking, rank_pixels

BINS = 256
"""Of the histogram in which Otsu's threshold is sought, as in scikit-image."""


def iou_at_otsu(maps: Array, masks: Array) -> Tensor:
    """Return the intersection over union of the lesion with what lies above Otsu's threshold.

    Otsu, "A Threshold Selection Method from Gray-Level Histograms", IEEE SMC 1979. Chance is not
    known: it hangs on how large a region the map marks.

    Args:
        maps: ``(..., B, *S)``.
        masks: ``(B, *S)`` bool; the lesions.

    Returns:
        ``(..., B)`` float64 in 0…1; NaN where the mask is empty or the map marks no region.

    Raises:
        OctoscopeError: If the shapes do not fit.
    """
    drawn, lesion = flat(maps, masks)
    return iou(otsu_region(drawn), Pixels.of(lesion))


def intersection_over_attention(maps: Array, masks: Array, *, weighted: bool = False) -> Tensor:
    """Return which share of what lies above Otsu's threshold lies on the lesion.

    IoA = |A ∩ mask| / |A|;  weighted IoA = sum_{A ∩ mask} M / sum_A M

    Both ask for precision alone: a map that marks one pixel of the lesion is perfect. Weighted
    IoA is the relevance mass of the map with everything below the threshold set to zero, so what
    is faint and everywhere costs nothing here but does there. (The authors take absolute values,
    and stretch the map from its minimum to 0…1 before weighing; here it is weighed by its
    positive part. Where that is zero somewhere, the two agree.) Chance of both is the lesion's
    share of the area.

    Args:
        maps: ``(..., B, *S)``.
        masks: ``(B, *S)`` bool; the lesions.
        weighted: Weigh every pixel by its value.

    Returns:
        ``(..., B)`` float64 in 0…1; NaN where the mask is empty or the map marks no region.

    Raises:
        OctoscopeError: If the shapes do not fit.
    """
    drawn, lesion = flat(maps, masks)
    return ioa(otsu_region(drawn), Pixels.of(lesion), weighted=weighted)


def pixel_accuracy(maps: Array, masks: Array) -> Tensor:
    """Return the share of pixels that are told right by what lies above the map's mean.

    Background is most of a scan, so marking nothing already scores 1 minus the lesion's area.

    Args:
        maps: ``(..., B, *S)``.
        masks: ``(B, *S)`` bool; the lesions.

    Returns:
        ``(..., B)`` float64 in 0…1; NaN where the mask is empty or the map marks no region.

    Raises:
        OctoscopeError: If the shapes do not fit.
    """
    drawn, lesion = flat(maps, masks)
    return share_told_right(mean_region(drawn), Pixels.of(lesion))


def mean_iou(maps: Array, masks: Array) -> Tensor:
    """Return the mean of the IoU of lesion and of background, marked by the map's mean.

    mIoU = (|A ∩ m| / |A ∪ m| + |¬A ∩ ¬m| / |¬A ∪ ¬m|) / 2

    The authors sum intersections and unions over all images first; here every scan has its own,
    so that patients can be resampled. A mask that fills the frame has no background: NaN.

    Args:
        maps: ``(..., B, *S)``.
        masks: ``(B, *S)`` bool; the lesions.

    Returns:
        ``(..., B)`` float64 in 0…1; NaN where the mask is empty or full, or the map marks no
        region.

    Raises:
        OctoscopeError: If the shapes do not fit.
    """
    drawn, lesion = flat(maps, masks)
    return iou_of_both(mean_region(drawn), Pixels.of(lesion))


def soft_average_precision(maps: Array, masks: Array) -> Tensor:
    """Return the mAP of the segmentation protocol, without a threshold.

    The map, stretched to s in 0…1, is the score of lesion and 1 - s that of background; both
    stand in one ranking of 2 P pairs of pixel and class, whose average precision this is. Most of
    the pairs that are right are of background, so a dark map scores high wherever it is dark: the
    values of two maps on one scan may be compared, but not with `pixel_average_precision`.

    Args:
        maps: ``(..., B, *S)``.
        masks: ``(B, *S)`` bool; the lesions.

    Returns:
        ``(..., B)`` float64 in 0…1; NaN where the mask is empty or the map is constant.

    Raises:
        OctoscopeError: If the shapes do not fit.
    """
    drawn, lesion = flat(maps, masks)
    score = precision_of_both(rank_both(rank_pixels(drawn)), lesion)
    return score.where(lesion.any(-1) & _varies(drawn), torch.nan)


@dataclass(frozen=True, eq=False)
class Region:
    """What maps mark; several masks may share one.

    Attributes:
        inside: ``(..., B, P)`` bool.
        weights: ``(..., B, P)``; the positive part of the maps.
        defined: ``(..., B)`` bool; whether there is a region.
    """

    inside: Tensor
    weights: Tensor
    defined: Tensor

    @cached_property
    def area(self) -> Tensor:
        """``(..., B)`` int64; how many pixels are inside."""
        return self.inside.sum(-1)

    @cached_property
    def scaled(self) -> Tensor:
        """``(..., B, P)`` float64; the weights inside, relative to the highest."""
        weights = self.weights.where(self.inside, 0)  # unscaled, large ones would overflow in sums
        return (weights / weights.amax(-1, keepdim=True)).double()


def otsu_region(maps: Tensor, ranking: Ranking | None = None) -> Region:
    """Return what lies above Otsu's threshold of maps ``(..., B, P)``.

    Args:
        maps: The maps.
        ranking: Their pixels, if they are ranked already.
    """
    ranking = ranking or rank_pixels(maps)
    return _above(maps, otsu_threshold(ranking.values.flip(-1)))


def mean_region(maps: Tensor) -> Region:
    """Return what lies above the mean of the positive part of maps ``(..., B, P)``."""
    return _above(maps, maps.clamp(min=0).double().mean(-1))


def otsu_threshold(values: Tensor) -> Tensor:
    """Return Otsu's threshold of values ``(..., P)`` in rising order, ``(...,)`` float64.

    The histogram has `BINS` bins from the lowest to the highest value; the threshold is the
    centre of the bin after which the variance between the two classes is largest, the first of
    several. What lies above it is foreground.
    """
    values = values.double().contiguous()
    low, high = values[..., :1], values[..., -1:]
    step = (high - low) / BINS
    edges = low + torch.arange(BINS, device=values.device) * step
    below = torch.searchsorted(values, edges.contiguous())  # counted before each bin
    counts = below.diff(append=torch.full_like(below[..., :1], values.shape[-1])).double()
    # Means in units of bins: whole and half numbers, so that equal variances are exactly equal.
    centre = torch.arange(BINS, device=values.device) + 0.5
    mass, moment = counts.cumsum(-1)[..., :-1], (counts * centre).cumsum(-1)
    rest = values.shape[-1] - mass
    between = moment[..., :-1] / mass - (moment[..., -1:] - moment[..., :-1]) / rest
    place = (mass * rest * between**2).argmax(-1, keepdim=True)
    return (low + (place + 0.5) * step).squeeze(-1)


def iou(region: Region, pixels: Pixels) -> Tensor:
    """Return the intersection over union of regions and masks ``(B, P)``, ``(..., B)``."""
    shared, union = _shared_and_union(region, pixels)
    return _where_defined(shared / union, region, pixels)


def ioa(region: Region, pixels: Pixels, *, weighted: bool = False) -> Tensor:
    """Return the share of a region, or of its weights, in masks ``(B, P)``, ``(..., B)``."""
    if weighted:
        share = pixels.total_of(region.scaled) / region.scaled.sum(-1)
        return _where_defined(share.clamp(max=1), region, pixels)  # but for rounding
    return _where_defined(pixels.total_of(region.inside) / region.area, region, pixels)


def share_told_right(region: Region, pixels: Pixels) -> Tensor:
    """Return the share of pixels where regions and masks ``(B, P)`` agree, ``(..., B)``."""
    shared, union = _shared_and_union(region, pixels)
    return _where_defined((pixels.size - union + shared) / pixels.size, region, pixels)


def iou_of_both(region: Region, pixels: Pixels) -> Tensor:
    """Return the mean IoU of regions with masks ``(B, P)``, and of what neither holds."""
    shared, union = _shared_and_union(region, pixels)
    background = (pixels.size - union) / (pixels.size - shared)
    both = (shared / union + background) / 2
    return _where_defined(both.where(pixels.count < pixels.size, torch.nan), region, pixels)


def rank_both(ranking: Ranking) -> Ranking:
    """Rank the pairs of pixel and class, lesion or background, of ranked pixels.

    The first P of the 2 P are the pixels as lesion.
    """
    values = ranking.values.double()
    low, high = values[..., -1:], values[..., :1]
    soft = (values - low) / (high - low)
    both = rank_pixels(torch.cat([soft, 1 - soft], -1), runs=True)
    pixels = torch.cat([ranking.order, ranking.order + soft.shape[-1]], -1)
    return Ranking(pixels.gather(-1, both.order), both.values, both.last)


def precision_of_both(both: Ranking, masks: Tensor) -> Tensor:
    """Return the average precision of the pairs of pixel and class, ``(..., B)`` float64.

    Args:
        both: `rank_both` of maps ``(..., B, P)``.
        masks: ``(B, P)`` bool; half of all pairs are right.
    """
    right = torch.cat([masks, ~masks], -1).expand_as(both.order).gather(-1, both.order)
    found = right.cumsum(-1, dtype=torch.int32).gather(-1, both.last)  # up to the end of each tie
    precision = found.double() / (both.last + 1)
    return precision.where(right, 0).sum(-1) / masks.shape[-1]


def _shared_and_union(region: Region, pixels: Pixels) -> tuple[Tensor, Tensor]:
    """Return how many pixels lie in both, and in any, of regions and masks; whole numbers."""
    shared = pixels.total_of(region.inside)
    return shared, region.area + pixels.count - shared


def _above(maps: Tensor, threshold: Tensor) -> Region:
    """Return where the positive part lies above a threshold ``(..., B)``."""
    positive = maps.clamp(min=0)
    inside = positive.double() > threshold.unsqueeze(-1)
    return Region(inside, positive, _varies(maps) & inside.any(-1))


def _varies(maps: Tensor) -> Tensor:
    """Say of maps ``(..., B, P)`` whether their positive part holds more than one value."""
    positive = maps.clamp(min=0)
    return says_something(maps) & (positive.amin(-1) < positive.amax(-1))


def _where_defined(score: Tensor, region: Region, pixels: Pixels) -> Tensor:
    """Return NaN where there is no lesion or no region."""
    return score.where(region.defined & (pixels.count > 0), torch.nan)
