"""The scoreboard: who beats the maps that know no model, by hand and by simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from octoscope.trust.metric import Metric
from octoscope.trust.scoreboard import BEATS, FEW, NOT_TOLD, WORSE, ranking, scoreboard

UP = Metric("up", "Up", "faithfulness", True, "0…1", "", "", headline=True)
DOWN = Metric("down", "Down", "faithfulness", False, "0…1", "", "", headline=True)
CALM = Metric("calm", "Calm", "stability", True, "0…1", "", "", headline=True, nulls=False)
METRICS = {metric.name: metric for metric in (UP, DOWN, CALM)}
NULLS = ("null_a", "null_b")


def table(values: dict[tuple[str, str], list[float]], patients: int = 10) -> pd.DataFrame:
    """Return a score table from (metric, method) → the values of its scans."""
    rows = []
    for (metric, method), column in values.items():
        for number, value in enumerate(column):
            rows.append(
                {
                    "scan": f"{number}.png",
                    "patient": f"p{number % patients}",
                    "model": "net",
                    "seed": 0,
                    "method": method,
                    "metric": metric,
                    "value": value,
                    "higher_is_better": METRICS[metric].higher_is_better,
                }
            )
    return pd.DataFrame(rows)


def row(board: pd.DataFrame, metric: str, method: str) -> pd.Series:
    return board[(board["metric"] == metric) & (board["method"] == method)].iloc[0]


def test_the_strongest_null_is_the_floor_and_the_difference_is_paired() -> None:
    values = list(np.linspace(0, 1, 20))  # scans differ far more than methods do
    board = scoreboard(
        table(
            {
                ("up", "good"): [v + 0.1 for v in values],
                ("up", "null_a"): [v - 0.5 for v in values],
                ("up", "null_b"): values,
            }
        ),
        METRICS,
        NULLS,
    )
    good = row(board, "up", "good")
    assert good["null"] == "null_b"
    assert good["null_value"] == pytest.approx(0.5)
    assert good["difference"] == pytest.approx(0.1)
    assert good["difference_low"] == pytest.approx(0.1)  # the same in every scan
    assert good["verdict"] == BEATS
    assert good["low"] < good["value"] - 0.05  # though the interval of its value is wide
    assert row(board, "up", "null_a")["verdict"] == ""


def test_lower_can_be_better() -> None:
    board = scoreboard(
        table(
            {
                ("down", "good"): [0.1, 0.2] * 10,
                ("down", "bad"): [0.9, 0.8] * 10,
                ("down", "null_a"): [0.5] * 20,
                ("down", "null_b"): [0.4, 0.6] * 10,
            }
        ),
        METRICS,
        NULLS,
    )
    assert row(board, "down", "good")["verdict"] == BEATS
    assert row(board, "down", "good")["difference"] == pytest.approx(0.35)
    assert row(board, "down", "bad")["verdict"].startswith(WORSE)


def test_noise_about_the_null_is_not_told_from_it() -> None:
    generator = np.random.default_rng(0)
    told = 0
    for _ in range(40):
        null, method = generator.normal(size=(2, 30))
        board = scoreboard(
            table({("up", "m"): list(method), ("up", "null_a"): list(null)}, patients=30),
            METRICS,
            NULLS,
            resamples=300,
        )
        told += not row(board, "up", "m")["verdict"].startswith(NOT_TOLD)
    assert told <= 6  # 5 % each way are expected: 2 of 40; more than 6 has probability 0.003


def test_undefined_scans_are_counted_and_left_out_of_the_pairs() -> None:
    board = scoreboard(
        table(
            {
                ("up", "m"): [np.nan] * 4 + [1.0, 0.9] * 8,
                ("up", "null_a"): [5.0] * 4 + [0.0, 0.1] * 8,
            }
        ),
        METRICS,
        NULLS,
    )
    found = row(board, "up", "m")
    assert (found["scans"], found["undefined"]) == (16, 4)
    assert found["difference"] == pytest.approx(0.9)


def test_few_patients_carry_no_verdict() -> None:
    values = {("up", "m"): [1.0] * 8, ("up", "null_a"): [0.0] * 8}
    board = scoreboard(table(values, patients=4), METRICS, NULLS)
    assert row(board, "up", "m")["verdict"] == FEW


def test_nulls_are_no_floor_where_ignoring_the_model_is_perfect() -> None:
    board = scoreboard(
        table({("calm", "m"): [0.5] * 10, ("calm", "null_a"): [1.0] * 10}), METRICS, NULLS
    )
    found = row(board, "calm", "m")
    assert found["null"] is None
    assert found["verdict"] == ""


def test_ranking_puts_what_beats_more_nulls_first_and_gated_and_nulls_last() -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, (5, 20))
    board = scoreboard(
        table(
            {
                ("up", "best"): list(0.9 + noise[0]),
                ("up", "half"): list(0.8 + noise[1]),
                ("up", "gated"): list(0.99 + noise[2]),
                ("up", "null_a"): list(0.2 + noise[3]),
                ("down", "best"): list(0.1 + noise[0]),
                ("down", "half"): list(0.9 + noise[1]),
                ("down", "gated"): list(0.0 + noise[2]),
                ("down", "null_a"): list(0.5 + noise[4]),
            }
        ),
        METRICS,
        NULLS,
    )
    order = ranking(board, METRICS, NULLS, {"gated": "does not change with the weights"})
    assert order["method"].tolist() == ["best", "half", "gated", "null_a"]
    assert order["beats"].tolist() == [2, 1, 2, 0]
    assert order["of"].tolist() == [2, 2, 2, 2]


def test_lesion_types_have_rows_of_their_own_and_do_not_rank() -> None:
    scores = table({("up", "m"): [1.0, 0.8] * 5, ("up", "null_a"): [0.0, 0.1] * 5})
    both = pd.concat([scores.assign(lesion="any"), scores.assign(lesion="fluid")])
    board = scoreboard(both, METRICS, NULLS)
    assert set(board["lesion"]) == {"any", "fluid"}
    assert ranking(board, METRICS, NULLS, {})["of"].tolist() == [1, 1]
