"""The consensus of maps: by hand, against scipy's rank correlation, and robust to bad members."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from octoscope.attribution.consensus import Consensus, agreed, consensus_of
from octoscope.attribution.explain import explain
from octoscope.attribution.registry import METHODS
from octoscope.errors import OctoscopeError
from timm_families import FAMILIES

RESNET = FAMILIES[0]
NAMES = ["gradcam", "hirescam", "eigencam", "consensus"]


def smooth(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_by_hand() -> None:
    """Three maps of four positions."""
    stack = torch.tensor(
        [
            [[[1.0, 2.0], [3.0, 4.0]]],  # ranks 1 2 3 4
            [[[1.0, 5.0], [4.0, 10.0]]],  # ranks 1 3 2 4: r = 1 - 6·2 / (4·15) = 0.8 with the first
            [[[8.0, 4.0], [2.0, 0.0]]],  # ranks 4 3 2 1: r = -1 and -0.8
        ]
    )
    found = agreed(stack)
    # Support 0.8, 0.8, 0; both agree alike with the mean of the two; the third not at all.
    close(found.weights, torch.tensor([[0.5], [0.5], [0.0]]))
    close(found.map, torch.tensor([[[0.175, 0.5], [0.575, 1.0]]]))
    close(found.disagreement, torch.tensor([[[0.075, 0.0], [0.175, 0.0]]]))


def by_definition(stack: Tensor) -> np.ndarray:
    """Weights of maps (n, H, W), with scipy's correlations."""
    rows = stack.flatten(1).double().numpy()
    r = np.array([[spearmanr(a, b).statistic for b in rows] for a in rows])
    support = np.array(
        [sum(max(0, r[i, j]) for j in range(len(r)) if j != i) for i in range(len(r))]
    )
    weights = np.maximum(0, r @ support / np.sqrt(support @ r @ support))
    return weights / weights.sum()


@pytest.mark.parametrize("seed", range(5))
def test_weights_by_definition(seed: int) -> None:
    common = smooth(6, 9, seed=seed)
    stack = torch.stack([common + (i / 2) * smooth(6, 9, seed=10 + i) for i in range(5)])
    stack[3] = stack[3].relu()  # many ties
    found = agreed(stack)
    np.testing.assert_allclose(found.weights.numpy(), by_definition(stack), atol=1e-6)
    close(found.weights.sum(0), torch.ones(()))
    mean = torch.einsum("n,nhw->hw", found.weights, stack / stack.abs().amax((1, 2), keepdim=True))
    close(found.map, mean, 1e-5)


@pytest.mark.parametrize("agreeing", [2, 3, 5])
@pytest.mark.parametrize("bad", ["inverted", "blank", "constant", "nan", "inf", "all of them"])
def test_bad_maps_have_no_say(agreeing: int, bad: str) -> None:
    good = smooth(3, 8, 12) + 0.3 * smooth(agreeing, 3, 8, 12, seed=1)
    broken = smooth(3, 8, 12, seed=2)
    broken[:, 4, 5] = torch.nan if bad == "nan" else -torch.inf
    kinds = {
        "inverted": -5 * good[0],
        "blank": torch.zeros(3, 8, 12),
        "constant": torch.full((3, 8, 12), 0.1),
        "nan": broken,
        "inf": broken,
    }
    others = torch.stack(list(kinds.values()) if bad == "all of them" else [kinds[bad]])
    alone, among = agreed(good), agreed(torch.cat([good, others]))
    close(among.map, alone.map)
    close(among.disagreement, alone.disagreement)
    assert not among.weights[agreeing:].any()
    close(among.weights[:agreeing], alone.weights)


def test_the_larger_group_decides() -> None:
    base = smooth(8, 12)
    stack = torch.stack([base, 2 * base, base.exp(), -base, -3 * base])
    found = agreed(stack)
    close(found.weights, torch.tensor([1, 1, 1, 0, 0]) / 3)


def test_nothing_to_agree_on() -> None:
    base = smooth(8, 12)
    found = agreed(torch.stack([base, -base]))
    close(found.weights, torch.tensor([0.5, 0.5]))
    close(found.map, torch.zeros(8, 12))
    assert found.disagreement.max() > 0.9
    empty = agreed(torch.stack([torch.zeros(8, 12), torch.full((8, 12), torch.nan)]))
    assert not empty.weights.any() and not empty.map.any() and not empty.disagreement.any()


def test_scale_and_hot_pixels_do_not_matter() -> None:
    stack = smooth(30, 40) + 0.3 * smooth(3, 30, 40, seed=1)
    hot = stack.clone()
    hot[1, 3, 4] = 1e4
    before, after = agreed(stack), agreed(hot)
    assert (before.map - after.map).abs().flatten().sort().values[-2] < 0.02
    factors = torch.tensor([1e-6, 3.0, 1e6])[:, None, None]
    close(agreed(stack * factors).map, before.map, 1e-5)
    sparse = torch.zeros(2, 30, 40)
    sparse[:, 0, :2] = torch.tensor([1.0, 4.0])  # fewer than 1 % of positions
    close(agreed(sparse).map[0, :2], torch.tensor([0.25, 1.0]))


def test_order_rows_and_axes() -> None:
    """Any order of maps; every image and class by itself; one to three dimensions."""
    for axes in (1, 2, 3):
        size = [40, 6, 5][-axes:]
        stack = smooth(1, 3, 2, *size) + 0.5 * smooth(4, 3, 2, *size, seed=1)
        found = agreed(stack, axes=axes)
        order = torch.tensor([2, 0, 3, 1])
        moved = agreed(stack[order], axes=axes)
        close(moved.map, found.map)
        close(moved.disagreement, found.disagreement)
        close(moved.weights, found.weights[order])
        alone = agreed(stack[:, 2, 1], axes=axes)
        close(alone.map, found.map[2, 1])
        close(alone.weights, found.weights[:, 2, 1])


