"""The score table, its summaries with intervals, and what they say in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from octoscope.errors import OctoscopeError
from octoscope.trust.lesions import score_localisation
from octoscope.trust.localisation import (
    BLOCK,
    mass_of_other_scans,
    pointing_game,
    relevance_mass,
)
from octoscope.trust.scores import (
    TOLERANCE,
    check_scores,
    lift_sentence,
    lift_summary,
    read_scores,
    save_scores,
    summarise,
    verdict,
)

LESIONS = {1: "drusen", 2: "fluid"}


def study(scans: int = 24, seed: int = 0):
    """Return masks and maps: one that finds lesions, one of noise, one that is empty at times."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((scans, 20, 30), dtype=np.uint8)
    for i, mask in enumerate(masks[:-2]):  # the last two scans have no lesion
        r, c = generator.integers(0, 15), generator.integers(0, 22)
        mask[r : r + 4, c : c + 6] = 1 + i % 2
    noise = generator.random((scans, 20, 30))
    finder = noise + 4 * (masks > 0)
    fading = finder.copy()
    fading[::3] = -1
    maps = {"finder": finder, "noise": noise, "fading": fading}
    about = {
        "scans": [f"{i}.png" for i in range(scans)],
        "patients": [f"p{i // 2}" for i in range(scans)],
        "labels": ["CNV"] * scans,
        "model": "net",
        "lesions": LESIONS,
    }
    return maps, masks, about


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    maps, masks, about = study()
    return score_localisation(maps, masks, seed=0, **about)


def test_the_table_is_tidy_and_survives_the_disk(scores: pd.DataFrame, tmp_path: Path) -> None:
    check_scores(scores)
    assert set(scores["lesion"]) == {"any", "drusen", "fluid"}
    save_scores(scores, tmp_path / "scores.parquet")
    again = read_scores(tmp_path / "scores.parquet")
    pd.testing.assert_frame_equal(scores, again, check_dtype=False)
    with pytest.raises(OctoscopeError, match="stands twice"):
        check_scores(pd.concat([scores, scores[:1]]))
    with pytest.raises(OctoscopeError, match="lacks the column value"):
        save_scores(scores.drop(columns="value"), tmp_path / "bad.parquet")
    with pytest.raises(OctoscopeError, match="no such file"):
        read_scores(tmp_path / "bad.parquet")


def test_lesion_types_partition_the_lesions(scores: pd.DataFrame) -> None:
    mass = scores[(scores["metric"] == "relevance_mass") & (scores["method"] == "finder")]
    by_scan = mass.pivot(index="scan", columns="lesion", values="value")
    assert by_scan["any"].notna().sum() == 22
    np.testing.assert_allclose(by_scan["any"], by_scan[["drusen", "fluid"]].sum(axis=1))
    assert by_scan["drusen"].notna().sum() == by_scan["fluid"].notna().sum() == 11


def test_a_batch_gives_what_its_scans_give_alone(scores: pd.DataFrame) -> None:
    maps, masks, about = study()
    one = {k: [v[5]] if isinstance(v, list) else v for k, v in about.items()}
    alone = score_localisation({m: v[[5]] for m, v in maps.items()}, masks[[5]], seed=0, **one)
    alone = alone[alone["metric"] != "mass_of_other_scans"]  # which is about the others
    both = alone.merge(scores, on=["scan", "method", "metric", "lesion"])
    assert len(both) == len(alone) == 3 * 15 * 2
    np.testing.assert_allclose(both["value_x"], both["value_y"])


def test_what_is_left_out_is_counted(scores: pd.DataFrame) -> None:
    got = lift_summary(scores, resamples=100).set_index(["method", "lesion"])
    assert got.loc[("finder", "any"), ["scans", "no_lesion", "empty_maps"]].tolist() == [22, 2, 0]
    assert got.loc[("fading", "any"), ["scans", "no_lesion", "empty_maps"]].tolist() == [14, 2, 8]
    assert got.loc[("fading", "drusen"), "empty_maps"] == 4


