"""Whether the same method shows the same on models that differ in their random seed alone.

Two trainings that classify alike but look at different places cannot both be believed; and a map
that changes with the seed says more about the seed than about the disease.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from octoscope.attribution.display import upsample
from octoscope.attribution.explain import explain
from octoscope.attribution.maps import Maps
from octoscope.attribution.registry import METHODS
from octoscope.errors import OctoscopeError
from octoscope.trust.similarity import Similarity, pairwise, spearman, top_overlap

BLOCK = 16
"""Scans whose maps of all seeds are held at the size of the image at once."""


def over_pairs(maps: Tensor, function: Similarity, *, axes: int = 2) -> Tensor:
    """Return the mean similarity over all pairs of seeds, scan by scan.

    Args:
        maps: ``(R, B, *S)`` of R seeds.
        function: `spearman` or `top_overlap`, say.
        axes: Number of spatial axes.

    Returns:
        ``(B,)`` float64, over the pairs in which both maps say something; NaN without any.

    Raises:
        OctoscopeError: If there are fewer than two seeds.
    """
    seeds = len(maps)
    if seeds < 2:
        raise OctoscopeError(f"agreement over {seeds} seed means nothing; give two models or more")
    above = torch.ones(seeds, seeds, dtype=torch.bool, device=maps.device).triu(1)
    return pairwise(maps, function, axes=axes)[above].nanmean(0)  # (pairs, B) to (B,)


def seed_agreement(
    models: Iterable[nn.Module],
    images: Tensor,
    methods: str | Iterable[str],
    targets: int | Tensor,
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> dict[str, dict[str, Tensor]]:
    """Compare the maps of models that differ in their seed, for the same images and classes.

    Args:
        models: Two or more of one architecture; they are taken one after the other, so that an
            iterator may load them.
        images: ``(B, C, *S)`` as the models take them.
        methods: As for `explain`. Those with several maps per image are left out.
        targets: The class to explain in every image, or ``(B,)``.
        options: As for `explain`.
        batch_size: As for `explain`.
        progress: Show a bar for every model.

    Returns:
        ``seed_agreement`` (rank correlation) and ``seed_overlap`` (of the top tenth) → method →
        ``(B,)`` float64, the mean over pairs of models.

    Raises:
        OctoscopeError: If there are fewer than two models, or `explain` refuses.
    """
    if targets is None:
        raise OctoscopeError("seeds are compared for the same classes; give targets=")
    methods = methods if isinstance(methods, str) else list(methods)
    found: list[Maps] = [
        explain(
            model,
            images,
            methods,
            targets,
            options=options,
            batch_size=batch_size,
            progress=progress,
        )
        for model in models
    ]
    if len(found) < 2:
        raise OctoscopeError(f"agreement over {len(found)} seed means nothing; give two or more")
    common = [name for name in found[0] if all(name in other for other in found)]
    names = [name for name in common if not METHODS[name].parts]
    size = images.shape[2:]
    measured: dict[str, dict[str, Tensor]] = {"seed_agreement": {}, "seed_overlap": {}}
    for name in names:
        blocks = [
            torch.stack([upsample(maps.native[name][rows], size) for maps in found])
            for rows in (slice(start, start + BLOCK) for start in range(0, len(images), BLOCK))
        ]
        for metric, function in (("seed_agreement", spearman), ("seed_overlap", top_overlap)):
            measured[metric][name] = torch.cat(
                [over_pairs(block, function, axes=len(size)) for block in blocks]
            )
    return measured
