"""Agreement over seeds: by hand, and of real maps of small networks."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from octoscope.attribution.explain import explain
from octoscope.errors import OctoscopeError
from octoscope.trust.similarity import spearman, top_overlap
from octoscope.trust.stability.seeds import BLOCK, over_pairs, seed_agreement


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, stride=2), nn.Tanh(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    ).eval()  # fmt: skip


def test_the_mean_over_all_pairs() -> None:
    maps = torch.rand(3, 4, 5, 6)
    ours = over_pairs(maps, spearman)
    for scan in range(4):
        rows = maps[:, scan].flatten(1).numpy()
        expected = [spearmanr(rows[i], rows[j])[0] for i, j in ((0, 1), (0, 2), (1, 2))]
        assert float(ours[scan]) == pytest.approx(sum(expected) / 3)


def test_seeds_that_agree_contradict_and_say_nothing() -> None:
    map_ = torch.rand(1, 5, 6)
    assert over_pairs(torch.stack([map_, map_, map_]), spearman).tolist() == [pytest.approx(1)]
    assert over_pairs(torch.stack([map_, -map_]), spearman).tolist() == [pytest.approx(-1)]
    assert over_pairs(torch.stack([map_, -map_]), top_overlap).tolist() == [0]
    blank = torch.zeros_like(map_)
    assert over_pairs(torch.stack([map_, map_ * 3, blank]), spearman).tolist() == [pytest.approx(1)]
    assert over_pairs(torch.stack([map_, blank, blank]), spearman).isnan().all()


def test_one_seed_is_refused() -> None:
    with pytest.raises(OctoscopeError, match="two"):
        over_pairs(torch.rand(1, 2, 4, 4), spearman)
    with pytest.raises(OctoscopeError, match="two"):
        seed_agreement([network(0)], torch.rand(1, 1, 8, 8), "gradcam", 0)


def test_without_a_class_there_is_nothing_to_compare() -> None:
    with pytest.raises(OctoscopeError, match="targets"):
        seed_agreement([network(0), network(1)], torch.rand(1, 1, 8, 8), "gradcam", None)  # type: ignore[arg-type]


def test_maps_of_models_for_the_same_classes() -> None:
    models = [network(seed) for seed in range(3)]
    images = torch.rand(BLOCK + 2, 1, 16, 16)
    targets = torch.arange(BLOCK + 2) % 3
    names = ["gradcam", "layercam", "null_edges"]
    found = seed_agreement(iter(models), images, names, targets)
    assert set(found) == {"seed_agreement", "seed_overlap"}
    stack = torch.stack([explain(m, images, "layercam", targets)["layercam"] for m in models])
    torch.testing.assert_close(
        found["seed_agreement"]["layercam"], over_pairs(stack, spearman), equal_nan=True
    )
    torch.testing.assert_close(
        found["seed_overlap"]["layercam"], over_pairs(stack, top_overlap), equal_nan=True
    )
    ones = torch.ones(BLOCK + 2, dtype=torch.float64)
    torch.testing.assert_close(found["seed_agreement"]["null_edges"], ones)
    torch.testing.assert_close(found["seed_overlap"]["null_edges"], ones)
    alone = seed_agreement(models, images[5:6], names, targets[5:6])
    torch.testing.assert_close(
        alone["seed_agreement"]["layercam"], found["seed_agreement"]["layercam"][5:6],
        equal_nan=True,
    )  # fmt: skip


def test_one_model_agrees_with_itself() -> None:
    images = torch.rand(2, 1, 16, 16)
    found = seed_agreement([network(4), network(4)], images, "layercam", 1)
    torch.testing.assert_close(
        found["seed_agreement"]["layercam"], torch.ones(2, dtype=torch.float64)
    )
