"""The random-logit test: does the map of another class look different?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from octoscope.attribution.targets import Targets
from octoscope.errors import OctoscopeError
from octoscope.trust.sanity.compare import (
    Options,
    blocks,
    chosen,
    class_specific,
    classes_of,
    logits_of_all,
    maps_of,
)
from octoscope.trust.similarity import spearman


def random_logit(
    model: nn.Module,
    images: Tensor,
    methods: str | Iterable[str],
    targets: Targets = None,
    *,
    seed: int = 0,
    options: Options | None = None,
    batch_size: int | None = None,
) -> dict[str, Tensor]:
    """Compare each map with that of another class, drawn per image.

    Sixt, Granz & Landgraf, "When Explanations Lie: Why Many Modified BP Attributions Fail", ICML
    2020, section 4 (there with SSIM; here by rank correlation, as the rest of the checks).

    Args:
        model: Any classifier with at least two classes; it is left as it was.
        images: (B, C, *S).
        methods: As for `explain`; those whose map does not depend on the class are left out.
        targets: One class per image; None for the predicted one.
        seed: Of the draw of the other classes.
        options: Settings by method.
        batch_size: Images per pass.

    Returns:
        Method → ``(B,)`` float64 in -1…1; NaN where a map is constant or not finite.

    Raises:
        OctoscopeError: As `explain` does; or if the model has a single class.
    """
    what = chosen(model, images, methods, options)
    names = class_specific(what.names)
    if not names:
        return {}
    settings = {name: given for name, given in what.options.items() if name in names}
    what = replace(what, names=names, options=settings)
    own = classes_of(model, images, targets)
    other = other_classes(own, logits_of_all(model, images[:1]).shape[1], seed)
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    for rows in blocks(model, images, batch_size):
        both = torch.stack([own[rows], other[rows]], dim=1)  # (b, 2)
        for name, maps in maps_of(model, images[rows], what, both):
            alike = spearman(maps[:, 0], maps[:, 1], axes=images.ndim - 2)
            found[name].append(alike)
    return {name: torch.cat(parts) for name, parts in found.items()}


def other_classes(targets: Tensor, classes: int, seed: int = 0) -> Tensor:
    """Draw for each target (B,) one of the other classes, all alike probable.

    Raises:
        OctoscopeError: If there is no other class.
    """
    if classes < 2:
        raise OctoscopeError("the model has a single class, so there is no other one to explain")
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randint(1, classes, (len(targets),), generator=generator)
    return (targets.cpu() + steps) % classes
