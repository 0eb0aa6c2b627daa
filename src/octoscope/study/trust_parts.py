"""The parts of an examination: how each is measured, and what it hangs on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from octoscope.study.config import TrustSettings
from octoscope.study.examined import Examined
from octoscope.study.trust_measures import (
    Part,
    measure_agreement,
    measure_clusters,
    measure_consensus,
    measure_faithfulness,
    measure_probes,
    measure_sanity,
    measure_stability,
    measure_zones,
)


@dataclass(frozen=True)
class Task:
    """How a part is measured.

    Attributes:
        measure: Measures it.
        uses: The fields of `TrustSettings` and of `Examined` on which it depends.
        builds_on: The parts whose scores it reads; it is measured again when they change.
        scored: Whether it leaves a score table beside its block.
        wanted: Whether settings ask for it.
    """

    measure: Callable[[Examined], Part]
    uses: tuple[str, ...] = ()
    builds_on: tuple[str, ...] = ()
    scored: bool = False
    wanted: Callable[[TrustSettings], bool] = lambda settings: True


TASKS: dict[str, Task] = {
    "zones": Task(measure_zones, ("resamples",), scored=True),
    "faithfulness": Task(
        measure_faithfulness, ("scans", "steps", "baseline", "resamples"), scored=True
    ),
    "sanity": Task(measure_sanity, ("sanity_scans", "stages", "twin", "most_passes"), scored=True),
    "stability": Task(measure_stability, ("stability_scans", "draws", "most_passes"), scored=True),
    "agreement": Task(measure_agreement, ("scans", "resamples")),
    "probes": Task(measure_probes, wanted=lambda settings: settings.probes),
    "clusters": Task(measure_clusters, builds_on=("faithfulness",)),
    "consensus": Task(
        measure_consensus,
        ("scans", "steps", "baseline", "resamples"),
        builds_on=("faithfulness",),
    ),
}
"""The parts, in the order in which they are measured: one that builds on another comes after it."""
