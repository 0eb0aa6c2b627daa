"""Models are compared on the same patients; seeds are averaged under the same resamples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from octoscope.errors import OctoscopeError
from octoscope.evaluation.comparison import across_seeds, paired_difference
from octoscope.evaluation.evaluate import evaluate
from octoscope.evaluation.predictions import predictions_frame
from octoscope.scans.table import ScanTable

CLASSES = ("A", "B", "C")
SCANS, PATIENTS = 300, 100


@pytest.fixture(scope="module")
def hardness() -> np.ndarray:
    """How hard each scan is for any model; shared within patients."""
    generator = np.random.default_rng(0)
    return np.repeat(generator.normal(size=PATIENTS), SCANS // PATIENTS)


def run(hardness: np.ndarray, skill: float, model: str, seed: int) -> pd.DataFrame:
    targets = np.arange(SCANS) // 3 % 3
    generator = np.random.default_rng(seed)
    logits = 0.3 * generator.normal(size=(SCANS, 3))
    logits[np.arange(SCANS), targets] += skill + hardness
    frame = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(SCANS)],
            "label": [CLASSES[t] for t in targets],
            "patient": [str(i // 3) for i in range(SCANS)],
            "split": "val",
        }
    )
    table = ScanTable.from_frame(frame, Path("data"), classes=CLASSES)
    return predictions_frame(table, logits, classes=table.classes, model=model, seed=seed)


def test_a_model_does_not_differ_from_itself(hardness: np.ndarray) -> None:
    a = run(hardness, 1, "a", 0)
    got = paired_difference(a, a, resamples=100)
    assert (got["value"], got["low"], got["high"], got["p_value"]) == (0, 0, 0, 1)
    assert "cannot tell them apart" in got["sentence"]


def test_pairing_sees_what_separate_intervals_do_not(hardness: np.ndarray) -> None:
    a, b = run(hardness, 1.0, "a", 0), run(hardness, 0.75, "b", 1)
    got = paired_difference(a, b, "balanced_accuracy", resamples=1000)
    alone = [evaluate(f, CLASSES, resamples=500)["overall"]["balanced_accuracy"] for f in (a, b)]
    assert got["value"] == pytest.approx(alone[0]["value"] - alone[1]["value"])
    assert got["low"] > 0 and got["p_value"] < 0.05
    assert alone[0]["low"] < alone[1]["high"], "the separate intervals overlap"
    assert "a (seed 0) is better" in got["sentence"]


def test_swapping_the_models_turns_the_sign(hardness: np.ndarray) -> None:
    a, b = run(hardness, 1.0, "a", 0), run(hardness, 0.6, "b", 1)
    there = paired_difference(a, b, "auroc", resamples=200)
    back = paired_difference(b, a.sample(frac=1, random_state=1), "auroc", resamples=200)
    assert back["value"] == pytest.approx(-there["value"])
    assert back["low"] == pytest.approx(-there["high"])
    assert back["p_value"] == there["p_value"]


def test_the_p_value_is_uniform_enough_under_no_difference(hardness: np.ndarray) -> None:
    values = [
        paired_difference(
            run(hardness, 1, "a", 2 * s), run(hardness, 1, "b", 2 * s + 1), resamples=200
        )["p_value"]
        for s in range(40)
    ]
    assert np.mean(np.array(values) < 0.05) <= 0.15


def test_seeds_are_averaged_before_models_are_compared(hardness: np.ndarray) -> None:
    a = [run(hardness, 1.0, "a", seed) for seed in range(3)]
    b = run(hardness, 0.75, "b", 9)
    got = paired_difference(a, b, "accuracy", resamples=200)
    each = [paired_difference(one, b, "accuracy", resamples=200)["value"] for one in a]
    assert got["value"] == pytest.approx(np.mean(each))
    assert got["a"] == "a (mean of 3 seeds)" and got["b"] == "b (seed 9)"


def test_unlike_scans_metrics_and_classes_are_refused(hardness: np.ndarray) -> None:
    a = run(hardness, 1, "a", 0)
    with pytest.raises(OctoscopeError, match="not evaluated on the same scans"):
        paired_difference(a, a[:-1])
    with pytest.raises(OctoscopeError, match="unknown metric kappa"):
        paired_difference(a, a, "kappa")
    with pytest.raises(OctoscopeError, match="lacks the column probability_C"):
        paired_difference(a, a.rename(columns={"probability_C": "p", "logit_C": "l"}))


def test_the_mean_over_seeds_is_the_mean_and_narrower_than_its_worst_seed(hardness) -> None:
    runs = [run(hardness, 0.8, "a", seed) for seed in range(3)]
    got = across_seeds(runs, resamples=300)
    single = [evaluate(f, CLASSES, resamples=300)["overall"] for f in runs]
    assert got["seeds"] == [0, 1, 2]
    for metric, number in got["overall"].items():
        values = [s[metric]["value"] for s in single]
        assert number["value"] == pytest.approx(np.mean(values))
        assert number["seed_sd"] == pytest.approx(np.std(values, ddof=1))
        widths = [s[metric]["high"] - s[metric]["low"] for s in single]
        assert number["high"] - number["low"] <= max(widths)


def test_one_seed_is_its_own_mean_without_a_spread(hardness: np.ndarray) -> None:
    one = run(hardness, 0.8, "a", 0)
    got = across_seeds([one], resamples=300)["overall"]["accuracy"]
    alone = evaluate(one, CLASSES, resamples=300)["overall"]["accuracy"]
    assert {key: got[key] for key in alone} == pytest.approx(alone)
    assert np.isnan(got["seed_sd"])
    with pytest.raises(OctoscopeError, match="no run"):
        across_seeds([])