def test_weights_given() -> None:
    stack = smooth(8, 12) + 0.5 * smooth(3, 8, 12, seed=1)
    agreement = agreed(stack).weights
    both = agreed(stack, [1.0, 2.0, 3.0]).weights
    expected = agreement * torch.tensor([1.0, 2.0, 3.0])
    close(both, expected / expected.sum())
    close(agreed(stack, [1, 2, 3], agreement=False).weights, torch.tensor([1, 2, 3]) / 6)
    close(agreed(stack, [0, 1, 1]).map, agreed(stack[1:]).map)
    per_image = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    two = agreed(torch.stack([stack, stack], 1), per_image)
    close(two.map[0], agreed(stack[:2]).map)
    close(two.map[1], agreed(stack[1:]).map)
    for weights, sentence in (
        ([1, 1], "do not fit 3 maps"),
        ([1, -1, 1], "not negative"),
        ([1, torch.nan, 1], "finite"),
    ):
        with pytest.raises(OctoscopeError, match=sentence):
            agreed(stack, weights)


@pytest.mark.parametrize("options", [{}, {"targets": "all"}, {"classes": [2, 0]}])
def test_explain(options: dict[str, Any]) -> None:
    model, x = RESNET.build(), RESNET.images(3)
    maps = explain(model, x, [*NAMES, "null"], **options)
    expected = agreed(torch.stack([maps[name] for name in NAMES[:3]]))
    found, details = maps.native["consensus"], maps.details["consensus"]
    assert found.dtype == torch.float32 and found.shape == expected.map.shape
    close(found, expected.map)
    close(details["disagreement"], expected.disagreement)
    assert set(details) == {"disagreement", *(f"weight_{name}" for name in NAMES[:3])}
    for name, weights in zip(NAMES[:3], expected.weights, strict=True):
        close(details[f"weight_{name}"], weights)
    assert not maps.flags["consensus"]["nonfinite"].any()
    assert METHODS["consensus"].signed


def test_batches_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = RESNET.build(), RESNET.images(8)
    together = explain(model, x, NAMES, targets=1)
    monkeypatch.setattr("octoscope.attribution.consensus.IMAGES", 3)
    close(
        explain(model, x, NAMES, targets=1).native["consensus"], together.native["consensus"], 1e-4
    )
    for b in range(8):
        alone = explain(model, x[b : b + 1], NAMES, targets=1).native["consensus"][0]
        close(alone, together.native["consensus"][b], 1e-3)


def test_settings() -> None:
    model, x = RESNET.build(), RESNET.images(2)
    weights = {"gradcam": 0.2, "eigencam": 0.6}
    options = {"consensus": {"weights": weights, "agreement": False}}
    maps = explain(model, x, NAMES, targets=1, options=options)
    stack = torch.stack([maps["gradcam"], maps["eigencam"]])
    close(maps["consensus"], agreed(stack, [0.2, 0.6], agreement=False).map)
    assert "weight_hirescam" not in maps.details["consensus"]


@pytest.mark.parametrize(
    ("methods", "settings", "sentence"),
    [
        (["consensus"], {}, "of those none can take part; ask for two or more"),
        (["gradcam", "null", "consensus"], {}, "of those gradcam can take part"),
        (NAMES, {"weights": {"gradcam": 1}}, "of those gradcam can take part"),
        (NAMES, {"weights": {"gradcan": 1}}, 'did you mean "gradcam"'),
        (NAMES, {"weights": {"gradcam": -1}}, "gradcam has weight -1; use 0 or more"),
    ],
)
def test_faults_have_a_sentence(
    methods: list[str], settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(OctoscopeError, match=sentence):
        explain(RESNET.build(), RESNET.images(1), methods, options={"consensus": settings})


def test_of_models_and_layers() -> None:
    """Maps of any grids; what one says against the others does not count."""
    x = RESNET.images(2)
    model = RESNET.build()
    several = [explain(model, x, targets=1, layer=name) for name in ("layer2", "layer3", "layer4")]
    found = consensus_of(several)
    assert isinstance(found, Consensus) and found.map.shape == (2, *RESNET.size)
    close(found.map, agreed(torch.stack([maps["gradcam"] for maps in several])).map)
    weighted = consensus_of(several, "gradcam", [0, 0, 1], agreement=False)
    close(
        weighted.weights,
        torch.tensor([[0.0, 0], [0, 0], [1, 1]]).where(~several[2].flags["gradcam"]["all_zero"], 0),
    )
    with pytest.raises(OctoscopeError, match="two maps or more, not 1"):
        consensus_of(several[:1])
    with pytest.raises(OctoscopeError, match="different classes; give explain"):
        consensus_of([several[0], explain(model, x, targets=2)])
    with pytest.raises(OctoscopeError, match="explain the same images and as many classes"):
        consensus_of([several[0], explain(model, x[:1], targets=1)])
    with pytest.raises(OctoscopeError, match='no maps of "layercam"'):
        consensus_of(several, "layercam")


def test_left_out_where_too_few_take_part() -> None:
    """Behind "all" the consensus of one method is refused with the reason, as others are."""
    model, x = RESNET.build(), RESNET.images(1)
    others = ["-" + name for name in METHODS if name not in ("gradcam", "null_edges", "consensus")]
    maps = explain(model, x, ["all", *others])
    assert list(maps) == ["gradcam", "null_edges"]
    assert "of those gradcam can take part" in maps.refused["consensus"]
    maps = explain(model, x, ["all", *(name for name in others if name != "-hirescam")])
    assert set(maps) == {"gradcam", "hirescam", "null_edges", "consensus"}
    assert not maps.refused
