"""RISE against its equation mask by mask, closed forms, and its own error bars."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octoscope.attribution.explain import explain
from octoscope.attribution.perturbation.masks import draw_masks
from octoscope.attribution.perturbation.rise import Rise
from octoscope.attribution.perturbation.scores import SCORES
from octoscope.errors import OctoscopeError
from octoscope.models.classifier import Classifier
from octoscope.models.preprocess import Preprocess
from octoscope.scans.framing import Framing
from timm_families import FAMILIES

RESNET = FAMILIES[0]


def risen(model: nn.Module, images: Tensor, targets: Any = None, **options: Any) -> Any:
    options = {"score": "softmax", **options}
    return explain(model, images, "rise", targets=targets, options={"rise": options})


class Patch(nn.Module):
    """Class 0 grows with the pixels of one corner, class 1 does not look at the image."""

    images = 0

    def __init__(self, side: int = 8) -> None:
        super().__init__()
        self.side = side
        Patch.images = 0

    def forward(self, x: Tensor) -> Tensor:
        Patch.images += len(x)  # of the class: what is explained is a view
        corner = x.flatten(1, -3)[:, 0, : self.side, : self.side].mean((1, 2))
        return torch.stack([2 * corner, torch.ones_like(corner)], 1)


@pytest.mark.parametrize("kept", [0.5, 0.3])
def test_equation_mask_by_mask(kept: float) -> None:
    model, images = RESNET.build(), RESNET.images(2)
    count = 24
    maps = risen(model, images, "all", most=count, least=8, cells=5, kept=kept, tolerance=0.0)
    masks = draw_masks((64, 96), count, 5, kept, 0, images)
    assert maps.details["rise"]["masks_used"].eq(count).all()
    for b in range(2):
        terms = []
        for n in range(count):
            mask = masks(torch.tensor([n]))[0]
            with torch.no_grad():
                f = model((images[b] * mask)[None]).softmax(1)[0]
            terms.append(f[:, None, None] * mask / kept)
        terms_ = torch.stack(terms)
        expected = terms_.mean(0)
        torch.testing.assert_close(maps["rise"][b], expected, rtol=1e-4, atol=1e-6)
        pairs = terms_.unflatten(0, (count // 2, 2)).mean(1)
        error = pairs.std(0) / (count // 2) ** 0.5
        found = maps.details["rise"]["standard_error"][b]
        torch.testing.assert_close(found, error, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("size", [(20, 33), (64, 96), (4, 9, 13)])
def test_masks_are_grids_interpolated_and_cropped(size: tuple[int, ...]) -> None:
    """As the paper makes them: the whole grid interpolated, then cropped."""
    masks = draw_masks(size, 10, 3, 0.5, 7, torch.zeros(1))
    rows = torch.tensor([4, 1, 9, 0])
    found = masks(rows)
    assert found.shape == (4, *size) and found.min() >= 0 and found.max() <= 1
    whole = tuple(4 * -(-side // 3) for side in size)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    for mask, row in zip(found, rows, strict=True):
        large = F.interpolate(masks.grids[row][None, None], whole, mode=mode, align_corners=False)
        shift = masks.shifts[row].tolist()
        crop = tuple(slice(a, a + side) for a, side in zip(shift, size, strict=True))
        torch.testing.assert_close(mask, large[0, 0][crop], rtol=1e-5, atol=1e-6)


def test_masks_come_in_pairs_and_keep_their_share() -> None:
    for kept in (0.5, 0.2):
        masks = draw_masks((32, 32), 4000, 7, kept, 0, torch.zeros(1))
        assert abs(float(masks.grids.mean()) - kept) < 0.005
        assert abs(float(masks.grids[1::2].mean()) - kept) < 0.01
    halves = draw_masks((32, 32), 6, 7, 0.5, 0, torch.zeros(1))
    pair = halves(torch.tensor([0, 1]))
    torch.testing.assert_close(pair[0] + pair[1], torch.ones(32, 32))
    shifts = draw_masks((35, 70), 2000, 7, 0.5, 0, torch.zeros(1)).shifts
    assert shifts.amin(0).tolist() == [0, 0] and shifts.amax(0).tolist() == [4, 9]


def test_a_model_that_looks_at_nothing() -> None:
    """Complementary masks cancel: f is the same behind all, and the map is f everywhere."""
    maps = risen(Patch(), torch.zeros(1, 1, 32, 32), "all", most=40, least=20, tolerance=0.0)
    expected = torch.tensor([0.0, 1.0]).softmax(0)
    torch.testing.assert_close(maps["rise"][0], expected[:, None, None].expand(2, 32, 32))
    assert maps.details["rise"]["standard_error"].max() < 1e-6


def test_planted_corner() -> None:
    maps = risen(Patch(), torch.ones(1, 1, 32, 32), "all", most=600, least=600)
    first, second = maps["rise"][0]
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[:8, :8] = True
    assert inside.flatten()[first.argmax()]
    assert first[inside].mean() > first[~inside].max() - 0.3 * first.std()
    assert inside.flatten()[second.argmin()]


def test_confidence_intervals_cover() -> None:
    """Of the intervals around short runs, about 95 % hold what a long run converges to."""
    model, image = Patch(), torch.ones(1, 1, 16, 16)
    fixed = {"cells": 4, "tolerance": 0.0}
    truth = risen(model, image, 0, most=12000, least=12000, seed=999, **fixed)["rise"]
    inside = []
    for seed in range(40):
        maps = risen(model, image, 0, most=100, least=100, seed=seed, **fixed)
        error = maps.details["rise"]["standard_error"]
        inside.append(((maps["rise"] - truth).abs() <= 1.96 * error).float().mean())
    assert 0.88 < float(torch.stack(inside).mean()) < 0.99


def test_early_stop_is_each_images_own() -> None:
    """The image whose corner is bright settles first; the other goes on as if it were alone."""
    images = torch.stack([torch.full((1, 32, 32), 1.5), 0.02 * torch.ones(1, 32, 32)])
    images[1, 0, 16:] = 1
    noisy = RESNET.build()
    both = torch.cat([RESNET.images(3), torch.zeros(1, 3, 64, 96)])
    options = {"most": 240, "least": 20, "tolerance": 0.4}
    together = risen(noisy, both, "all", **options)
    used = together.details["rise"]["masks_used"]
    assert len(set(used[:, 0].tolist())) > 1 and used.min() >= 20
    for b in range(4):
        alone = risen(noisy, both[b : b + 1], "all", **options)
        assert alone.details["rise"]["masks_used"][0].equal(used[b])
        torch.testing.assert_close(alone["rise"][0], together["rise"][b], rtol=1e-4, atol=1e-6)
    settings = {"rise": {"score": "softmax", **options}}
    chunked = explain(noisy, both, "rise", "all", options=settings, batch_size=3)
    torch.testing.assert_close(chunked["rise"], together["rise"], rtol=1e-4, atol=1e-6)


def test_early_stop_saves_passes_and_classes_share_them() -> None:
    image = torch.ones(1, 1, 32, 32)
    counted = {}
    for tolerance, targets in ((0.0, 0), (0.0, "all"), (0.5, 0)):
        model = Patch()
        options = {"most": 400, "least": 40, "tolerance": tolerance}
        maps = risen(model, image, targets, **options)
        counted[tolerance, targets] = Patch.images
        error = maps.details["rise"]["standard_error"]
        assert (error > 0).any()
    assert counted[0.0, 0] == counted[0.0, "all"]
    assert counted[0.5, 0] < counted[0.0, 0] / 2


def test_as_many_masks_as_were_used() -> None:
    """What stopped early equals what was told to stop there."""
    model, image = RESNET.build(), RESNET.images(1)
    early = risen(model, image, 1, most=200, least=20, tolerance=0.5)
    count = int(early.details["rise"]["masks_used"])
    assert count < 200
    told = risen(model, image, 1, most=200, least=200, tolerance=0.0)
    assert not told["rise"].equal(early["rise"])
    masks = draw_masks((64, 96), 200, 7, 0.5, 0, image)
    rows = torch.arange(count)
    with torch.no_grad():
        f = model(image * masks(rows)[:, None]).softmax(1)[:, 1]
    expected = torch.einsum("n,nhw->hw", f, masks(rows)) / (0.5 * count)
    torch.testing.assert_close(early["rise"][0], expected, rtol=1e-4, atol=1e-6)


def test_volumes() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x[:, 0, :4, :8, :8].mean((1, 2, 3)) * 4, x.mean((1, 2, 3, 4))], 1)

    maps = risen(Net(), torch.ones(1, 1, 8, 16, 24), 0, most=200, least=200, cells=3)
    found = maps["rise"][0]
    assert found.shape == (8, 16, 24)
    assert found[:4, :8, :8].mean() > found.mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"most": 101}, "come in pairs"),
        ({"least": 2}, "even number of 4 or more"),
        ({"most": 100}, "least=500 is more than most=100"),
        ({"tolerance": 1.5}, "no share"),
        ({"cells": 1}, "makes no grid"),
        ({"kept": 1.0}, "no probability"),
    ],
)
def test_faults(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OctoscopeError, match=message):
        risen(Patch(), torch.rand(1, 1, 16, 16), 0, **options)


def test_settings_are_plain() -> None:
    assert replace(Rise(), most=1000).most == 1000


def test_a_single_logit_is_one_against_zero() -> None:
    """The sigmoid of y is the softmax of (0, y): the same map as with a class whose logit is 0."""

    class One(Patch):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, :1]

    class Two(Patch):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)[:, :1]
            return torch.cat([torch.zeros_like(y), y], 1)

    images = torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(3))
    one = risen(One(), images, 0, most=16, least=16)["rise"]
    two = risen(Two(), images, 1, most=16, least=16)["rise"]
    torch.testing.assert_close(one, two)


def test_how_many_masks_are_summed_at_once_changes_nothing_but_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(3))
    whole = risen(Patch(), images, 0, most=24, least=8)
    monkeypatch.setattr("octoscope.attribution.perturbation.rise.POSITIONS", 32 * 48 * 5)
    pairs = risen(Patch(), images, 0, most=24, least=8)
    torch.testing.assert_close(pairs["rise"], whole["rise"])
    error, expected = (maps.details["rise"]["standard_error"] for maps in (pairs, whole))
    torch.testing.assert_close(error, expected)


class TwoFindings(nn.Module):
    """Independent labels: each looks at its own half of the image."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        sides = [x[..., :half].mean((1, 2, 3)), x[..., half:].mean((1, 2, 3))]
        return 20 * (torch.stack(sides, 1) - 0.25)


