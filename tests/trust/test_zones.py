"""Shares of mass by zone: by hand, and as a table, a summary and a block of a report."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from octoscope.errors import OctoscopeError
from octoscope.scans.geometry.zones import UNKNOWN, ZONES
from octoscope.trust.scores import check_scores
from octoscope.trust.zones import (
    ROWS,
    outside_retina,
    outside_summary,
    score_zones,
    zone_area,
    zone_shares,
    zones_block,
)

ZONE = np.array([[[0, 1, 1, 2], [3, 3, 4, 4], [5, 6, 6, 7]]], np.uint8)  # 1 × 3 × 4


def drawn_zones(scans: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, len(ZONES), (scans, 10, 12)).astype(np.uint8)


def test_shares_by_hand() -> None:
    maps = np.array([[[1.0, 2, 0, 4], [0, -9, 0, 3], [5, 2, 2, 1]]])
    expected = np.array([1, 2, 4, 0, 3, 5, 4, 1]) / 20  # the −9 is evidence against the class
    np.testing.assert_allclose(zone_shares(maps, ZONE)[0], expected)
    assert float(outside_retina(maps, ZONE)[0]) == pytest.approx(14 / 20)


def test_a_constant_map_scores_the_area() -> None:
    np.testing.assert_allclose(zone_area(ZONE)[0], np.array([1, 2, 1, 2, 2, 1, 2, 1]) / 12)
    np.testing.assert_allclose(zone_shares(np.full((1, 3, 4), 3.5), ZONE), zone_area(ZONE))


def test_a_map_on_the_retina_alone_has_nothing_outside_of_it() -> None:
    retina = np.isin(ZONE, [1, 2, 3])
    assert float(outside_retina(retina * 2.0, ZONE)[0]) == 0
    assert float(outside_retina(~retina * 2.0, ZONE)[0]) == pytest.approx(1)


def test_what_says_nothing_is_undefined_not_zero() -> None:
    zones = np.repeat(ZONE, 5, axis=0)
    maps = np.ones((5, 3, 4))
    maps[0], maps[1], maps[2, 0, 0], maps[3, 0, 0] = 0, -1, np.nan, np.inf
    found = zone_shares(maps, zones)
    assert found[:4].isnan().all() and not found[4].isnan().any()
    zones[4, 2, 2] = UNKNOWN
    assert zone_shares(maps, zones).isnan().all()
    assert zone_area(zones)[4].isnan().all() and not zone_area(zones)[:4].isnan().any()
    assert outside_retina(maps, zones).isnan().all()


def test_shares_sum_to_one_and_do_not_depend_on_the_batch_or_the_scale() -> None:
    maps = np.random.default_rng(1).normal(size=(3, 6, 10, 12)).astype(np.float32)
    zones = drawn_zones(6)
    together = zone_shares(maps, zones)
    assert together.shape == (3, 6, len(ZONES))
    np.testing.assert_allclose(together.sum(-1), 1)
    for m in range(3):
        for b in range(6):
            alone = zone_shares(maps[m, b][None], zones[b][None])
            np.testing.assert_array_equal(together[m, b], alone[0])
    huge = maps.astype(np.float64) * 1e305
    np.testing.assert_allclose(zone_shares(huge, zones), together)


def test_the_inputs_stay_as_they_were_and_tensors_and_volumes_are_taken() -> None:
    maps = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    zones = torch.randint(0, 8, (2, 3, 4, 5), generator=torch.Generator().manual_seed(1))
    before = maps.clone(), zones.clone()
    found = zone_shares(maps, zones)
    np.testing.assert_allclose(found, zone_shares(maps.flatten(2), zones.flatten(2)))
    assert torch.equal(maps, before[0]) and torch.equal(zones, before[1])


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(OctoscopeError, match=r"maps of shape \(1, 7, 7\) do not fit zones"):
        zone_shares(np.ones((1, 7, 7)), ZONE)
    with pytest.raises(OctoscopeError, match="2 scans are named, but there are zones of 1"):
        score_zones({}, ZONE, scans=["a", "b"], patients=["p", "p"], labels=["x", "x"],
                    model="m", seed=0)  # fmt: skip


class Stored:
    """Maps that are read when asked for, and count how many at once."""

    def __init__(self, maps: np.ndarray) -> None:
        self.maps, self.most = maps, 0

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        self.most = max(self.most, len(places))
        return self.maps[places]


SCANS = 80


def table(seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return scores of an honest and a mislead method, zones, labels and maps."""
    rng = np.random.default_rng(seed)
    zones = drawn_zones(SCANS)
    retina = np.isin(zones, [1, 2, 3])
    honest = rng.random(zones.shape) * np.where(retina, 3, 1)
    misled = rng.random(zones.shape) * np.where(zones == ZONES.index("corners"), 5, 1)
    misled[0] = 0
    zones[1, 0, 0] = UNKNOWN
    labels = np.array(["CNV", "DME"] * (SCANS // 2))
    maps = {"honest": honest, "misled": misled}
    scores = score_zones(
        {"honest": honest, "misled": Stored(misled)}, zones, scans=[f"s{i}" for i in range(SCANS)],
        patients=[f"p{i // 4}" for i in range(SCANS)], labels=labels.tolist(), model="net", seed=3,
    )  # fmt: skip
    return scores, zones, labels, maps


def test_the_table_holds_every_metric_of_every_scan() -> None:
    scores, zones, _, maps = table()
    check_scores(scores)
    assert set(scores["metric"]) == {row.name for row in ROWS}
    assert len(scores) == 2 * SCANS * len(ROWS)
    chosen = scores[(scores["method"] == "misled") & (scores["metric"] == "zone_corners")]
    np.testing.assert_allclose(
        chosen["value"], zone_shares(maps["misled"], zones)[:, ZONES.index("corners")]
    )
    directions = scores.groupby("metric")["higher_is_better"].first()
    assert not directions["outside_retina"] and pd.isna(directions["zone_choroid"])


def test_maps_are_read_in_blocks() -> None:
    maps = Stored(np.ones((SCANS, 10, 12)))
    names = [f"s{i}" for i in range(SCANS)]
    score_zones({"m": maps}, drawn_zones(SCANS), scans=names, patients=names, labels=names,
                model="n", seed=0)  # fmt: skip
    assert maps.most == 64


def test_outside_of_the_retina_in_words() -> None:
    found = outside_summary(table()[0], titles={"honest": "Honesty"}).set_index("method")
    assert found.loc["honest", "verdict"] == "below chance"
    assert found.loc["misled", "verdict"] == "above chance"
    assert found["scans"].tolist() == [SCANS - 1, SCANS - 2]  # no retina; and an empty map
    assert found["undefined"].tolist() == [1, 2] and found["patients"].tolist() == [20, 20]
    row = found.loc["honest"]
    share = [round(100 * row[key]) for key in ("value", "low", "high", "chance")]
    assert row["sentence"] == (
        f"Honesty of net puts {share[0]} % [{share[1]}, {share[2]}] of its mass outside the "
        f"retina; a constant map would put {share[3]} % there. 1 of {SCANS} left out: no retina "
        "found, or an empty map."
    )
    assert "% there (above chance). 2 of " in found.loc["misled", "sentence"]


def test_few_patients_give_no_verdict() -> None:
    scores = table()[0]
    few = scores[scores["patient"].isin(["p3", "p4"])]
    for row in outside_summary(few).to_dict("records"):
        assert row["verdict"] == "too few patients"
        assert row["sentence"].endswith("(of 2 patients: too few to tell).")
    one = outside_summary(scores[scores["patient"] == "p3"]).iloc[0]
    assert one["sentence"].endswith("(of one patient, so without an interval).")
    nothing = scores.assign(value=np.nan)
    assert "so nothing can be said" in outside_summary(nothing).iloc[0]["sentence"]


def test_the_block_of_a_report() -> None:
    scores, zones, labels, maps = table()
    block = zones_block(scores, zones, labels.tolist(), resamples=200)
    assert block["names"] == list(ZONES) and block["no_retina"] == 1
    assert set(block["shares"]["honest"]) == {"all", "CNV", "DME"}
    for method in ("honest", "misled"):
        found = zone_shares(maps[method], zones).numpy()
        for name, member in (("all", labels != ""), ("CNV", labels == "CNV")):
            values = [zone["value"] for zone in block["shares"][method][name]]
            np.testing.assert_allclose(values, np.nanmean(found[member], axis=0))
            assert sum(values) == pytest.approx(1)
            assert all(z["low"] < z["value"] < z["high"] for z in block["shares"][method][name])
    area = zone_area(zones).numpy()
    np.testing.assert_allclose(block["area"]["DME"], np.nanmean(area[labels == "DME"], axis=0))
    outside = 1 - np.nanmean(area, axis=0)[1:4].sum()
    assert block["chance_outside_retina"] == pytest.approx(outside)
    assert block["outside_retina"]["misled"]["value"] > outside


def test_a_single_headline() -> None:
    assert [row.name for row in ROWS if row.headline] == ["outside_retina"]
    assert all(row.family == "zones" and not row.nulls for row in ROWS)
