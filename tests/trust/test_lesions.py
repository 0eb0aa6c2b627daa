"""The table of localisation scores against the definitions, one metric and one scan at a time."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest

from octoscope.trust.lesions import HIGHER_IS_BETTER, OF_SCANS, score_localisation
from octoscope.trust.localisation import (
    lesion_area,
    lift_over_chance,
    pointing_chance,
    pointing_game,
    relevance_mass,
)
from octoscope.trust.localisation_metrics import CHANCE, ROWS
from octoscope.trust.overlap import (
    intersection_over_attention,
    iou_at_otsu,
    mean_iou,
    pixel_accuracy,
    soft_average_precision,
)
from octoscope.trust.ranked import (
    iou_at_own_area,
    pixel_average_precision,
    relevance_rank_accuracy,
)

DEFINITIONS = {
    "relevance_mass": relevance_mass,
    "lift": lift_over_chance,
    "pointing_game": pointing_game,
    "rank_accuracy": relevance_rank_accuracy,
    "pixel_ap": pixel_average_precision,
    "iou_own_area": iou_at_own_area,
    "iou_otsu": iou_at_otsu,
    "ioa": intersection_over_attention,
    "ioa_weighted": partial(intersection_over_attention, weighted=True),
    "pixel_accuracy": pixel_accuracy,
    "mean_iou": mean_iou,
    "soft_ap": soft_average_precision,
}
WITHIN = {
    "relevance_mass_retina": relevance_mass,
    "lift_retina": lift_over_chance,
    "rank_accuracy_retina": relevance_rank_accuracy,
    "pixel_ap_retina": pixel_average_precision,
}
LESIONS = {1: "drusen", 2: "fluid"}


def drawn(scans: int = 9) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return maps, lesion masks and the retina of scans; some of each say nothing."""
    generator = np.random.default_rng(0)
    maps = generator.normal(size=(scans, 30, 40)).astype(np.float32)
    maps[1], maps[2], maps[3, 0, 0] = -1, 0.1, np.nan  # nothing, constant, not finite
    masks = generator.choice(3, (scans, 30, 40), p=[0.8, 0.15, 0.05])
    masks[4], masks[5] = 0, np.where(masks[5] == 2, 0, masks[5])
    retina = np.zeros(masks.shape, dtype=bool)
    retina[:, 5:25] = True
    retina[6] = masks[6] == 0  # a lesion outside the retina
    return {"noise": maps, "rounded": maps.round()}, masks, retina


def table(retina: np.ndarray | None) -> pd.DataFrame:
    maps, masks, _ = drawn()
    names = [f"s{i}" for i in range(len(masks))]
    return score_localisation(
        maps, masks, scans=names, patients=names, labels=["CNV"] * len(names), model="net",
        seed=0, lesions=LESIONS, retina=retina,
    )  # fmt: skip


@pytest.mark.parametrize("pixels", [1, 5 * 30 * 40, 10**9])
def test_the_table_holds_every_metric_as_defined(
    pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octoscope.trust.lesions.PIXELS", pixels)
    maps, masks, retina = drawn()
    scores = table(retina)
    assert set(scores["metric"]) == set(HIGHER_IS_BETTER)
    kinds = {"any": masks > 0, "drusen": masks == 1, "fluid": masks == 2}
    for (method, lesion, metric), group in scores.groupby(["method", "lesion", "metric"]):
        if metric in OF_SCANS:
            continue
        mask = kinds[lesion]
        expected = (
            WITHIN[metric](maps[method], mask, retina)
            if metric in WITHIN
            else DEFINITIONS[metric](maps[method], mask)
        )
        ill = np.flatnonzero(mask.any((1, 2)))
        assert group["scan"].tolist() == [f"s{i}" for i in ill]
        np.testing.assert_allclose(group["value"], expected.numpy()[ill], rtol=1e-12)


def test_chance_stands_beside_what_it_is_the_chance_of() -> None:
    _, masks, retina = drawn()
    scores = table(retina)
    assert set(CHANCE.values()) <= set(OF_SCANS) and set(CHANCE) <= {row.name for row in ROWS}
    mask = masks == 2
    area, ill = lesion_area(mask), np.flatnonzero(mask.any((1, 2)))
    expected = {
        "lesion_area": area,
        "lesion_area_retina": lesion_area(mask, retina),
        "pointing_chance": pointing_chance(mask),
        "iou_chance": area / (2 - area),
    }
    for metric, values in expected.items():
        rows = scores[scores["metric"] == metric].query("lesion == 'fluid' and method == 'noise'")
        np.testing.assert_allclose(rows["value"], values.numpy()[ill])
    # A constant map (scan s2) scores exactly it.
    constant = scores.query("scan == 's2' and lesion == 'fluid' and method == 'noise'")
    values = constant.set_index("metric")["value"]
    for metric in set(CHANCE) - {"ioa", "ioa_weighted"}:
        assert values[metric] == pytest.approx(values[CHANCE[metric]], rel=1e-5), metric
    assert values[["ioa", "ioa_weighted", "iou_otsu", "mean_iou", "soft_ap"]].isna().all()


def test_without_a_retina_its_metrics_are_left_out() -> None:
    scores = table(None)
    assert set(scores["metric"]) == {n for n in HIGHER_IS_BETTER if not n.endswith("_retina")}


def test_the_registry_says_of_every_metric_where_it_goes() -> None:
    names = [row.name for row in ROWS]
    assert sorted(names) == sorted([*DEFINITIONS, *WITHIN])
    assert {row.name for row in ROWS if row.headline} == {"relevance_mass_retina", "pixel_ap"}
    assert all(row.family == "localisation" and row.higher_is_better for row in ROWS)