def test_the_finder_beats_chance_and_noise_does_not(scores: pd.DataFrame) -> None:
    got = lift_summary(scores, resamples=500).set_index(["method", "lesion"])
    finder, noise = got.loc[("finder", "any")], got.loc[("noise", "any")]
    assert finder["verdict"] == "above chance" and finder["lift_low"] > 5
    assert noise["lift"] == pytest.approx(1, abs=0.15)
    assert noise["lift_low"] < 1 < noise["lift_high"]
    assert noise["verdict"] == "not told from chance"
    rows = scores[(scores["method"] == "finder") & (scores["lesion"] == "any")]
    values = rows.pivot(index="scan", columns="metric", values="value").dropna()
    assert finder["mass"] == pytest.approx(values["relevance_mass"].mean())
    assert finder["lift"] == pytest.approx(
        values["relevance_mass"].mean() / values["lesion_area"].mean()
    )


def test_against_other_scans_a_map_of_the_place_alone_is_unmasked() -> None:
    maps, masks, about = study()
    centre = np.repeat(np.outer(np.hanning(20), np.hanning(30))[None], len(masks), axis=0)
    masks = np.zeros_like(masks)
    masks[:, 8:12, 12:18] = 1
    table = score_localisation({"centre": centre, **maps}, masks, seed=0, **about)
    frame = lift_summary(table, resamples=100).set_index(["method", "lesion"])
    others = lift_summary(table, chance="other scans", resamples=100)
    others = others.set_index(["method", "lesion"])
    assert frame.loc[("centre", "any"), "verdict"] == "above chance"
    assert others.loc[("centre", "any"), "lift"] == pytest.approx(1)
    assert "where maps of other patients of the class put" in others["sentence"].iloc[0]


def test_the_retina_is_the_stronger_chance() -> None:
    maps, masks, about = study()
    retina = np.zeros(masks.shape, dtype=bool)
    retina[:, :10] = True
    table = score_localisation(maps, masks, seed=0, retina=retina, **about)
    got = lift_summary(table, chance="retina", resamples=100)
    assert (got["expected"] > 0.04).all() and got["sentence"].str.contains("of the retina").all()
    assert lift_summary(table[table["metric"] == "lift"]).empty


def test_seeds_are_pooled_without_narrowing_beyond_the_patients() -> None:
    maps, masks, about = study()
    once = score_localisation(maps, masks, seed=0, **about)
    copied = pd.concat([once.assign(seed=s) for s in range(4)], ignore_index=True)
    one = lift_summary(once, resamples=300).set_index(["method", "lesion"])
    four = lift_summary(copied, resamples=300).set_index(["method", "lesion"])
    columns = ["lift", "lift_low", "lift_high"]
    np.testing.assert_allclose(one[columns].astype(float), four[columns].astype(float))
    by_seed = summarise(copied, by=("model", "seed", "method", "lesion", "metric"), resamples=50)
    assert len(by_seed) == 4 * len(summarise(once, resamples=50))


def test_summaries_are_means_with_intervals(scores: pd.DataFrame) -> None:
    got = summarise(scores, resamples=400).set_index(["method", "lesion", "metric"])
    row = got.loc[("finder", "any", "pointing_game")]
    assert row["value"] == 1 and row["scans"] == 22 and row["patients"] == 11
    assert got.loc[("fading", "any", "relevance_mass"), "undefined"] == 8
    noise = got.loc[("noise", "any", "relevance_mass")]
    assert noise["low"] < noise["value"] < noise["high"]


def test_one_patient_has_no_interval_and_no_scan_no_number() -> None:
    maps, masks, about = study(4)
    about["patients"] = ["p"] * 4
    got = lift_summary(score_localisation(maps, masks, seed=0, **about), resamples=50)
    row = got[(got["method"] == "finder") & (got["lesion"] == "any")].iloc[0]
    assert np.isfinite(row["lift"]) and np.isnan(row["lift_low"])
    assert row["verdict"] == "no interval" and "without an interval" in row["sentence"]
    nothing = score_localisation({"dead": -maps["noise"]}, masks, seed=0, **about)
    sentence = lift_summary(nothing)["sentence"].iloc[0]
    assert "no scan has both a map and lesions" in sentence


