"""How faithful maps are to the model: every metric of the family in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.progress import track
from octoscope.trust.faithfulness.asking import check_maps, lent
from octoscope.trust.faithfulness.baselines import Baseline
from octoscope.trust.faithfulness.curves import Curves, area, curves, joined, mean_kept
from octoscope.trust.faithfulness.infidelity import infidelity
from octoscope.trust.faithfulness.inpainting import Retina
from octoscope.trust.faithfulness.road import mean_height, road
from octoscope.trust.faithfulness.rows import ROWS

__all__ = ["METRICS", "ROWS", "Faithfulness", "faithfulness"]

METRICS = tuple(row.name for row in ROWS)
BLOCK = 8
"""Scans whose ranks are held at once; a step of the bar."""
MADE_OF: dict[str, dict[str, int]] = {
    "deletion": {"deletion": 1},
    "insertion": {"insertion": 1},
    "insertion_minus_deletion": {"insertion": 1, "deletion": -1},
    "positive_perturbation": {"positive": 1},
    "negative_perturbation": {"negative": 1},
    "road_morf": {"morf": 1},
    "road_lerf": {"lerf": 1},
    "road": {"lerf": 1, "morf": -1},
    "infidelity": {},
}
"""Metric → the kinds of curves whose heights it adds up, with their signs."""


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """What the metrics say of some maps.

    Attributes:
        values: Metric → method → (B,) float64, on the CPU; NaN where a map says nothing.
        curves: Kind of curve (``"deletion"``, ``"insertion"``, ``"positive"``, ``"negative"``,
            ``"morf"``, ``"lerf"``) → the `Curves` that hold it, on the CPU:
            ``curves["deletion"].values["deletion"][method]`` is (B, S+1) over
            ``curves["deletion"].fractions``.
    """

    values: dict[str, dict[str, Tensor]]
    curves: dict[str, Curves]


def faithfulness(
    model: nn.Module,
    images: Tensor,
    maps: Mapping[str, Tensor],
    targets: Tensor,
    *,
    metrics: Sequence[str] = METRICS,
    steps: int = 10,
    baseline: Baseline = "blur",
    retina: Retina | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Faithfulness:
    """Measure how faithful the maps of several methods are to a model.

    Passes per scan: 2 for the ends and 2 (`steps` - 1) per method for deletion and insertion, of
    which positive and negative perturbation are other readings if 10 divides `steps` (otherwise
    18 more); 8 per method for ROAD; 48 for infidelity, whatever the number of methods.

    A baseline must take the class away. Where the model still sees it in the baseline image (the
    last point of a deletion curve), as it may see a large lesion through a blur, no map can lower
    the curve, and deletion and positive perturbation tell methods apart badly; choose another one.

    Args:
        model: Any module from (B, C, *S) to logits (B, K), in any mode; it is left as it was.
        images: (B, C, *S) as the model takes them.
        maps: Method → (B, *S), raw maps at the size of the images.
        targets: (B,) int64, the class that each map explains.
        metrics: Names of `ROWS`; only what they need is run.
        steps: Steps of the deletion and insertion curves.
        baseline: What stands in for removed pixels (ROAD has its own), see `baseline_images`.
        retina: Where the retina is, for the baseline ``"retina"``: a mask (B, H, W), or the rows
            of ILM and RPE, (B, W) each.
        seed: Of the squares of infidelity, the noise of ROAD and the order of ties.
        progress: Show a bar.

    Returns:
        The scores, and the curves they are made of. A score does not depend on the other scans or
        methods.

    Raises:
        OctoscopeError: If a metric, baseline, shape or class is wrong; the message says which.
    """
    check_maps(images, maps, targets)
    for metric in metrics:
        if metric not in METRICS:
            raise OctoscopeError(
                f'metric "{metric}" is not known{did_you_mean(metric, METRICS)}; use '
                f"{', '.join(METRICS)}"
            )
    kinds = {kind for metric in metrics for kind in MADE_OF[metric]}
    parts: list[dict[str, Curves]] = []
    errors: list[dict[str, Tensor]] = []
    starts = range(0, len(images), BLOCK)
    with lent(model, images) as (forward, taken):
        for start in track(starts, "Faithfulness") if progress else starts:
            rows = slice(start, start + BLOCK)
            given = (
                model,
                taken[rows],
                {name: one[rows] for name, one in maps.items()},
                targets[rows],
            )
            part = _rows_of(retina, rows)
            removed = partial(
                curves, *given, baseline=baseline, retina=part, forward=forward, seed=seed
            )
            imputed = partial(road, *given, forward=forward, seed=seed)
            parts.append(_curves(removed, imputed, kinds, steps))
            if "infidelity" in metrics:
                found = infidelity(
                    *given, baseline=baseline, retina=part, forward=forward, seed=seed
                )
                errors.append(found)
    # In the order of the definitions: that of a set differs from one process to the next.
    order = dict.fromkeys(kind for made_of in MADE_OF.values() for kind in made_of)
    drawn = {kind: joined([one[kind] for one in parts]) for kind in order if kind in parts[0]}
    values = {
        metric: {method: _score(metric, method, drawn) for method in maps}
        for metric in metrics
        if metric != "infidelity"
    }
    if errors:
        values["infidelity"] = {
            method: torch.cat([one[method].cpu() for one in errors]) for method in maps
        }
    return Faithfulness({metric: values[metric] for metric in metrics}, drawn)


def _curves(
    removed: Callable[..., Curves], imputed: Callable[..., Curves], kinds: set[str], steps: int
) -> dict[str, Curves]:
    """Return kind → the curves that hold it, each image asked for once."""
    found: dict[str, Curves] = {}
    tenths = kinds & {"positive", "negative"}
    both = kinds & {"deletion", "insertion"}
    if both and steps % 10 == 0:  # their points are among the others
        found |= dict.fromkeys(both | tenths, removed(kinds=sorted(both | tenths), steps=steps))
    else:
        found |= dict.fromkeys(both, removed(kinds=sorted(both), steps=steps)) if both else {}
        found |= dict.fromkeys(tenths, removed(kinds=sorted(tenths), steps=10)) if tenths else {}
    towards = kinds & {"morf", "lerf"}
    return found | (dict.fromkeys(towards, imputed(orders=sorted(towards))) if towards else {})


def _score(metric: str, method: str, drawn: Mapping[str, Curves]) -> Tensor:
    """Return the value (B,) of a metric from the curves it is made of."""

    def height(kind: str) -> Tensor:
        curve = drawn[kind]
        if kind in ("positive", "negative"):
            return mean_kept(curve.kept[kind][method], curve.fractions)
        if kind in ("morf", "lerf"):
            return mean_height(curve.values[kind][method])
        return area(curve.values[kind][method], curve.fractions)

    return torch.stack([sign * height(kind) for kind, sign in MADE_OF[metric].items()]).sum(0)


def _rows_of(retina: Retina | None, rows: slice) -> Retina | None:
    if isinstance(retina, tuple):
        return retina[0][rows], retina[1][rows]
    return None if retina is None else retina[rows]
