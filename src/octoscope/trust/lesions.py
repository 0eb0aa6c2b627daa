"""The localisation scores of a model's maps against lesion masks, as one score table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from octoscope.errors import OctoscopeError
from octoscope.trust.localisation import (
    Array,
    draw_donors,
    grow,
    in_blocks,
    lesion_area,
    mass_of_donors,
    pointing_chance,
)
from octoscope.trust.localisation_metrics import ROWS
from octoscope.trust.map_scores import PIXELS, Views, scores_of_maps
from octoscope.trust.ranked import iou_of_equal_areas
from octoscope.trust.scores import ANY_LESION, TOLERANCE

OF_SCANS = (
    "lesion_area",
    "pointing_chance",
    "iou_chance",
    "lesion_area_retina",
    "mass_of_other_scans",
)
"""Metrics that describe the scan or chance, and not how good the map is."""

HIGHER_IS_BETTER = {
    **dict.fromkeys(OF_SCANS),
    **{about.name: about.higher_is_better for about in ROWS},
}
"""Metric → its direction; None for those of `OF_SCANS`."""


class Readable(Protocol):
    """Maps that are read when asked for."""

    def __len__(self) -> int:
        """Count them."""

    def __getitem__(self, places: np.ndarray, /) -> Array:
        """Return those at positions ``(n,)``, ``(n, *S)``."""


def score_localisation(
    maps: Mapping[str, Array | Readable],
    masks: Array,
    *,
    scans: Sequence[str],
    patients: Sequence[str],
    labels: Sequence[str],
    model: str,
    seed: int,
    lesions: Mapping[int, str] | None = None,
    retina: Array | None = None,
    tolerance: float = TOLERANCE,
) -> pd.DataFrame:
    """Score the maps of several methods against lesion masks, over all lesions and by type.

    Scans without any lesion keep one row per method with a ``lesion_area`` of 0, so that they
    are counted; a lesion type makes rows only for the scans that have it. The methods are taken
    one after the other and `BLOCK` scans at a time, so `maps` may be a mapping that reads them from
    disk.

    Args:
        maps: Method → ``(B, *S)`` maps of the explained class: an array, or anything of length B
            that gives the maps at positions ``(n,)`` as an array.
        masks: ``(B, *S)`` lesion index, 0 for background.
        scans: Name of each scan, ``(B,)``.
        patients: Patient of each scan, ``(B,)``.
        labels: Class of each scan, ``(B,)``.
        model: Name of the model.
        seed: Seed of the model.
        lesions: Mask value → name; without names only all lesions together are scored.
        retina: ``(B, *S)`` bool; if given, also scores within the retina.
        tolerance: Of the pointing game, in pixels.

    Returns:
        A score table (see `scores`) with the further columns ``lesion`` and ``label``.

    Raises:
        OctoscopeError: If the shapes do not fit, or a mask holds a value that `lesions` lacks.
    """
    index = torch.as_tensor(masks)
    unknown = sorted(set(torch.unique(index).tolist()) - {0, *(lesions or {})})
    if lesions and unknown:
        raise OctoscopeError(
            f"the masks hold the value {unknown[0]}, which names no lesion "
            f"({', '.join(f'{k}: {v}' for k, v in lesions.items())}); complete lesions.json"
        )
    kinds = {ANY_LESION: index != 0}
    kinds |= {name: index == value for value, name in (lesions or {}).items() if value != 0}
    region = None if retina is None else torch.as_tensor(retina) != 0
    targets = {name: _Target.of(mask, region, tolerance) for name, mask in kinds.items()}
    identity = pd.DataFrame({"scan": scans, "patient": patients, "label": labels}, dtype=object)
    parts = []
    for method, drawn in maps.items():
        found = _scores(drawn, targets, identity)
        for lesion, target in targets.items():
            scores = found[lesion]
            if lesion == ANY_LESION:
                parts.append(target.without(identity).assign(method=method))
            parts += [
                identity.iloc[target.rows].assign(
                    method=method, metric=metric, lesion=lesion, value=values.numpy(force=True)
                )
                for metric, values in scores.items()
            ]
    table = pd.concat(parts, ignore_index=True).assign(model=model, seed=int(seed))
    table["higher_is_better"] = table["metric"].map(HIGHER_IS_BETTER).astype("boolean")
    return table[
        ["scan", "patient", "label", "model", "seed", "method", "metric", "lesion", "value",
         "higher_is_better"]
    ]  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Target:
    """One kind of lesion, in the n of B scans that have it, with what all methods share.

    Attributes:
        rows: Positions of the scans that have it, ``(n,)``.
        mask: ``(B, *S)`` bool.
        grown: ``(n, *S)``: the mask with the tolerance of the pointing game around it.
        retina: ``(n, *S)`` bool or None.
        constants: What does not depend on the map: metric → ``(n,)``.
    """

    rows: np.ndarray
    mask: Tensor
    grown: Tensor
    retina: Tensor | None
    constants: dict[str, Tensor]

    @classmethod
    def of(cls, mask: Tensor, retina: Tensor | None, tolerance: float) -> _Target:
        """Gather it from a mask ``(B, *S)`` and perhaps a retina ``(B, *S)``."""
        rows = np.flatnonzero(mask.flatten(1).any(-1).numpy(force=True))
        grown = grow(mask[rows], tolerance)
        area = lesion_area(mask[rows])
        constants = {
            "lesion_area": area,
            "pointing_chance": pointing_chance(grown, tolerance=0),
            "iou_chance": iou_of_equal_areas(area),
        }
        if retina is not None:
            constants["lesion_area_retina"] = lesion_area(mask[rows], retina[rows])
        return cls(rows, mask, grown, None if retina is None else retina[rows], constants)

    def without(self, identity: pd.DataFrame) -> pd.DataFrame:
        """Return rows that say of the scans without any lesion that they have none."""
        rows = np.setdiff1d(np.arange(len(identity)), self.rows)
        return identity.iloc[rows].assign(metric="lesion_area", lesion=ANY_LESION, value=0.0)

    def scores(self, views: Views, places: np.ndarray) -> dict[str, Tensor]:
        """Return the metrics that hang on a scan's own map, ``(m,)`` each.

        Args:
            views: Of maps ``(m, *S)`` of scans that have the lesion.
            places: ``(m,)`` their positions among the n.
        """
        return scores_of_maps(
            views,
            self.mask[self.rows[places]],
            self.grown[places],
            None if self.retina is None else self.retina[places],
        )


def _scores(
    drawn: Array | Readable, targets: Mapping[str, _Target], identity: pd.DataFrame
) -> dict[str, dict[str, Tensor]]:
    """Return every metric of one method: lesion → metric → ``(n,)``, of the n scans that have it.

    The maps are read twice: a block of all scans at a time, and those of the donors.
    """
    patients, labels = identity["patient"].to_numpy(), identity["label"].to_numpy()
    pieces: dict[str, list[dict[str, Tensor]]] = {lesion: [] for lesion in targets}
    usable = []
    for block in in_blocks(np.arange(len(identity))):
        maps = torch.as_tensor(drawn[block])
        at_once = max(1, PIXELS // maps[0].numel()) if len(maps) else 1
        for piece in in_blocks(np.arange(len(block)), at_once):
            views = Views.of(maps[piece])
            usable.append(views.usable)
            for lesion, target in targets.items():
                here, places = _common(block[piece], target.rows)
                pieces[lesion].append(target.scores(views.at(here), places))
    given = draw_donors(torch.cat(usable), labels)
    donors = {label: drawn[places] for label, places in given.items()}
    out = {}
    for lesion, target in targets.items():
        scores = {name: torch.cat([piece[name] for piece in pieces[lesion]])
                  for name in pieces[lesion][0]}  # fmt: skip
        other = mass_of_donors(donors, given, target.mask, patients, labels)[target.rows]
        scores |= {
            "mass_of_other_scans": other,
            "lift": scores["relevance_mass"] / target.constants["lesion_area"],
        }
        if target.retina is not None:
            area = target.constants["lesion_area_retina"]
            scores["lift_retina"] = scores["relevance_mass_retina"] / area
        scores |= target.constants
        out[lesion] = {name: scores[name] for name in HIGHER_IS_BETTER if name in scores}
    return out


def _common(block: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the scans that stand in both are in a block, and where among the rows."""
    _, here, places = np.intersect1d(block, rows, assume_unique=True, return_indices=True)
    return here, places
