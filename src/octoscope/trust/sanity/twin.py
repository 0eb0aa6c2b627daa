"""The twin test: does a model that learned from meaningless labels have the same maps?

Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3.3 (data randomisation).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from octoscope.attribution.targets import Targets
from octoscope.errors import OctoscopeError
from octoscope.trust.sanity.compare import Options, blocks, chosen, classes_of, maps_of
from octoscope.trust.similarity import spearman


def twin_similarity(
    model: nn.Module,
    twin: nn.Module,
    images: Tensor,
    methods: str | Iterable[str],
    targets: Targets = None,
    *,
    options: Options | None = None,
    batch_size: int | None = None,
) -> dict[str, Tensor]:
    """Compare the maps of a model with those of its twin, for the same images and classes.

    Args:
        model: Any classifier; it is left as it was.
        twin: The same network trained on shuffled labels.
        images: (B, C, *S).
        methods: As for `explain`.
        targets: One class per image; None for what `model` predicts.
        options: Settings by method.
        batch_size: Images per pass.

    Returns:
        Method → Spearman's correlation ``(B,)`` float64; NaN where a map is constant or not finite.
    """
    what = chosen(model, images, methods, options)
    classes = classes_of(model, images, targets)
    found: dict[str, list[Tensor]] = {name: [] for name in what.names}
    for rows in blocks(model, images, batch_size):
        own = dict(maps_of(model, images[rows], what, classes[rows]))
        for name, maps in maps_of(twin, images[rows], what, classes[rows]):
            found[name].append(spearman(own[name], maps, axes=images.ndim - 2))
    return {name: torch.cat(parts) for name, parts in found.items()}


def shuffled_labels(
    labels: Sequence[str] | np.ndarray, patients: Sequence[str] | np.ndarray, seed: int = 0
) -> np.ndarray:
    """Deal the labels anew to the patients.

    Among the patients whose scans have one label in common, these labels are permuted, so that the
    scans of a patient still agree. A patient with several labels exchanges the whole row of them
    with another who has as many scans and several labels too, or, where there is none, has them
    permuted between his scans. Each class is then found in as many patients as before.

    Args:
        labels: ``(N,)`` of the scans.
        patients: ``(N,)`` their patients.
        seed: Of the draw, which depends on the patients' names and not on the order of the scans,
            except for patients with several labels.

    Returns:
        ``(N,)`` new labels, of the type of the old ones.

    Raises:
        OctoscopeError: If the lengths differ or a patient is missing.
    """
    before, who = np.asarray(labels), np.asarray(patients, dtype=object)
    if len(before) != len(who):
        raise OctoscopeError(f"{len(before)} labels do not fit {len(who)} patients; give one each")
    if any(name is None or name != name for name in who):
        raise OctoscopeError("a scan has no patient; labels are shuffled between patients")
    names, unit = np.unique(who.astype(str), return_inverse=True)
    scans = [np.flatnonzero(unit == number) for number in range(len(names))]
    generator = np.random.default_rng(seed)
    after = before.copy()
    groups: dict[int, list[np.ndarray]] = {}  # 0: of one label; else of several, by their scans
    for own in scans:
        one = bool((before[own] == before[own[0]]).all())
        groups.setdefault(0 if one else len(own), []).append(own)
    for several, members in sorted(groups.items()):
        donors = generator.permutation(len(members))
        for own, donor in zip(members, donors, strict=True):
            given = before[members[donor]]
            if several and len(members) == 1:
                given = generator.permutation(given)
            after[own] = given if several else given[0]
    return after