def test_the_sentence_holds_the_numbers() -> None:
    row = {
        "method": "gradcam", "model": "resnet18", "lesion": "any", "mass": 0.312,
        "mass_low": 0.27, "mass_high": 0.35, "expected": 0.06, "lift": 5.2, "lift_low": 4.6,
        "lift_high": 5.9, "verdict": "above chance",
    }  # fmt: skip
    assert lift_sentence(row) == (
        "gradcam of resnet18 puts 31 % [27, 35] of its mass on lesions, "
        "which fill 6.0 % of the frame: 5.2× [4.6, 5.9] chance."
    )
    row.update(lift=1.1, lift_low=0.9, lift_high=1.3, verdict="not told from chance")
    assert lift_sentence(row).endswith("1.10× [0.90, 1.30] chance (not told from chance).")


@pytest.mark.parametrize(
    ("low", "high", "patients", "expected"),
    [
        (1.1, 2, 5, "above chance"),
        (0.2, 0.9, 50, "below chance"),
        (0.9, 1.1, 50, "not told from chance"),
        (1.1, 2, 4, "too few patients"),
        (np.nan, np.nan, 50, "no interval"),
    ],
)
def test_verdicts(low: float, high: float, patients: int, expected: str) -> None:
    assert verdict(low, high, patients) == expected


def test_few_patients_get_numbers_but_no_verdict() -> None:
    maps, masks, about = study(6)  # the last two of six scans have no lesion
    got = lift_summary(score_localisation(maps, masks, seed=0, **about), resamples=50)
    row = got[(got["method"] == "finder") & (got["lesion"] == "any")].iloc[0]
    assert row["patients"] == 2 and row["verdict"] == "too few patients"
    assert row["sentence"].endswith("chance (of 2 patients: too few to tell).")


def test_a_mask_value_without_a_name_is_refused() -> None:
    maps, masks, about = study()
    masks[0, 0, 0] = 7
    with pytest.raises(OctoscopeError, match=r"value 7.*complete lesions\.json"):
        score_localisation(maps, masks, seed=0, **about)


def test_maps_are_read_in_blocks() -> None:
    """More scans than a block: from disk a few at a time, and as one array by the definitions."""
    rng = np.random.default_rng(1)
    count = 2 * BLOCK + 20
    drawn = rng.normal(size=(count, 6, 8)).astype(np.float32)
    drawn[3], drawn[BLOCK + 1, 0, 0] = -1, np.nan  # say nothing
    masks = (rng.random((count, 6, 8)) < 0.2) * (np.arange(count) % 5 > 0)[:, None, None]
    patients, labels = np.arange(count) // 3, np.where(np.arange(count) % 2, "CNV", "DME")
    asked: list[int] = []

    class Stored:
        def __len__(self) -> int:
            return count

        def __getitem__(self, places: np.ndarray) -> np.ndarray:
            asked.append(len(places))
            return drawn[places]

    table = score_localisation(
        {"stored": Stored()},
        masks,
        scans=[f"s{i}" for i in range(count)],
        patients=patients.tolist(),
        labels=labels.tolist(),
        model="net",
        seed=0,
    )
    assert max(asked) == BLOCK
    ill = masks.any((1, 2))
    expected = {
        "relevance_mass": relevance_mass(drawn, masks),
        "pointing_game": pointing_game(drawn, masks, TOLERANCE),
        "mass_of_other_scans": mass_of_other_scans(drawn, masks, patients, labels),
    }
    for metric, values in expected.items():
        found = table[table["metric"] == metric]
        assert found["scan"].tolist() == [f"s{i}" for i in np.flatnonzero(ill)]
        np.testing.assert_allclose(found["value"], values.numpy()[ill], rtol=1e-6)
