"""What testing a consensus on held-out patients found, as numbers and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from octoscope.attribution.registry import METHODS
from octoscope.evaluation.intervals import Interval
from octoscope.trust.scores import LEAST_PATIENTS


@dataclass(frozen=True)
class Half:
    """What was learned on one half of the patients.

    Attributes:
        weights: Method → weight; they sum to 1.
        single: The method with the best mean score there.
        patients: Patients of this half.
    """

    weights: dict[str, float]
    single: str
    patients: int


@dataclass(frozen=True, eq=False)
class ConsensusTest:
    """Weights of a consensus, and how it compares.

    All intervals are ``{value, low, high}``, over patients that had no say in what is judged.

    Attributes:
        weights: Method → weight, learned on all patients; they sum to 1.
        informed: Whether any method beats the null maps; if not, all count alike.
        agreement: Whether weights are further multiplied by the agreement of each scan's maps.
        metric: What the score is, in words.
        best_single: The method with the best mean score on all patients.
        halves: What was learned on each half.
        consensus: Mean score of the weighted consensus.
        uniform: Mean score of the consensus in which all methods count alike.
        single: Mean score of the single method chosen on the other half.
        difference: Weighted consensus less the single method, paired.
        difference_uniform: Weighted less uniform consensus, paired.
        scans: Scans with both scores.
        patients: Patients these are of.
        undefined: Scans without one of the two.
        verdict: 'better', 'worse', 'not better' or 'too few patients'.
        sentence: All that in words.
        per_scan: ``consensus``, ``uniform`` and ``single`` → ``(B,)`` float64.
    """

    weights: dict[str, float]
    informed: bool
    agreement: bool
    metric: str
    best_single: str
    halves: tuple[Half, Half]
    consensus: Interval
    uniform: Interval
    single: Interval
    difference: Interval
    difference_uniform: Interval
    scans: int
    patients: int
    undefined: int
    verdict: str
    sentence: str
    per_scan: dict[str, np.ndarray]

    @property
    def options(self) -> dict[str, dict[str, Any]]:
        """What to give ``explain(…, options=)`` with all these methods and ``"consensus"``."""
        return {"consensus": {"weights": dict(self.weights), "agreement": self.agreement}}

    def to_dict(self) -> dict[str, Any]:
        """Return all but the scores per scan as plain JSON values, None for what is undefined.

        ``options`` and ``methods`` are what `explain` takes to make this consensus of other scans.
        """
        intervals = ("consensus", "uniform", "single", "difference", "difference_uniform")
        plain = ("weights", "informed", "agreement", "metric", "best_single", "scans", "patients",
                 "undefined", "verdict", "sentence")  # fmt: skip
        return {
            **{key: getattr(self, key) for key in plain},
            "options": self.options,
            "methods": [*self.weights, "consensus"],
            "halves": [asdict(half) for half in self.halves],
            **{
                key: {k: None if v != v else v for k, v in getattr(self, key).items()}
                for key in intervals
            },
        }


def verdict_of(difference: Interval, patients: int) -> str:
    """Return how the consensus stands to the single method, from the paired difference."""
    if patients < LEAST_PATIENTS or not np.isfinite(difference["low"]):
        return "too few patients"
    if difference["low"] > 0:
        return "better"
    return "worse" if difference["high"] < 0 else "not better"


def sentence_of(
    found: Mapping[str, Interval], verdict: str, chosen: Sequence[str], informed: bool, metric: str
) -> str:
    """Return what the test found, in words."""
    single = found["single"]["value"]
    names = list(dict.fromkeys(METHODS[n].title if n in METHODS else n for n in chosen))
    alone = f"{names[0]} alone"
    if len(names) > 1:
        alone = f"the best single method ({names[0]} in one half, {names[1]} in the other)"
    start = {
        "better": f"The consensus is better than {alone}",
        "worse": f"The consensus is worse than {alone}",
        "not better": f"The consensus is not better than {alone}",
        "too few patients": f"Too few patients to tell the consensus from {alone}",
    }[verdict]
    if not np.isfinite(found["difference"]["value"]):
        return f"{start}: no scan has a score of both."
    ending = "" if informed else " No method beats the null maps, so all count alike."
    return (
        f"{start}: {metric} {found['consensus']['value']:.3f} against {single:.3f}, "
        f"{_signed(found['difference'])}, on patients that had no say in weights or choice; "
        f"against weights that are all alike {_signed(found['difference_uniform'])}.{ending}"
    )


def _signed(number: Interval) -> str:
    """Return a difference with its interval."""
    value = f"{number['value']:+.3f}"
    if not np.isfinite(number["low"]):
        return value
    return f"{value} [{number['low']:+.3f}, {number['high']:+.3f}]"
