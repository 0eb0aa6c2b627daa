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
from octoscope.progress import track
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
    progress: bool = False,
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
        progress: Whether to show a bar.

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
    owners, classes = (np.asarray(names, dtype=object) for names in (patients, labels))
    rows = _Rows()
    for method, drawn in track(maps.items(), "Scoring on lesions") if progress else maps.items():
        found = _scores(drawn, targets, region, owners, classes)
        for lesion, target in targets.items():
            if lesion == ANY_LESION:  # the scans without any lesion are said to have none
                without = np.setdiff1d(np.arange(len(labels)), target.rows)
                rows.add(without, method, "lesion_area", lesion, np.zeros(len(without)))
            for metric, values in found[lesion].items():
                rows.add(target.rows, method, metric, lesion, values.numpy(force=True))
    identity = {"scan": scans, "patient": patients, "label": labels}
    table = rows.table(identity).assign(model=model, seed=int(seed))
    table["higher_is_better"] = table["metric"].map(HIGHER_IS_BETTER).astype("boolean")
    return table[
        ["scan", "patient", "label", "model", "seed", "method", "metric", "lesion", "value",
         "higher_is_better"]
    ]  # fmt: skip


class _Rows:
    """The rows of a score table, gathered block by block and made into columns once."""

    def __init__(self) -> None:
        self._places: list[np.ndarray] = []
        self._said: list[tuple[str, str, str]] = []
        self._values: list[np.ndarray] = []

    def add(
        self, places: np.ndarray, method: str, metric: str, lesion: str, values: np.ndarray
    ) -> None:
        """Add the values ``(n,)`` of a metric for the scans at places ``(n,)``."""
        self._places.append(places)
        self._said.append((method, metric, lesion))
        self._values.append(values)

    def table(self, identity: Mapping[str, Sequence[str] | np.ndarray]) -> pd.DataFrame:
        """Return the table; `identity` holds columns ``(B,)`` that are looked up by place."""
        places = np.concatenate(self._places)
        count = [len(one) for one in self._places]
        said = np.array(self._said, dtype=object).repeat(count, axis=0)
        columns = {name: np.asarray(of, dtype=object)[places] for name, of in identity.items()}
        columns |= dict(zip(("method", "metric", "lesion"), said.T, strict=True))
        table = pd.DataFrame(columns, dtype=object)
        kinds = dict.fromkeys(("method", "metric", "lesion"), "str")
        return table.astype(kinds).assign(value=np.concatenate(self._values))


@dataclass(frozen=True, eq=False)
class _Target:
    """One kind of lesion, in the n of B scans that have it, with what all methods share.

    Attributes:
        rows: Positions of the scans that have it, ``(n,)``.
        mask: ``(B, *S)`` bool.
        grown: ``(B, *S)`` bool: the mask with the tolerance of the pointing game around it.
        constants: What does not depend on the map: metric → ``(n,)``.
    """

    rows: np.ndarray
    mask: Tensor
    grown: Tensor
    constants: dict[str, Tensor]

    @classmethod
    def of(cls, mask: Tensor, retina: Tensor | None, tolerance: float) -> _Target:
        """Gather it from a mask ``(B, *S)`` and perhaps a retina ``(B, *S)``."""
        rows = np.flatnonzero(mask.flatten(1).any(-1).numpy(force=True))
        grown = grow(mask, tolerance)
        area = lesion_area(mask[rows])
        constants = {
            "lesion_area": area,
            "pointing_chance": pointing_chance(grown[rows], tolerance=0),
            "iou_chance": iou_of_equal_areas(area),
        }
        if retina is not None:
            constants["lesion_area_retina"] = lesion_area(mask[rows], retina[rows])
        return cls(rows, mask, grown, constants)


def _scores(
    drawn: Array | Readable,
    targets: Mapping[str, _Target],
    retina: Tensor | None,
    patients: np.ndarray,
    labels: np.ndarray,
) -> dict[str, dict[str, Tensor]]:
    """Return every metric of one method: lesion → metric → ``(n,)``, of the n scans that have it.

    The maps are read twice: a block of all scans at a time, and those of the donors.
    """
    pieces: dict[str, list[dict[str, Tensor]]] = {lesion: [] for lesion in targets}
    usable = []
    for block in in_blocks(np.arange(len(labels))):
        maps = torch.as_tensor(drawn[block])
        at_once = max(1, PIXELS // maps[0].numel()) if len(maps) else 1
        for some in in_blocks(np.arange(len(block)), at_once):
            scans = block[some]
            views = Views.of(maps[some], None if retina is None else retina[scans])
            usable.append(views.usable)
            for lesion, target in targets.items():
                pieces[lesion].append(
                    scores_of_maps(views, target.mask[scans], target.grown[scans])
                )
    given = draw_donors(torch.cat(usable), labels)
    donors = {label: drawn[places] for label, places in given.items()}
    out = {}
    for lesion, target in targets.items():
        scores = {name: torch.cat([piece[name] for piece in pieces[lesion]])[target.rows]
                  for name in pieces[lesion][0]}  # fmt: skip
        other = mass_of_donors(donors, given, target.mask, patients, labels)[target.rows]
        scores |= {
            "mass_of_other_scans": other,
            "lift": scores["relevance_mass"] / target.constants["lesion_area"],
        }
        if "lesion_area_retina" in target.constants:
            area = target.constants["lesion_area_retina"]
            scores["lift_retina"] = scores["relevance_mass_retina"] / area
        scores |= target.constants
        out[lesion] = {name: scores[name] for name in HIGHER_IS_BETTER if name in scores}
    return out