def test_scores_of_independent_labels() -> None:
    """Mask by mask; by default the logit, in which one label does not weaken the other."""
    image, count = torch.ones(1, 1, 16, 16), 40
    masks = draw_masks((16, 16), count, 7, 0.5, 0, image)(torch.arange(count))
    logits = TwoFindings()(masks[:, None])
    as_the_head = {"softmax": logits.softmax(1), "sigmoid": logits.sigmoid(), "logit": logits}
    for number, (score, f) in enumerate(as_the_head.items()):
        maps = risen(TwoFindings(), image, 0, score=score, most=count, least=count)
        expected = (f[:, 0, None, None] * masks).mean(0) / 0.5
        torch.testing.assert_close(maps["rise"][0], expected, rtol=1e-4, atol=1e-5)
        assert maps.details["rise"]["score"].tolist() == [number]
    auto = risen(TwoFindings(), image, 0, score="auto", most=count, least=count)
    torch.testing.assert_close(auto["rise"][0], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(OctoscopeError, match=r'score="sigmoids" is not known.*"sigmoid"'):
        risen(TwoFindings(), image, 0, score="sigmoids")


class Probabilities(TwoFindings):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).sigmoid()


def test_the_score_follows_the_head() -> None:
    image = torch.rand(1, 1, 16, 16)
    one = nn.Sequential(nn.Flatten(), nn.Linear(256, 1))
    with_config = TwoFindings()
    with_config.config = SimpleNamespace(problem_type="multi_label_classification")
    preprocess = Preprocess(Framing(16, 16), 1, mean=(0.5,), std=(0.5,))
    ours = Classifier(TwoFindings(), ["a", "b"], preprocess)
    for model, score in [
        (one, "sigmoid"),
        (with_config, "sigmoid"),
        (ours, "softmax"),
        (Probabilities(), "logit"),  # as they are
        (TwoFindings(), "logit"),
    ]:
        maps = risen(model.eval(), image, 0, score="auto", most=4, least=4)
        assert maps.details["rise"]["score"].tolist() == [SCORES.index(score)]


@pytest.mark.parametrize("method", ["occlusion", "feature_ablation"])
def test_drops_of_probabilities(method: str) -> None:
    image = torch.rand(1, 1, 16, 16)
    plain = explain(TwoFindings(), image, method, 0)
    for score in ("softmax", "sigmoid"):

        class Scored(TwoFindings):
            def forward(self, x: Tensor) -> Tensor:
                logits = super().forward(x)
                return logits.softmax(1) if score == "softmax" else logits.sigmoid()  # noqa: B023

        found = explain(TwoFindings(), image, method, 0, options={method: {"score": score}})
        expected = explain(Scored(), image, method, 0)
        torch.testing.assert_close(found[method], expected[method], rtol=1e-4, atol=1e-6)
        assert not torch.allclose(found[method], plain[method])
