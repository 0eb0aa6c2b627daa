"""The sanity checks as scores: one number per scan and method."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from octoscope.attribution.targets import Targets
from octoscope.trust.metric import Metric
from octoscope.trust.sanity.cascade import Mode, Randomisation, randomisation
from octoscope.trust.sanity.compare import Options, logits_of_all
from octoscope.trust.sanity.random_logit import random_logit
from octoscope.trust.sanity.stages import MOST
from octoscope.trust.sanity.twin import twin_similarity

Values = dict[str, dict[str, Tensor]]

_ADEBAYO = "Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, section"

ROWS: tuple[Metric, ...] = (
    Metric(
        "randomisation_spearman",
        "Likeness after randomising all weights",
        "sanity",
        higher_is_better=False,
        range="-1…1",
        sentence="Rank correlation of the map with that of the same network when nothing that it "
        "learned is left; a map that stays alike shows the image, not the model.",
        source=f"{_ADEBAYO} 3.1 (cascading; signed maps, Spearman)",
        headline=True,
        nulls=False,
    ),
    Metric(
        "randomisation_ssim",
        "Structural likeness after randomising all weights",
        "sanity",
        higher_is_better=False,
        range="-1…1",
        sentence="The same by SSIM of the maps scaled to 0…1.",
        source=f"{_ADEBAYO} 3.1; Wang et al., IEEE TIP 2004, equation 13",
        nulls=False,
    ),
    Metric(
        "randomisation_mean",
        "Mean likeness while weights are randomised",
        "sanity",
        higher_is_better=False,
        range="-1…1",
        sentence="Mean rank correlation over the stages of randomisation, without the untouched "
        "model.",
        source=f"{_ADEBAYO} 3.1 and 3.2",
        nulls=False,
    ),
    Metric(
        "random_logit",
        "Likeness to the map of another class",
        "sanity",
        higher_is_better=False,
        range="-1…1",
        sentence="Rank correlation of the map with that of another class, drawn at random; only "
        "for methods whose map depends on the class.",
        source="Sixt et al., When Explanations Lie, ICML 2020, section 4",
        nulls=False,
    ),
    Metric(
        "twin_spearman",
        "Likeness to the map of the twin",
        "sanity",
        higher_is_better=False,
        range="-1…1",
        sentence="Rank correlation of the map with that of the same network trained on shuffled "
        "labels.",
        source=f"{_ADEBAYO} 3.3",
        nulls=False,
    ),
)  # fmt: skip
"""The metrics of this family."""


@dataclass(frozen=True, eq=False)
class Sanity:
    """What the sanity checks gave.

    Attributes:
        values: Metric → method → ``(B,)`` float64; NaN where a map says nothing. ``random_logit``
            has the class-specific methods only, ``twin_spearman`` is there if a twin was given,
            and what needs all weights randomised only in mode ``"cascading"``.
        stages: Names of the stages, from the output down.
        spearman: Method → mean over the scans after each stage; None where no scan has a value.
        ssim: The same by SSIM.
        refused: Methods left out → why.
        randomisation: The scores of all stages and scans.
    """

    values: Values
    stages: list[str]
    spearman: dict[str, list[float | None]]
    ssim: dict[str, list[float | None]]
    refused: dict[str, str]
    randomisation: Randomisation


def sanity(
    model: nn.Module,
    images: Tensor,
    methods: str | Iterable[str],
    targets: Targets = None,
    *,
    twin: nn.Module | None = None,
    mode: Mode = "cascading",
    stages: int = MOST,
    seed: int = 0,
    options: Options | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> Sanity:
    """Check whether maps depend on what the model learned, and on the class.

    Args:
        model: Any classifier; changed during the call and restored exactly.
        images: (B, C, *S) as the model takes them.
        methods: As for `explain`.
        targets: One class per image; None for the predicted one.
        twin: The same network trained on shuffled labels, if there is one.
        mode: Of the randomisation; ``"independent"`` gives no ``randomisation_spearman`` and
            ``randomisation_ssim``, as at no time all weights are randomised.
        stages: Most stages of the randomisation; 2 are the quickest.
        seed: Of the new weights and the other classes.
        options: Settings by method, as for `explain`.
        batch_size: Images per pass.
        progress: Show a bar.

    Raises:
        OctoscopeError: As `explain` does.
    """
    names = methods if isinstance(methods, str) else list(methods)
    found = randomisation(
        model,
        images,
        names,
        targets,
        mode=mode,
        seed=seed,
        stages=stages,
        options=options,
        batch_size=batch_size,
        progress=progress,
    )
    values: Values = {}
    if mode == "cascading":
        values["randomisation_spearman"] = {n: v[-1] for n, v in found.spearman.items()}
        values["randomisation_ssim"] = {n: v[-1] for n, v in found.ssim.items()}
    values["randomisation_mean"] = {n: v.nanmean(0) for n, v in found.spearman.items()}
    if logits_of_all(model, images[:1]).shape[1] > 1:
        values["random_logit"] = random_logit(
            model,
            images,
            names,
            found.targets,
            seed=seed,
            options=options,
            batch_size=batch_size,
        )
    if twin is not None:
        values["twin_spearman"] = twin_similarity(
            model, twin, images, names, found.targets, options=options, batch_size=batch_size
        )
    return Sanity(
        values=values,
        stages=list(found.stages),
        spearman={name: _curve(value) for name, value in found.spearman.items()},
        ssim={name: _curve(value) for name, value in found.ssim.items()},
        refused=found.refused,
        randomisation=found,
    )


def _curve(values: Tensor) -> list[float | None]:
    """Return the mean over scans of each stage (S, B), None where no scan has a value."""
    means = values.nanmean(1)
    return [float(mean) if torch.isfinite(mean) else None for mean in means]
