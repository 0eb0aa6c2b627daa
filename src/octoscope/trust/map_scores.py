"""Every localisation metric of a few maps; what several kinds of lesion share is made once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from octoscope.trust.localisation import pointing_game, relevance_mass, says_something
from octoscope.trust.overlap import (
    Region,
    ioa,
    iou,
    iou_of_both,
    mean_region,
    otsu_region,
    rank_both,
    share_told_right,
    with_background,
)
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
class Views:
    """Maps in all the forms that the metrics ask for.

    Attributes:
        maps: ``(m, *S)``.
        usable: ``(m,)`` bool: whether they say something.
        ranking: Their pixels.
        both: Their pairs of pixel and class.
        otsu: What lies above Otsu's threshold.
        mean: What lies above their mean.
    """

    maps: Tensor
    usable: Tensor
    ranking: Ranking
    both: Ranking
    otsu: Region
    mean: Region

    @classmethod
    def of(cls, maps: Tensor) -> Views:
        """Make them of maps ``(m, *S)``."""
        maps = maps if maps.dtype == torch.float64 else maps.float()
        flat = maps.flatten(1)
        ranking = rank_pixels(flat)
        return cls(
            maps,
            says_something(flat),
            ranking,
            rank_both(ranking),
            otsu_region(flat, ranking),
            mean_region(flat),
        )

    def at(self, rows: np.ndarray) -> Views:
        """Return those of some of the maps."""
        if len(rows) == len(self.maps):
            return self
        some = torch.as_tensor(rows, device=self.maps.device)
        return Views(
            self.maps[some],
            self.usable[some],
            self.ranking[some],
            self.both[some],
            self.otsu[some],
            self.mean[some],
        )


def scores_of_maps(
    views: Views, masks: Tensor, grown: Tensor, retina: Tensor | None
) -> dict[str, Tensor]:
    """Return the metrics that hang on a scan's own map, ``(m,)`` each.

    Args:
        views: Of maps ``(m, *S)``.
        masks: ``(m, *S)`` bool; no mask is empty.
        grown: ``(m, *S)`` bool: the masks with the tolerance of the pointing game around them.
        retina: ``(m, *S)`` bool or None.
    """
    device = views.maps.device
    lesion = masks.flatten(1).to(device)
    met = meet(views.ranking, lesion)
    rank = top_share(views.ranking, met).where(views.usable, torch.nan)
    precision = average_precision(views.ranking, met)
    soft = average_precision(views.both, meet(views.both, with_background(lesion)))
    out = {
        "relevance_mass": relevance_mass(views.maps, masks),
        "pointing_game": pointing_game(views.maps, grown, tolerance=0),
        "rank_accuracy": rank,
        "pixel_ap": precision.where(views.usable, torch.nan),
        "iou_own_area": iou_of_equal_areas(rank),
        "iou_otsu": iou(views.otsu, lesion),
        "ioa": ioa(views.otsu, lesion),
        "ioa_weighted": ioa(views.otsu, lesion, weighted=True),
        "pixel_accuracy": share_told_right(views.mean, lesion),
        "mean_iou": iou_of_both(views.mean, lesion),
        "soft_ap": soft.where(views.mean.defined, torch.nan),
    }
    if retina is None:
        return out
    region = retina.flatten(1).to(device)
    met = meet(views.ranking, lesion, region)
    drawn = views.maps.flatten(1).where(region, 0)
    there = (lesion & region).any(-1) & says_something(drawn)
    return out | {
        "relevance_mass_retina": relevance_mass(views.maps, masks, retina),
        "rank_accuracy_retina": top_share(views.ranking, met).where(there, torch.nan),
        "pixel_ap_retina": average_precision(views.ranking, met).where(there, torch.nan),
    }
