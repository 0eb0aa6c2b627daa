"""Weights of a consensus from measured faithfulness, and whether that consensus is any better.

Weights that are learned and judged on the same scans flatter themselves. So the patients are cut
into two halves: on each, weights are learned and the best single method is chosen, and both are
judged on the other half. Every scan is thus judged once, by what was learned on other patients,
and the paired difference gets an interval over resampled patients.

    w_m ∝ max(0, min_n mean_b (s_mb - s_nb))

over the scans b of a half, with the score s of method m and of every null map n: how much m beats
the best null by. Only validation scans belong here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from octoscope.attribution.consensus import agreed
from octoscope.attribution.registry import METHODS
from octoscope.errors import OctoscopeError
from octoscope.evaluation.bootstrap import resample_patients
from octoscope.evaluation.intervals import Interval, interval, patients_with
from octoscope.trust.consensus_found import ConsensusTest, Half, sentence_of, verdict_of
from octoscope.trust.lesions import Readable
from octoscope.trust.localisation import in_blocks
from octoscope.trust.scores import resampled_mean

Score = Callable[[Tensor, np.ndarray], Tensor | np.ndarray]
"""Maps ``(n, *S)`` and the positions ``(n,)`` of their scans to scores ``(n,)``, higher better."""

BLOCK = 16
"""Scans whose maps of all methods are combined at once."""


def consensus_weights(
    maps: Mapping[str, Tensor | Readable],
    per_method: Mapping[str, Tensor | np.ndarray],
    patients: Sequence[str] | np.ndarray,
    score: Score,
    *,
    nulls: Collection[str] | None = None,
    metric: str = "insertion − deletion",
    agreement: bool = True,
    resamples: int = 2000,
    seed: int = 0,
) -> ConsensusTest:
    """Learn the weights of a consensus on validation scans, and test it across patients.

    Args:
        maps: Method → ``(B, *S)`` maps of the explained class: a tensor, or anything of length B
            that gives the maps at positions ``(n,)``.
        per_method: Method → ``(B,)`` its score on every scan, higher better; NaN where undefined.
            The null maps are among them; a consensus is left out.
        patients: Patient of each scan, ``(B,)``.
        score: Scores any maps of given scans the way `per_method` was measured. It is called
            with the maps of one half, or of all, at a time.
        nulls: Which of the methods know no model; by default those registered as such.
        metric: What the score is, for the sentence.
        agreement: Multiply the weights by the agreement of each scan's maps (see `agreed`).
        resamples: Bootstrap resamples of the patients.
        seed: Of the bootstrap, and of the cut into halves.

    Returns:
        `ConsensusTest`.

    Raises:
        OctoscopeError: If fewer than two methods or patients can take part, or shapes do not fit.
    """
    owners = np.asarray(patients, dtype=object)
    names, floor = _taking_part(maps, per_method, nulls)
    values = {name: _scores(per_method[name], len(owners), name) for name in [*names, *floor]}
    first = halves_of(owners, seed)
    weights, informed = learned(values, names, floor, np.ones(len(owners), dtype=bool))
    together = np.full((3, len(owners)), np.nan)
    consensus, uniform, single = together
    alike = dict.fromkeys(names, 1 / len(names))

    def judged(prior: Mapping[str, float], where: np.ndarray) -> np.ndarray:
        places = np.flatnonzero(where)
        combined = _combined(maps, prior, places, agreement=agreement)
        return _scores(score(combined, places), len(places), "score")

    uniform[:] = judged(alike, np.ones(len(owners), dtype=bool))
    halves = []
    for half in (first, ~first):
        prior, _ = learned(values, names, floor, half)
        chosen = best(values, names, half)
        halves.append(Half(prior, chosen, len(set(owners[half]))))
        consensus[~half] = judged(prior, ~half)
        single[~half] = values[chosen][~half]
    drawn = resample_patients(list(owners), resamples, seed)

    def mean(numbers: np.ndarray) -> Interval:
        there = np.isfinite(numbers)
        value, resampled = resampled_mean(numbers[there, None], drawn.rows(there))
        return interval(value[0], resampled[:, 0], patients_with(there, drawn))

    both = np.isfinite(consensus - single)
    found: dict[str, Any] = {
        "consensus": mean(consensus),
        "uniform": mean(uniform),
        "single": mean(single),
        "difference": mean(consensus - single),
        "difference_uniform": mean(consensus - uniform),
    }
    count = patients_with(both, drawn)
    verdict = verdict_of(found["difference"], count)
    return ConsensusTest(
        weights=weights,
        informed=informed,
        agreement=agreement,
        metric=metric,
        best_single=best(values, names, np.ones(len(owners), dtype=bool)),
        halves=(halves[0], halves[1]),
        **found,
        scans=int(both.sum()),
        patients=count,
        undefined=int((~both).sum()),
        verdict=verdict,
        sentence=sentence_of(found, verdict, [half.single for half in halves], informed, metric),
        per_scan={"consensus": consensus, "uniform": uniform, "single": single},
    )


def halves_of(patients: np.ndarray, seed: int = 0) -> np.ndarray:
    """Cut scans into two halves by patient; return which are of the first, ``(B,)`` bool.

    The cut follows from the set of patients and the seed, not from the order of the scans.

    Raises:
        OctoscopeError: If there are fewer than two patients.
    """
    known, unit = np.unique(np.asarray(patients, dtype=object).astype(str), return_inverse=True)
    if len(known) < 2:
        raise OctoscopeError(
            f"{len(known)} patient cannot be cut into halves; a consensus takes two or more"
        )
    drawn = np.random.default_rng(seed).permutation(len(known))[: len(known) // 2]
    return np.isin(unit, drawn)


def learned(
    values: Mapping[str, np.ndarray],
    names: Sequence[str],
    nulls: Sequence[str],
    where: np.ndarray,
) -> tuple[dict[str, float], bool]:
    """Return the weights of methods, which sum to 1, and whether any beats the nulls.

    Args:
        values: Method → ``(B,)`` scores.
        names: Methods to weigh.
        nulls: Methods to beat; without any, 0 is.
        where: ``(B,)`` bool: scans to learn from.

    Returns:
        Method → weight; all alike if no method beats the nulls.
    """
    gains = {
        name: max(
            0.0,
            min(
                (_mean((values[name] - values[null])[where]) for null in nulls),
                default=_mean(values[name][where]),
            ),
        )
        for name in names
    }
    total = sum(gains.values())
    if total == 0:
        return dict.fromkeys(names, 1 / len(names)), False
    return {name: gain / total for name, gain in gains.items()}, True


def best(values: Mapping[str, np.ndarray], names: Sequence[str], where: np.ndarray) -> str:
    """Return the method with the highest mean score on some scans."""
    means = {name: _mean(values[name][where], empty=-np.inf) for name in names}
    return max(means, key=lambda name: means[name])


def _mean(numbers: np.ndarray, empty: float = 0.0) -> float:
    """Return the mean of what is defined, `empty` if nothing is."""
    there = numbers[np.isfinite(numbers)]
    return float(there.mean()) if there.size else empty


def _taking_part(
    maps: Mapping[str, Any], per_method: Mapping[str, Any], nulls: Collection[str] | None
) -> tuple[list[str], list[str]]:
    """Return the methods that are combined, and the null maps to beat."""

    def family(name: str) -> str:
        return METHODS[name].family if name in METHODS else ""

    if nulls is None:
        nulls = [name for name in per_method if family(name) == "null"]
    floor = [name for name in per_method if name in nulls]
    names = [n for n in per_method if n not in nulls and family(n) != "consensus" and n in maps]
    if len(names) < 2:
        raise OctoscopeError(
            f"a consensus takes two methods or more that have both maps and scores, not "
            f"{', '.join(names) or 'none'}"
        )
    return names, floor


def _scores(values: Tensor | np.ndarray, count: int, what: str) -> np.ndarray:
    """Return scores as float64 numbers, one per scan, NaN for what is not finite."""
    numbers = values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)
    if numbers.shape != (count,):
        raise OctoscopeError(f"{what}: {numbers.shape} scores do not fit {count} scans")
    numbers = numbers.astype(np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _combined(
    maps: Mapping[str, Tensor | Readable],
    weights: Mapping[str, float],
    places: np.ndarray,
    *,
    agreement: bool,
) -> Tensor:
    """Return the consensus of the maps at some positions, (n, *S)."""
    found = []
    for some in in_blocks(places, BLOCK):
        stack = torch.stack([torch.as_tensor(maps[name][some]) for name in weights])
        prior = list(weights.values())
        found.append(agreed(stack, prior, axes=stack.ndim - 2, agreement=agreement).map)
    return torch.cat(found)
