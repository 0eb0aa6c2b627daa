"""Weights of a consensus: learned by hand, and on planted cases with and without a good method."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from octoscope.attribution.consensus import ConsensusSettings, agreed
from octoscope.errors import OctoscopeError
from octoscope.trust import consensus_weights as module
from octoscope.trust.consensus_found import sentence_of, verdict_of
from octoscope.trust.consensus_weights import best, consensus_weights, halves_of, learned
from octoscope.trust.similarity import spearman

SCANS = 48
PATIENTS = np.array([f"p{number // 2}" for number in range(SCANS)])
NULLS = ["null_centre", "null_edges"]


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TRUTH = random(SCANS, 10, 10, seed=0)


def score(maps: Tensor, rows: np.ndarray) -> Tensor:
    """How well maps order the pixels as the truth does."""
    return spearman(maps, TRUTH[rows])


def measured(maps: dict[str, Tensor]) -> dict[str, Tensor]:
    everything = np.arange(SCANS)
    return {name: score(map_, everything) for name, map_ in maps.items()}


def planted(noise: dict[str, float], seed: int = 1) -> dict[str, Tensor]:
    """Return maps of the truth under so much noise (infinite: nothing but noise), and nulls."""
    made = {}
    for number, (name, amount) in enumerate({**noise, **dict.fromkeys(NULLS, np.inf)}.items()):
        draw = random(SCANS, 10, 10, seed=seed * 100 + number)
        made[name] = draw if np.isinf(amount) else TRUTH + amount * draw
    return made


def test_weights_by_hand() -> None:
    values = {
        "a": np.array([0.5, 0.7, 9.0]),
        "b": np.array([0.3, 0.3, 9.0]),
        "c": np.array([0.0, 0.1, 9.0]),
        "low": np.array([0.1, 0.1, 0.0]),
        "high": np.array([0.2, 0.2, 0.0]),
    }
    where = np.array([True, True, False])
    weights, informed = learned(values, ["a", "b", "c"], ["low", "high"], where)
    assert informed
    assert weights == {"a": pytest.approx(0.8), "b": pytest.approx(0.2), "c": 0}
    weights, _ = learned(values, ["a", "c"], [], where)
    assert weights == {"a": pytest.approx(0.6 / 0.65), "c": pytest.approx(0.05 / 0.65)}
    assert learned(values, ["c", "low"], ["high"], where) == ({"c": 0.5, "low": 0.5}, False)


def test_scores_that_are_undefined_teach_nothing() -> None:
    values = {
        "a": np.array([0.5, np.nan, 0.7]),
        "b": np.full(3, np.nan),
        "null": np.array([0.1, -9.0, 0.1]),
    }
    weights, _ = learned(values, ["a", "b"], ["null"], np.ones(3, dtype=bool))
    assert weights == {"a": 1, "b": 0}
    assert best(values, ["b", "a"], np.ones(3, dtype=bool)) == "a"


def test_halves_never_share_a_patient() -> None:
    first = halves_of(PATIENTS, seed=3)
    assert not set(PATIENTS[first]) & set(PATIENTS[~first])
    assert len(set(PATIENTS[first])) == len(set(PATIENTS[~first])) == 12
    order = np.random.default_rng(0).permutation(SCANS)
    assert (halves_of(PATIENTS[order], seed=3) == first[order]).all()
    assert (halves_of(PATIENTS, seed=4) != first).any()
    with pytest.raises(OctoscopeError, match="1 patient"):
        halves_of(np.array(["p", "p"]))


def test_the_good_method_is_found() -> None:
    maps = planted({"gradcam": 0.5, "rise": np.inf, "occlusion": np.inf, "layercam": np.inf})
    found = consensus_weights(maps, measured(maps), PATIENTS, score)
    assert found.best_single == "gradcam" and found.informed
    assert found.weights["gradcam"] > 0.9
    assert sum(found.weights.values()) == pytest.approx(1)
    assert set(found.weights) == {"gradcam", "rise", "occlusion", "layercam"}
    assert all(half.single == "gradcam" and half.weights["gradcam"] > 0.9 for half in found.halves)
    assert found.difference_uniform["low"] > 0.05
    assert found.verdict in ("worse", "not better")  # noise cannot help
    assert f"The consensus is {found.verdict} " in found.sentence
    assert "Grad-CAM alone: insertion − deletion" in found.sentence


def test_of_noise_no_consensus_is_better() -> None:
    maps = planted(dict.fromkeys(["gradcam", "rise", "occlusion"], np.inf), seed=2)
    found = consensus_weights(maps, measured(maps), PATIENTS, score)
    assert found.verdict == "not better"
    assert found.sentence.startswith("The consensus is not better than")
    assert found.difference["low"] < 0 < found.difference["high"]


def test_noise_that_beats_no_null_counts_alike() -> None:
    maps = planted(dict.fromkeys(["gradcam", "rise"], np.inf), seed=3)
    maps["null_edges"] = TRUTH
    found = consensus_weights(maps, measured(maps), PATIENTS, score)
    assert found.weights == {"gradcam": 0.5, "rise": 0.5} and not found.informed
    assert found.sentence.endswith("No method beats the null maps, so all count alike.")
    assert found.difference_uniform["value"] == 0


def test_methods_that_err_differently_are_better_together() -> None:
    maps = planted(dict.fromkeys(["gradcam", "rise", "occlusion", "layercam"], 1.5))
    found = consensus_weights(maps, measured(maps), PATIENTS, score)
    assert found.verdict == "better" and found.difference["low"] > 0.1
    assert found.sentence.startswith("The consensus is better than")
    assert f"{found.difference['value']:+.3f}" in found.sentence


def test_every_scan_is_judged_by_what_others_taught() -> None:
    maps = planted({"gradcam": 0.5, "rise": 1.0, "occlusion": 2.0})
    values = measured(maps)
    names = ["gradcam", "rise", "occlusion"]
    found = consensus_weights(maps, values, PATIENTS, score, seed=7)
    numbers = {name: value.numpy() for name, value in values.items()}
    first = halves_of(PATIENTS, seed=7)
    stack = torch.stack([maps[name] for name in names])
    for number, half in enumerate((first, ~first)):
        weights, _ = learned(numbers, names, NULLS, half)
        assert found.halves[number].weights == weights
        other = np.flatnonzero(~half)
        expected = score(agreed(stack[:, other], list(weights.values())).map, other)
        np.testing.assert_allclose(found.per_scan["consensus"][other], expected.numpy())
        single = numbers[best(numbers, names, half)][other]
        np.testing.assert_allclose(found.per_scan["single"][other], single)
    alike = score(agreed(stack).map, np.arange(SCANS))
    np.testing.assert_allclose(found.per_scan["uniform"], alike.numpy())
    gap = found.per_scan["consensus"] - found.per_scan["single"]
    assert found.difference["value"] == pytest.approx(gap.mean())
    assert (found.scans, found.patients, found.undefined) == (SCANS, 24, 0)
    everyone, _ = learned(numbers, names, NULLS, np.ones(SCANS, dtype=bool))
    assert found.weights == everyone


def test_a_halfs_own_scores_do_not_reach_its_judgement() -> None:
    maps = planted({"gradcam": 0.5, "rise": 1.0})
    values = measured(maps)
    before = consensus_weights(maps, values, PATIENTS, score)
    first = torch.from_numpy(halves_of(PATIENTS))
    flattered = {**values, "rise": values["rise"].where(~first, 100.0)}
    after = consensus_weights(maps, flattered, PATIENTS, score)
    assert after.halves[0].weights != before.halves[0].weights
    assert after.halves[1] == before.halves[1]
    mine = first.numpy()
    np.testing.assert_array_equal(
        after.per_scan["consensus"][mine], before.per_scan["consensus"][mine]
    )
    assert (after.per_scan["consensus"][~mine] != before.per_scan["consensus"][~mine]).any()


def test_blocks_and_undefined_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = planted({"gradcam": 0.5, "rise": 1.0, "occlusion": 2.0})
    values = measured(maps)
    whole = consensus_weights(maps, values, PATIENTS, score, agreement=False)
    monkeypatch.setattr(module, "BLOCK", 5)

    def some(maps: Tensor, rows: np.ndarray) -> Tensor:
        return score(maps, rows).where(torch.from_numpy(rows != 3), torch.nan)

    arrays = {name: value.numpy() for name, value in values.items()}
    parts = consensus_weights(maps, arrays, list(PATIENTS), some, agreement=False)
    assert parts.undefined == 1 and parts.scans == SCANS - 1
    kept = np.arange(SCANS) != 3
    np.testing.assert_allclose(parts.per_scan["consensus"][kept], whole.per_scan["consensus"][kept])
    assert whole.options["consensus"]["agreement"] is False


def test_few_patients_give_no_verdict() -> None:
    maps = {name: map_[:8] for name, map_ in planted({"gradcam": 0.5, "rise": 1.0}).items()}
    values = {name: score(map_, np.arange(8)) for name, map_ in maps.items()}
    found = consensus_weights(maps, values, PATIENTS[:8], score)
    assert found.verdict == "too few patients"
    assert found.sentence.startswith("Too few patients to tell")


def test_words_either_way() -> None:
    def number(value: float, low: float, high: float) -> dict[str, float]:
        return {"value": value, "low": low, "high": high}

    assert verdict_of(number(0.2, 0.1, 0.3), 9) == "better"
    assert verdict_of(number(-0.2, -0.3, -0.1), 9) == "worse"
    assert verdict_of(number(0.2, -0.1, 0.3), 9) == "not better"
    assert verdict_of(number(0.2, 0.1, 0.3), 4) == "too few patients"
    found = {
        "consensus": number(0.412, 0.4, 0.5),
        "single": number(0.4, 0.3, 0.5),
        "difference": number(0.012, -0.01, 0.03),
        "difference_uniform": number(0.1, np.nan, np.nan),
    }
    said = sentence_of(found, "not better", ["gradcam", "rise"], True, "ROAD")
    assert said == (
        "The consensus is not better than the best single method (Grad-CAM in one half, RISE in "
        "the other): ROAD 0.412 against 0.400, +0.012 [-0.010, +0.030], on patients that had no "
        "say in weights or choice; against weights that are all alike +0.100."
    )
    found["difference"] = number(np.nan, np.nan, np.nan)
    assert "no scan has a score of both" in sentence_of(
        found, "too few patients", ["gradcam"], True, "ROAD"
    )


def test_what_is_returned_can_be_used_and_written() -> None:
    maps = planted({"gradcam": 0.5, "rise": 1.0})
    maps["consensus"] = TRUTH
    found = consensus_weights(maps, measured(maps), PATIENTS, score, resamples=50)
    settings = ConsensusSettings(**found.options["consensus"])
    assert set(settings.weights or {}) == {"gradcam", "rise"}
    said = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert said["weights"] == found.weights and said["sentence"] == found.sentence
    assert set(said["difference"]) == {"value", "low", "high"}
    assert said["halves"][0]["single"] == "gradcam"


def test_what_makes_no_sense_is_refused() -> None:
    maps = planted({"gradcam": 0.5, "rise": 1.0})
    values = measured(maps)
    with pytest.raises(OctoscopeError, match="not gradcam"):
        consensus_weights(maps, {k: v for k, v in values.items() if k != "rise"}, PATIENTS, score)
    with pytest.raises(OctoscopeError, match="not gradcam"):
        consensus_weights({"gradcam": maps["gradcam"]}, values, PATIENTS, score)
    with pytest.raises(OctoscopeError, match="do not fit 47 scans"):
        consensus_weights(maps, values, PATIENTS[1:], score)
    with pytest.raises(OctoscopeError, match="score"):
        consensus_weights(maps, values, PATIENTS, lambda some, rows: score(some, rows)[:2])
