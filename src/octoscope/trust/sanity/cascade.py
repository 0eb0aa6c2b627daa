"""The model-parameter randomisation test: do the maps change when the model forgets?

Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, sections 3.1 (cascading) and 3.2
(independent), with two choices of our own. Maps are compared as they are, signed: absolute values,
which the paper also shows, make a map and its opposite the same. And the map of the untouched
model is never one of the maps compared with it, so it enters no mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from octoscope.attribution.targets import Targets
from octoscope.errors import OctoscopeError
from octoscope.models.borrow import borrowed
from octoscope.progress import track
from octoscope.trust.sanity.below import Shortcuts
from octoscope.trust.sanity.compare import (
    Chosen,
    Options,
    blocks,
    chosen,
    classes_of,
    maps_of,
    structure,
)
from octoscope.trust.sanity.randomise import randomised
from octoscope.trust.sanity.stages import MOST, Stage, stages_of
from octoscope.trust.similarity import rank_product, ranked

Mode = Literal["cascading", "independent"]


@dataclass(frozen=True, eq=False)
class Randomisation:
    """How alike maps stay to those of the untouched model.

    Attributes:
        stages: Names of the S stages, from the output down. In mode ``"cascading"`` stage s is
            randomised together with all above it, and the last one leaves nothing that was
            learned; in mode ``"independent"`` it is randomised alone.
        mode: Which.
        spearman: Method → ``(S, B)`` float64; NaN where a map is constant or not finite.
        ssim: Method → ``(S, B)`` float64; the same, and for images smaller than its window. Empty
            if it was not asked for.
        refused: Methods left out → why.
        targets: (B,) the classes explained, the same throughout.
    """

    stages: tuple[str, ...]
    mode: Mode
    spearman: dict[str, Tensor]
    ssim: dict[str, Tensor]
    refused: dict[str, str]
    targets: Tensor


def randomisation(
    model: nn.Module,
    images: Tensor,
    methods: str | Iterable[str],
    targets: Targets = None,
    *,
    mode: Mode = "cascading",
    seed: int = 0,
    stages: int | Sequence[str] = MOST,
    ssim: bool = True,
    options: Options | None = None,
    batch_size: int | None = None,
    cache: bool = True,
    progress: bool = False,
) -> Randomisation:
    """Explain the same images and classes while stage after stage of the model is randomised.

    Args:
        model: Any classifier. Only a copy of it forgets.
        images: (B, C, *S) as the model takes them.
        methods: As for `explain`; those behind a family or ``"all"`` that are not defined are
            left out, and so are those with several maps per image.
        targets: One class per image; None for what the untouched model predicts.
        mode: ``"cascading"``: from the output down, all above stay randomised.
            ``"independent"``: one stage at a time.
        seed: Of the new weights.
        stages: Most stages; or the names of the layers to randomise, each a stage of its own.
        ssim: Compare the maps by SSIM, too.
        options: Settings by method, as for `explain`.
        batch_size: Images per pass.
        cache: Let the layers below the lowest randomised one return what they gave before, where
            that is possible; the maps are the same without it.
        progress: Show a bar.

    Raises:
        OctoscopeError: As `explain` does, or if the mode is unknown.
    """
    if mode not in ("cascading", "independent"):
        raise OctoscopeError(f'mode="{mode}" is neither "cascading" nor "independent"')
    with borrowed(model, own_weights=True) as own:
        return _randomisation(
            own,
            images,
            chosen(model, images, methods, options),
            classes_of(own, images, targets),
            stages_of(own, images, stages),
            mode=mode,
            seed=seed,
            ssim=ssim,
            batch_size=batch_size,
            cache=cache,
            progress=progress,
        )


def _randomisation(
    model: nn.Module,
    images: Tensor,
    what: Chosen,
    classes: Tensor,
    order: Sequence[Stage],
    *,
    mode: Mode,
    seed: int,
    ssim: bool,
    batch_size: int | None,
    cache: bool,
    progress: bool,
) -> Randomisation:
    """Randomise the stages of a model, which is changed meanwhile."""
    shortcuts = Shortcuts(model, images, order) if cache else None
    ranks: dict[str, list[Tensor]] = {name: [] for name in what.names}  # (S, b) of each block
    structures: dict[str, list[Tensor]] = {name: [] for name in what.names}
    parts = list(blocks(model, images, batch_size))
    for rows in track(parts, "Randomising") if progress else parts:
        found = _compared(
            model, images[rows], what, classes[rows], order, mode, seed, shortcuts, ssim
        )
        for name, (rank, structural) in found.items():
            ranks[name].append(rank)
            if structural is not None:
                structures[name].append(structural)
    return Randomisation(
        stages=tuple(stage.name for stage in order),
        mode=mode,
        spearman={name: torch.cat(parts, 1) for name, parts in ranks.items()},
        ssim={name: torch.cat(parts, 1) for name, parts in structures.items() if parts},
        refused=what.refused,
        targets=classes,
    )


def _compared(
    model: nn.Module,
    images: Tensor,
    what: Chosen,
    classes: Tensor,
    order: Sequence[Stage],
    mode: Mode,
    seed: int,
    shortcuts: Shortcuts | None,
    ssim: bool,
) -> dict[str, tuple[Tensor, Tensor | None]]:
    """Return rank correlation and SSIM if wanted, each (S, b), of the maps of some images."""
    axes = images.ndim - 2
    given = {} if shortcuts is None else shortcuts.recorded(images)
    before = dict(maps_of(model, images, what, classes))
    ranks = {name: ranked(maps, axes=axes) for name, maps in before.items()}
    alike: dict[str, list[Tensor]] = {name: [] for name in what.names}
    structural: dict[str, list[Tensor]] = {name: [] for name in what.names}
    with ExitStack() as above:
        for place, stage in enumerate(order):
            with ExitStack() as alone:
                undo = above if mode == "cascading" else alone
                undo.enter_context(randomised(zip(stage.names, stage.modules, strict=True), seed))
                if shortcuts is not None:
                    alone.enter_context(shortcuts.taken(place, images, given))
                for name, maps in maps_of(model, images, what, classes):
                    alike[name].append(rank_product(ranks[name], ranked(maps, axes=axes)))
                    if ssim:
                        structural[name].append(structure(before[name], maps, axes))
    return {
        name: (torch.stack(alike[name]), torch.stack(structural[name]) if ssim else None)
        for name in what.names
    }
