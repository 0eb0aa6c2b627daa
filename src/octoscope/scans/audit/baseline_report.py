"""The frame-only models of a table, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from octoscope.scans.audit.artefacts import UNITS, Features
from octoscope.scans.audit.baseline import Baseline, Interval, frame_baseline
from octoscope.scans.audit.finding import Finding, listing
from octoscope.scans.table import ScanTable

SIZE = ("frame height", "frame width")
FRAME = tuple(name for name in UNITS if name not in ("bytes per pixel", "B-scans in the volume"))
"""All that a network sees of the frame; it does not see how large the file is."""
OF_THE_SIZE = (*SIZE, "aspect ratio", "frame size")
"""Features that one finding about the frame's size speaks for."""
GIVEN_AWAY = 0.7
"""Balanced accuracy against the rest from which a class is said to be given away."""
MARGIN = 0.05
"""Part of the way from chance to 1 that an interval must clear. On 200 studies without artefact
(48 and 100 patients, 2 to 4 classes) one or both models then alarm in 3.5 %; without it, 7.5 %."""


@dataclass(frozen=True, eq=False)
class BaselineReport:
    """What a frame-only model reached.

    Attributes:
        features: What it saw.
        result: Its scores, or None where it could not be cross-validated.
        sentence: What that means.
        findings: The same as a finding, where it is one.
    """

    features: tuple[str, ...]
    result: Baseline | None
    sentence: str
    findings: tuple[Finding, ...] = ()

    @property
    def alarming(self) -> bool:
        """Whether the model did better than chance."""
        return any(finding.level == "warning" for finding in self.findings)

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the report for JSON; `balanced_accuracy` is None without a result."""
        result = self.result
        return {
            "balanced_accuracy": result.balanced_accuracy.to_dict() if result else None,
            "chance": result.chance if result else None,
            "features": list(self.features),
            "by_class": {classes[k]: v.to_dict() for k, v in result.by_class.items()}
            if result
            else {},
            "left_out": [classes[k] for k in result.left_out] if result else [],
            "sentence": self.sentence,
        }


def baseline_reports(
    table: ScanTable, features: Features, *, seed: int
) -> tuple[BaselineReport, BaselineReport]:
    """Return the model that sees everything about the frame, and the one that sees its size.

    Scans of unknown patients count as a patient each, here as in the tests of artefacts.
    """
    scans = table.rows(features.rows).patients_assumed_distinct()
    return (
        _report(scans, features, FRAME, seed, _frame_sentence),
        _report(scans, features, SIZE, seed, _size_sentence),
    )


def _report(
    scans: ScanTable,
    features: Features,
    names: Sequence[str],
    seed: int,
    write: Callable[[Baseline, ScanTable, Features], tuple[bool, str]],
) -> BaselineReport:
    """Cross-validate on the features `names` and say in a sentence what came of it."""
    seen = tuple(name for name in names if name in features.numbers)
    values = (
        np.array([features.numbers[name] for name in seen], float).reshape(len(seen), len(scans)).T
    )
    result = frame_baseline(seen, values, scans.targets, scans.groups, seed=seed)
    if result is None:
        sentence = (
            f"Whether {listing(names, most=2)} give the class away could not be tested: "
            "that takes two classes of two patients each."
        )
        return BaselineReport(seen, None, sentence)
    alarming, sentence = write(result, scans, features)
    if result.left_out:
        without = listing([scans.classes[k] for k in result.left_out], most=8)
        sentence += f" {without} could not take part, with a single patient."
    return BaselineReport(
        seen, result, sentence, (Finding("warning" if alarming else "info", sentence),)
    )


def _frame_sentence(result: Baseline, scans: ScanTable, features: Features) -> tuple[bool, str]:
    """Say what all numbers about the frame give away."""
    score, given_away = result.balanced_accuracy, _given_away(result)
    alarming = _clears(score, result.chance) or bool(given_away)
    seen = "height, width, borders, wedges, corners, brightness, contrast, sharpness, noise"
    sentence = (
        f"From the frame alone ({seen}), without a look at the retina, a small model reaches "
        f"balanced accuracy {_interval(score)}; chance is {result.chance:.2f}."
    )
    if given_away:
        sentence += f" It gives away {_scores(result, scans, given_away)}."
    if alarming:
        sentence += " A network that does not clearly beat it may have learned no more than that."
    return alarming, sentence


def _size_sentence(result: Baseline, scans: ScanTable, features: Features) -> tuple[bool, str]:
    """Say whether height and width give a class away, and which."""
    height, width = (features.numbers[name] for name in SIZE)
    if np.ptp(height) == 0 and np.ptp(width) == 0:
        return False, f"All frames are {height[0]:.0f}×{width[0]:.0f} pixels."
    score = result.balanced_accuracy
    given_away = _given_away(result)
    if not given_away:
        alarming = _clears(score, result.chance)
        verb = "tells the classes apart somewhat" if alarming else "gives no class away"
        return alarming, (
            f"Frame size {verb}: from height and width alone a small model reaches balanced "
            f"accuracy {_interval(score)}; chance is {result.chance:.2f}."
        )
    first, *others = given_away
    name, own = scans.classes[first], scans.targets == first
    rest = "the other classes" if len(result.by_class) > 2 else "the other class"
    return True, (
        f"Frame size gives {name} away: from height and width alone a small model tells {name} "
        f"from {rest} with balanced accuracy {_interval(result.by_class[first])}; chance is 0.50. "
        f"The middle {name} frame is {_median(height, width, own)} (height×width), that of "
        f"{rest} {_median(height, width, ~own)}."
        + (f" It also gives away {_scores(result, scans, others)}." if others else "")
        + " Bring all frames to one size by the same rule, e.g. cropped to the retina band."
    )


def _given_away(result: Baseline) -> list[int]:
    """Return the classes that the model tells from the rest, the clearest first."""
    scores = result.by_class
    clear = [k for k, v in scores.items() if _clears(v, 0.5) and v.value >= GIVEN_AWAY]
    return sorted(clear, key=lambda k: -scores[k].value)


def _scores(result: Baseline, scans: ScanTable, classes: Sequence[int]) -> str:
    """Write classes with their scores against the rest, where chance is 0.50."""
    named = [f"{scans.classes[k]} ({_interval(result.by_class[k])})" for k in classes]
    return f"{listing(named, most=8)}, against the rest, where chance is 0.50"


def _clears(score: Interval, chance: float) -> bool:
    """Whether a whole interval lies above chance by more than the margin."""
    return score.low > chance + MARGIN * (1 - chance)


def _median(height: np.ndarray, width: np.ndarray, rows: np.ndarray) -> str:
    """Return the median size of some frames, as ``496×768 pixels``."""
    return f"{np.median(height[rows]):.0f}×{np.median(width[rows]):.0f} pixels"


def _interval(score: Interval) -> str:
    """Write a value with its interval."""
    return f"{score.value:.2f} [{score.low:.2f}, {score.high:.2f}]"
