"""Agreement between methods: by hand, against chance, and in words."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import leaves_list
from scipy.stats import spearmanr
from torch import Tensor

from octoscope.errors import OctoscopeError
from octoscope.evaluation.bootstrap import percentile_interval, resample_patients
from octoscope.trust import agreement as module
from octoscope.trust.agreement import agreement, clusters
from octoscope.trust.similarity import top_overlap


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def patients_of(scans: int, each: int = 1) -> list[str]:
    return [f"p{number // each}" for number in range(scans)]


def test_the_mean_over_scans_of_both_measures() -> None:
    maps = {"a": random(6, 8, 9, seed=1), "b": random(6, 8, 9, seed=2)}
    found = agreement(maps, patients_of(6))
    each = [spearmanr(maps["a"][b].flatten(), maps["b"][b].flatten())[0] for b in range(6)]
    pair = found.pair("b", "a")
    assert pair.spearman == pytest.approx(np.mean(each))
    assert pair.top == pytest.approx(float(top_overlap(maps["a"], maps["b"]).mean()))
    assert (pair.scans, pair.patients) == (6, 6)
    i, j = found.names.index("a"), found.names.index("b")
    assert found.spearman[i, j] == found.spearman[j, i] == pair.spearman
    assert found.top[i, j] == pair.top and found.low[j, i] == pair.low
    assert np.diag(found.spearman).tolist() == np.diag(found.top).tolist() == [1, 1]


def test_the_interval_draws_whole_patients() -> None:
    maps = {"a": random(12, 6, 6, seed=1), "b": random(12, 6, 6, seed=2)}
    patients = patients_of(12, each=2)
    pair = agreement(maps, patients, resamples=300, seed=5).pair("a", "b")
    each = np.array(
        [spearmanr(maps["a"][b].flatten(), maps["b"][b].flatten())[0] for b in range(12)]
    )
    counts = resample_patients(patients, 300, 5).of(np.arange(12))  # (12, 300)
    low, high = percentile_interval((each[:, None] * counts).sum(0) / counts.sum(0))
    assert (pair.low, pair.high) == (pytest.approx(float(low)), pytest.approx(float(high)))


def test_chance_is_what_maps_of_other_patients_agree() -> None:
    maps = {"a": random(4, 5, 5, seed=1), "b": random(4, 5, 5, seed=2)}
    patients = ["p", "p", "q", "r"]
    pair = agreement(maps, patients).pair("a", "b")

    def rho(b: int, d: int) -> float:
        return float(spearmanr(maps["a"][b].flatten(), maps["b"][d].flatten())[0])

    others = {0: [2, 3], 1: [2, 3], 2: [0, 1, 3], 3: [0, 1, 2]}
    chance = [
        np.mean([rho(b, d) for d in ds] + [rho(d, b) for d in ds]) for b, ds in others.items()
    ]
    assert pair.chance == pytest.approx(np.mean(chance))
    assert pair.beyond == pytest.approx(np.mean([rho(b, b) for b in range(4)]) - np.mean(chance))


def test_chance_within_a_class() -> None:
    """Maps of a class are all alike: across classes they seem to say much of the scan."""
    labels = ["x", "y"] * 6
    shapes = {label: random(7, 7, seed=seed) for seed, label in enumerate("xy")}
    base = torch.stack([shapes[label] for label in labels])
    maps = {
        "a": base + 0.01 * random(12, 7, 7, seed=3),
        "b": base + 0.01 * random(12, 7, 7, seed=4),
    }
    across, within = (agreement(maps, patients_of(12), by) for by in (None, labels))
    assert across.pairs[0].beyond > 0.3
    assert abs(within.pairs[0].beyond) < 0.02
    assert within.pairs[0].spearman == across.pairs[0].spearman > 0.99


def test_what_all_scans_share_is_no_agreement() -> None:
    prior = random(9, 9, seed=8) * 3
    shared = {
        name: prior + random(20, 9, 9, seed=s) for s, name in enumerate(["occlusion", "rise"])
    }
    found = agreement(shared, patients_of(20))
    assert found.pairs[0].spearman > 0.5
    assert found.pairs[0].verdict == "agree no more than chance"
    assert found.sentences == (found.pairs[0].sentence,)
    assert found.sentences[0].startswith("Occlusion and RISE agree no more than maps of different")


def test_two_that_show_the_same_of_each_scan_agree() -> None:
    base = random(20, 9, 9, seed=1)
    maps = {"gradcam": base + 0.5 * random(20, 9, 9, seed=2), "occlusion": base}
    pair = agreement(maps, patients_of(20)).pair("gradcam", "occlusion")
    assert pair.verdict == "agree"
    assert pair.beyond_low > 0.5 and pair.low < pair.spearman < pair.high
    assert abs(pair.chance) < 0.1
    for text in (
        "Grad-CAM and Occlusion agree more than maps of different patients do",
        f"{pair.spearman:.2f} [{pair.low:.2f}, {pair.high:.2f}]",
        f"({pair.beyond:+.2f} [{pair.beyond_low:+.2f}, {pair.beyond_high:+.2f}])",
        "highest 10 %",
    ):
        assert text in pair.sentence


def test_a_map_turned_upside_down_contradicts() -> None:
    base = random(10, 6, 6)
    pair = agreement({"a": base, "b": -base}, patients_of(10)).pair("a", "b")
    assert pair.spearman == pytest.approx(-1)
    assert pair.verdict == "contradict" and pair.top == 0


def test_few_patients_give_no_verdict() -> None:
    base = random(8, 6, 6)
    maps = {"a": base, "b": base}
    assert agreement(maps, patients_of(8, each=2)).pairs[0].verdict == "too few patients"
    alone = agreement(maps, ["p"] * 8).pairs[0]
    assert alone.spearman == pytest.approx(1)
    assert np.isnan([alone.low, alone.chance, alone.beyond]).all()
    assert "nan" not in alone.sentence
    one_each = agreement(maps, patients_of(8), [f"class {n}" for n in range(8)]).pairs[0]
    assert one_each.verdict == "no chance level" and "nan" not in one_each.sentence


def test_maps_that_say_nothing_are_left_out() -> None:
    maps = {
        "a": random(6, 5, 5, seed=1),
        "b": random(6, 5, 5, seed=2),
        "blank": torch.ones(6, 5, 5),
    }
    maps["b"][0] = 0
    maps["b"][1, 2, 2] = torch.nan
    found = agreement(maps, patients_of(6))
    kept = agreement({k: v[2:] for k, v in maps.items()}, patients_of(6)[2:])
    assert found.pair("a", "b").scans == 4
    assert found.pair("a", "b").spearman == pytest.approx(kept.pair("a", "b").spearman)
    nothing = found.pair("a", "blank")
    assert nothing.scans == 0 and np.isnan(nothing.spearman)
    assert nothing.verdict == "nothing to compare" and "nothing can be said" in nothing.sentence
    assert found.pairs[0].one + found.pairs[0].other == "ab"
    place = found.names.index("blank")
    assert np.isnan(found.spearman[place]).all()
    only = agreement({"a": torch.ones(6, 5, 5), "b": torch.ones(6, 5, 5)}, patients_of(6))
    assert "nothing can be said" in only.sentences[0]


def test_those_that_agree_stand_beside_one_another() -> None:
    first, second = random(10, 8, 8, seed=1), random(10, 8, 8, seed=2)
    maps = {
        name: base + 0.3 * random(10, 8, 8, seed=seed)
        for seed, (name, base) in enumerate(
            [("a1", first), ("b1", second), ("a2", first), ("b2", second), ("a3", first)], 3
        )
    }
    found = agreement(maps, patients_of(10))
    kinds = "".join(name[0] for name in found.names)
    assert kinds in ("aaabb", "bbaaa")
    assert sorted(found.names) == sorted(maps)
    assert found.linkage.shape == (4, 4)
    assert leaves_list(found.linkage).tolist() == [0, 1, 2, 3, 4]  # leaf k is names[k]
    for i, one in enumerate(found.names):
        for j, other in enumerate(found.names):
            if i != j:
                assert found.spearman[i, j] == found.pair(one, other).spearman
    values = [pair.spearman for pair in found.pairs]
    assert values == sorted(values, reverse=True)
    assert found.sentences[0].startswith("4 of 10 pairs agree more")
    assert found.sentences[1].startswith("Most alike: a")
    again = agreement(dict(reversed(maps.items())), patients_of(10))
    assert again.names in (found.names, found.names[::-1])


def test_the_tree_by_hand() -> None:
    spearman = np.array([[1, 0.1, 0.9], [0.1, 1, 0.3], [0.9, 0.3, 1]])
    order, tree = clusters(spearman)
    assert order.tolist() in ([0, 2, 1], [1, 2, 0])  # 0 and 2 first, 2 nearer to 1
    assert tree[:, 2].tolist() == [pytest.approx(0.1), pytest.approx((0.9 + 0.7) / 2)]
    pair = {int(leaf) for leaf in tree[0, :2]}
    assert {int(order[leaf]) for leaf in pair} == {0, 2}


def test_scans_are_compared_in_any_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = {
        "a": random(7, 6, 6, seed=1),
        "b": random(7, 6, 6, seed=2),
        "c": random(7, 6, 6, seed=3),
    }
    whole = agreement(maps, patients_of(7))
    monkeypatch.setattr(module, "BLOCK", 2)
    parts = agreement({k: v.numpy() for k, v in maps.items()}, np.array(patients_of(7)))
    assert parts.names == whole.names
    for key in ("spearman", "low", "high", "top", "linkage"):
        np.testing.assert_allclose(getattr(parts, key), getattr(whole, key), rtol=1e-9)
    assert parts.sentences == whole.sentences


def test_volumes_and_a_share_of_ones_own() -> None:
    maps = {"a": random(6, 3, 4, 5, seed=1), "b": random(6, 3, 4, 5, seed=2)}
    found = agreement(maps, patients_of(6), share=0.25)
    flat = agreement({k: v.reshape(6, 12, 5) for k, v in maps.items()}, patients_of(6), share=0.25)
    assert found.pairs[0].spearman == pytest.approx(flat.pairs[0].spearman)
    assert found.pairs[0].top == pytest.approx(flat.pairs[0].top)
    assert found.top_share == 0.25 and "highest 25 %" in found.pairs[0].sentence


def test_models_by_their_names() -> None:
    base = random(10, 6, 6)
    found = agreement({"resnet18-seed0": base, "vit-seed1": base**3}, patients_of(10))
    assert "resnet18-seed0 and vit-seed1 agree more" in found.sentences[0]
    assert found.pairs[0].spearman == pytest.approx(1)  # the same order of pixels


def test_plain_json() -> None:
    maps = {"a": random(3, 5, 5), "b": random(3, 5, 5, seed=2), "blank": torch.zeros(3, 5, 5)}
    said: dict[str, Any] = json.loads(
        json.dumps(agreement(maps, ["p"] * 3).to_dict(), allow_nan=False)
    )
    assert len(said["pairs"]) == 3 and len(said["linkage"]) == 2
    assert said["low"] == [[None] * 3] * 3
    assert said["names"] == list(agreement(maps, ["p"] * 3).names)


def test_what_cannot_be_compared_is_refused() -> None:
    maps = {"gradcam": random(4, 5, 5), "occlusion": random(4, 5, 5, seed=1)}
    with pytest.raises(OctoscopeError, match="two or more"):
        agreement({"gradcam": random(4, 5, 5)}, patients_of(4))
    with pytest.raises(OctoscopeError, match="do not fit 3"):
        agreement(maps, patients_of(3))
    with pytest.raises(OctoscopeError, match="2 labels"):
        agreement(maps, patients_of(4), ["x", "y"])
    with pytest.raises(OctoscopeError, match="different sizes"):
        agreement({**maps, "rise": random(4, 6, 5)}, patients_of(4))
    found = agreement(maps, patients_of(4))
    with pytest.raises(OctoscopeError, match="gradcam"):
        found.pair("gradcm", "occlusion")
    with pytest.raises(OctoscopeError, match="itself"):
        found.pair("gradcam", "gradcam")
