"""The localisation scores of a model's maps against lesion masks, as one score table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from octoscope.errors import OctoscopeError
from octoscope.trust.localisation import (
    Array,
    grow,
    lesion_area,
    mass_of_other_scans,
    pointing_chance,
    pointing_game,
    relevance_mass,
)
from octoscope.trust.scores import ANY_LESION, TOLERANCE

HIGHER_IS_BETTER = {
    "relevance_mass": True,
    "lift": True,
    "pointing_game": True,
    "relevance_mass_retina": True,
    "lift_retina": True,
    "lesion_area": None,
    "lesion_area_retina": None,
    "pointing_chance": None,
    "mass_of_other_scans": None,
}
"""Metric → its direction; None for what describes the scan or chance, not the map."""


def score_localisation(
    maps: Mapping[str, Array],
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
    one after the other, so `maps` may be a mapping that reads them from disk.

    Args:
        maps: Method → ``(B, *S)`` maps of the explained class.
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
        for lesion, target in targets.items():
            scores = target.scores(torch.as_tensor(drawn), identity)
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
        constants = {
            "lesion_area": lesion_area(mask[rows]),
            "pointing_chance": pointing_chance(grown, tolerance=0),
        }
        if retina is not None:
            constants["lesion_area_retina"] = lesion_area(mask[rows], retina[rows])
        return cls(rows, mask, grown, None if retina is None else retina[rows], constants)

    def without(self, identity: pd.DataFrame) -> pd.DataFrame:
        """Return rows that say of the scans without any lesion that they have none."""
        rows = np.setdiff1d(np.arange(len(identity)), self.rows)
        return identity.iloc[rows].assign(metric="lesion_area", lesion=ANY_LESION, value=0.0)

    def scores(self, maps: Tensor, identity: pd.DataFrame) -> dict[str, Tensor]:
        """Return every metric ``(n,)`` of one method's maps ``(B, *S)``."""
        patients, labels = identity["patient"].to_numpy(), identity["label"].to_numpy()
        here, mask = maps[self.rows], self.mask[self.rows]
        mass = relevance_mass(here, mask)
        out = {
            **self.constants,
            "relevance_mass": mass,
            "lift": mass / self.constants["lesion_area"],
            "mass_of_other_scans": mass_of_other_scans(maps, self.mask, patients, labels)[
                self.rows
            ],
            "pointing_game": pointing_game(here, self.grown, tolerance=0),
        }
        if self.retina is not None:
            mass = relevance_mass(here, mask, self.retina)
            out["relevance_mass_retina"] = mass
            out["lift_retina"] = mass / self.constants["lesion_area_retina"]
        return out
