"""How two methods, or two models, agree: numbers with intervals, a verdict, a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from octoscope.attribution.registry import METHODS
from octoscope.evaluation.bootstrap import Weights
from octoscope.evaluation.intervals import interval, patients_with
from octoscope.trust.scores import LEAST_PATIENTS, resampled_mean


@dataclass(frozen=True)
class Pair:
    """How two methods, or models, agree.

    Attributes:
        one: Name of the one.
        other: Name of the other.
        spearman: Mean rank correlation of their maps of the same scan.
        low: Lower end of its 95 % interval over resampled patients; NaN where there is none.
        high: Upper end.
        top: Mean overlap (intersection over union) of their top areas.
        chance: Mean rank correlation of the one's map with the other's map of another patient.
        beyond: Rank correlation less chance, over the scans with both.
        beyond_low: Lower end of its interval.
        beyond_high: Upper end.
        scans: Scans of which both maps say something.
        patients: Patients these are of.
        verdict: 'agree', 'agree no more than chance', 'agree less than chance', 'contradict',
            'too few patients', 'no chance level' or 'nothing to compare'.
        sentence: All that in words.
    """

    one: str
    other: str
    spearman: float
    low: float
    high: float
    top: float
    chance: float
    beyond: float
    beyond_low: float
    beyond_high: float
    scans: int
    patients: int
    verdict: str
    sentence: str


def compare(
    one: str,
    other: str,
    same: np.ndarray,
    tops: np.ndarray,
    chance: np.ndarray,
    weights: Weights,
    share: float,
) -> Pair:
    """Sum up the comparison of two over scans.

    Args:
        one: Name of the one.
        other: Name of the other.
        same: ``(B,)`` rank correlation of their maps of each scan; NaN where one says nothing.
        tops: ``(B,)`` overlap of their top areas.
        chance: ``(B,)`` mean rank correlation with the other's maps of other patients.
        weights: Resamples of the patients of these scans.
        share: Share of the pixels that are the top.
    """

    def mean(values: np.ndarray) -> dict[str, Any]:
        there = np.isfinite(values)
        value, drawn = resampled_mean(values[there, None], weights.rows(there))
        return interval(value[0], drawn[:, 0], patients_with(there, weights))

    there = np.isfinite(same)
    alike, beyond = mean(same), mean(same - chance)
    numbers: dict[str, Any] = {
        "spearman": alike["value"],
        "low": alike["low"],
        "high": alike["high"],
        "top": mean(tops)["value"],
        "chance": mean(chance)["value"],
        "beyond": beyond["value"],
        "beyond_low": beyond["low"],
        "beyond_high": beyond["high"],
        "scans": int(there.sum()),
        "patients": patients_with(there, weights),
    }
    foreign = patients_with(np.isfinite(same - chance), weights)
    numbers["verdict"] = _verdict(numbers, known_chance=foreign >= LEAST_PATIENTS)
    return Pair(one, other, **numbers, sentence=_sentence(one, other, numbers, share))


def _verdict(pair: Mapping[str, Any], *, known_chance: bool) -> str:
    """Return what may be said of a pair, in words."""
    if not pair["scans"]:
        return "nothing to compare"
    if pair["patients"] < LEAST_PATIENTS:
        return "too few patients"
    if pair["high"] < 0:
        return "contradict"
    if not known_chance:
        return "no chance level"
    if pair["beyond_low"] > 0:
        return "agree"
    return "agree less than chance" if pair["beyond_high"] < 0 else "agree no more than chance"


SAID = {
    "agree": "agree more than maps of different patients do",
    "agree no more than chance": "agree no more than maps of different patients do",
    "agree less than chance": "agree less than maps of different patients do",
    "contradict": "contradict one another",
    "too few patients": "are compared on too few patients to tell",
    "no chance level": "cannot be held against maps of different patients",
}
"""How a verdict is said."""


def _sentence(one: str, other: str, pair: Mapping[str, Any], share: float) -> str:
    """Return a pair in words, with its numbers."""
    who = f"{_title(one)} and {_title(other)}"
    if pair["verdict"] == "nothing to compare":
        return f"{who}: no scan has maps of both that say anything, so nothing can be said."
    known = [
        f" [{pair['low']:.2f}, {pair['high']:.2f}]",
        f" [{pair['beyond_low']:+.2f}, {pair['beyond_high']:+.2f}]",
    ]
    known = ["" if "nan" in text else text for text in known]
    against = ""
    if np.isfinite(pair["beyond"]):
        against = (
            f" against {pair['chance']:.2f} on different patients ({pair['beyond']:+.2f}{known[1]})"
        )
    return (
        f"{who} {SAID[pair['verdict']]}: rank correlation {pair['spearman']:.2f}{known[0]} on the "
        f"same scan{against}; their highest {100 * share:g} % overlap by {100 * pair['top']:.0f} %."
    )


def _title(name: str) -> str:
    return METHODS[name].title if name in METHODS else name
