"""How faithful maps are to the model: every metric of the family in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from octoscope.trust.faithfulness.baselines import Baseline
from octoscope.trust.faithfulness.curves import Curves
from octoscope.trust.faithfulness.inpainting import Retina
from octoscope.trust.faithfulness.rows import ROWS

METRICS = tuple(row.name for row in ROWS)


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """What the metrics say of some maps.

    Attributes:
        values: Metric → method → (B,) float64; NaN where a map says nothing.
        curves: Kind of curve (``"deletion"``, ``"insertion"``, ``"morf"``, ``"lerf"``) → the
            `Curves` that hold it.
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

    Args:
        model: Any module from (B, C, *S) to logits (B, K), in any mode; it is left as it was.
        images: (B, C, *S) as the model takes them.
        maps: Method → (B, *S), raw maps at the size of the images.
        targets: (B,) int64, the class that each map explains.
        metrics: Keys of `ROWS`; only what they need is run.
        steps: Steps of the deletion and insertion curves.
        baseline: What stands in for removed pixels, see `baseline_images`.
        retina: Where the retina is, for the baseline ``"retina"``.
        seed: Of the squares of infidelity and the noise of ROAD.
        progress: Show a bar.

    Returns:
        The scores and the curves they are areas of.

    Raises:
        OctoscopeError: If a metric, baseline, shape or class is wrong; the message says which.
    """
    raise NotImplementedError
