"""Every localisation metric of a few maps; what several kinds of lesion share is made once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from octoscope.trust.localisation import highest, hits, mass_on, positive_share, says_something
from octoscope.trust.overlap import (
    Region,
    ioa,
    iou,
    iou_of_both,
    mean_region,
    otsu_region,
    precision_of_both,
    rank_both,
    share_told_right,
)
from octoscope.trust.pixels import Pixels
from octoscope.trust.ranked import (
    Ranking,
    average_precision,
    iou_of_equal_areas,
    meet,
    rank_pixels,
    top_share,
)

PIXELS = 2**18
"""Pixels of maps that are ranked at once: a ranking holds several numbers for each."""


@dataclass(frozen=True, eq=False)
class Within:
    """What of maps lies in the retina.

    Attributes:
        retina: ``(m, P)`` bool.
        share: ``(m, P)``; their positive part within it, adding up to 1.
        usable: ``(m,)`` bool: whether they say something there.
        seen: ``(m, P)``; pixels of the retina up to each place of their ranking.
    """

    retina: Tensor
    share: Tensor
    usable: Tensor
    seen: Tensor


@dataclass(frozen=True, eq=False)
class Views:
    """Maps in all the forms that the metrics ask for, P pixels each.

    Attributes:
        share: ``(m, P)``; their positive part, adding up to 1.
        usable: ``(m,)`` bool: whether they say something.
        tops: The pixels at their maximum.
        ranking: Their pixels.
        both: Their pairs of pixel and class.
        otsu: What lies above Otsu's threshold.
        mean: What lies above their mean.
        within: What lies in the retina, None where that is not known.
    """

    share: Tensor
    usable: Tensor
    tops: Pixels
    ranking: Ranking
    both: Ranking
    otsu: Region
    mean: Region
    within: Within | None

    @classmethod
    def of(cls, maps: Tensor, retina: Tensor | None = None) -> Views:
        """Make them of maps ``(m, *S)``, and retinas ``(m, *S)`` bool."""
        maps = (maps if maps.dtype == torch.float64 else maps.float()).flatten(1)
        ranking = rank_pixels(maps)
        within = None
        if retina is not None:
            region = retina.flatten(1).to(maps.device)
            drawn = maps.where(region, 0)
            within = Within(
                region, positive_share(drawn), says_something(drawn), ranking.seen(region)
            )
        return cls(
            positive_share(maps),
            says_something(maps),
            highest(maps),
            ranking,
            rank_both(ranking),
            otsu_region(maps, ranking),
            mean_region(maps),
            within,
        )


def scores_of_maps(views: Views, masks: Tensor, grown: Tensor) -> dict[str, Tensor]:
    """Return the metrics that hang on a scan's own map, ``(m,)`` each; NaN of an empty mask.

    Args:
        views: Of maps ``(m, *S)``.
        masks: ``(m, *S)`` bool.
        grown: ``(m, *S)`` bool: the masks with the tolerance of the pointing game around them.
    """
    lesion = masks.flatten(1).to(views.share.device)
    pixels = Pixels.of(lesion)
    there = pixels.count > 0
    met = meet(views.ranking, pixels)
    rank = top_share(views.ranking, met).where(views.usable, torch.nan)
    precision = average_precision(views.ranking, met)
    pointed = hits(views.tops, grown.flatten(1).to(lesion.device))
    out = {
        "relevance_mass": mass_on(views.share, pixels).where(views.usable, torch.nan),
        "pointing_game": pointed.where(views.usable, torch.nan),
        "rank_accuracy": rank,
        "pixel_ap": precision.where(views.usable, torch.nan),
        "iou_own_area": iou_of_equal_areas(rank),
        "iou_otsu": iou(views.otsu, pixels),
        "ioa": ioa(views.otsu, pixels),
        "ioa_weighted": ioa(views.otsu, pixels, weighted=True),
        "pixel_accuracy": share_told_right(views.mean, pixels),
        "mean_iou": iou_of_both(views.mean, pixels),
        "soft_ap": _soft_precision(views, lesion, there),
    }
    within = views.within
    if within is None:
        return out
    mass = mass_on(within.share, pixels)
    met = meet(views.ranking, Pixels.of(lesion & within.retina), within.seen)
    return out | {
        "relevance_mass_retina": mass.where(views.usable, torch.nan),
        "rank_accuracy_retina": top_share(views.ranking, met).where(within.usable, torch.nan),
        "pixel_ap_retina": average_precision(views.ranking, met).where(within.usable, torch.nan),
    }


def _soft_precision(views: Views, lesion: Tensor, there: Tensor) -> Tensor:
    """Return the average precision of both classes ``(m,)`` of the scans that have a lesion.

    It alone asks all pixels, so that it is spared the scans that it is undefined for.
    """
    some = (there & views.mean.defined).nonzero().squeeze(1)
    score = torch.full(there.shape, torch.nan, dtype=torch.float64, device=lesion.device)
    score[some] = precision_of_both(views.both[some], lesion[some])
    return score
