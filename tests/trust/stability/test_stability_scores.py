"""The stability of a model's maps: as from the plain steps, whatever else is in the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from octoscope.attribution.explain import explain
from octoscope.errors import OctoscopeError
from octoscope.trust.similarity import spearman
from octoscope.trust.stability import scores
from octoscope.trust.stability.equivariance import shifted
from octoscope.trust.stability.scores import METRICS, ROWS, stability
from octoscope.trust.stability.sensitivity import max_sensitivity, noisy

METHODS = ["gradcam", "layercam", "null_centre", "null_intensity"]


class Net(nn.Module):
    """A small network that counts the images it has seen."""

    def __init__(self, conv: type[nn.Module] = nn.Conv2d) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = conv(1, 4, 3, padding=1)
        self.last = conv(4, 6, 3, padding=1, stride=2)
        self.head = nn.Linear(6, 3)
        self.fails = False

    def forward(self, x: Tensor) -> Tensor:
        if self.fails:
            raise RuntimeError("on purpose")
        features = self.last(self.first(x).tanh()).tanh()
        return self.head(features.flatten(2).mean(2))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 1, 24, 24, generator=torch.Generator().manual_seed(2))


def test_as_the_plain_steps(images: Tensor) -> None:
    model, targets = Net(), torch.tensor([2, 1, 0, 1, 2])
    found = stability(model, images, METHODS, targets, draws=3, radius=0.1, shift=(2, 4), seed=9)

    def maps_of(some: Tensor) -> Tensor:
        return explain(model, some, "gradcam", targets)["gradcam"]

    still = maps_of(images)
    draws = torch.stack([maps_of(draw) for draw in noisy(images, 3, 0.1, seed=9)])
    expected = max_sensitivity(still, draws)
    torch.testing.assert_close(found.values["max_sensitivity"]["gradcam"], expected, equal_nan=True)
    assert expected.isfinite().any()
    there = spearman(still[:, :-2, :-4], maps_of(shifted(images, (2, 4)))[:, 2:, 4:])
    back = spearman(still[:, 2:, 4:], maps_of(shifted(images, (-2, -4)))[:, :-2, :-4])
    torch.testing.assert_close(
        found.values["shift_equivariance"]["gradcam"], (there + back) / 2, equal_nan=True
    )
    torch.testing.assert_close(
        found.values["flip_equivariance"]["gradcam"],
        spearman(still.flip(-1), maps_of(images.flip(-1))),
        equal_nan=True,
    )
    assert found.targets.tolist() == targets.tolist()
    assert found.shift == (2, 4)


def test_what_ignores_the_model_is_stable(images: Tensor) -> None:
    values = stability(Net(), images, METHODS, 0).values
    ones = torch.ones(5, dtype=torch.float64)
    assert values["max_sensitivity"]["null_centre"].tolist() == [0] * 5
    torch.testing.assert_close(values["flip_equivariance"]["null_centre"], ones)
    torch.testing.assert_close(values["flip_equivariance"]["null_intensity"], ones)
    torch.testing.assert_close(values["shift_equivariance"]["null_intensity"], ones)
    assert (values["shift_equivariance"]["null_centre"] < 0.95).all()


def test_the_class_stays_that_of_the_unchanged_image(images: Tensor) -> None:
    class Unsure(nn.Module):
        """Predicts class 1 of images with any noise, mirror or shift, class 0 of these."""

        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: Tensor) -> Tensor:
            known = torch.stack([(one == images).flatten(1).all(1).any() for one in x])
            shift = torch.where(known, 1.0, -1.0)[:, None] * torch.tensor([[100.0, -100.0, 0.0]])
            return self.net(x) + shift

    names = ["gradcam", "layercam"]
    free, fixed = stability(Unsure(), images, names), stability(Unsure(), images, names, 0)
    assert free.targets.tolist() == [0] * 5
    for metric in METRICS:
        for name in names:
            one, other = free.values[metric][name], fixed.values[metric][name]
            torch.testing.assert_close(one, other, equal_nan=True)


def test_the_batch_does_not_matter(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    names, model = ["layercam", "null_random"], Net()
    whole = stability(model, images, names).values
    alone = stability(model, images[3:4], names).values
    monkeypatch.setattr(scores, "BLOCK", 2)
    blocks = stability(model, images, names, batch_size=3).values
    for metric in METRICS:
        for name in names:
            torch.testing.assert_close(alone[metric][name], whole[metric][name][3:4])
            torch.testing.assert_close(blocks[metric][name], whole[metric][name])
            assert whole[metric][name].shape == (5,)
            assert whole[metric][name].isfinite().all()


def test_some_metrics_only(images: Tensor) -> None:
    found = stability(Net(), images, "layercam", metrics=["flip_equivariance"])
    assert list(found.values) == ["flip_equivariance"]
    everything = stability(Net(), images, "layercam")
    torch.testing.assert_close(
        found.values["flip_equivariance"]["layercam"],
        everything.values["flip_equivariance"]["layercam"],
    )


def test_volumes() -> None:
    volume = torch.rand(2, 1, 4, 20, 20)
    found = stability(Net(nn.Conv3d), volume, ["layercam", "null_intensity"])
    assert found.shift == (0, 4, 8)
    ones = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(found.values["shift_equivariance"]["null_intensity"], ones)
    assert found.values["max_sensitivity"]["layercam"].isfinite().all()


def test_options_reach_the_method(images: Tensor) -> None:
    one = stability(Net(), images[:1], "occlusion", options={"occlusion": {"window": 12}})
    other = stability(Net(), images[:1], "occlusion", options={"occlusion": {"window": 6}})
    assert not torch.equal(
        one.values["max_sensitivity"]["occlusion"], other.values["max_sensitivity"]["occlusion"]
    )


def test_methods_that_cannot_take_part_are_named(images: Tensor) -> None:
    found = stability(Net(), images[:1], ["attention", "gradcam"], metrics=["max_sensitivity"])
    assert list(found.values["max_sensitivity"]) == ["gradcam"]
    assert found.refused


def test_methods_with_several_maps_per_image_are_left_out() -> None:
    torch.manual_seed(0)
    transformer = VisionTransformer(
        img_size=16, patch_size=4, in_chans=1, embed_dim=12, depth=1, num_heads=2, num_classes=3
    )
    image = torch.rand(1, 1, 16, 16)
    found = stability(transformer, image, ["dino_heads", "rollout"], shift=(2, 2))
    assert list(found.values["max_sensitivity"]) == ["rollout"]
    assert "heads" in found.refused["dino_heads"]
    with pytest.raises(OctoscopeError, match="one map per image"):
        stability(transformer, image, "dino_heads", shift=(2, 2))


@pytest.mark.parametrize("fails", [False, True])
def test_model_and_images_are_left_as_they_were(images: Tensor, fails: bool) -> None:
    model, before = Net().train(), images.clone()
    model.first.weight.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    model.fails = fails
    if fails:
        with pytest.raises(RuntimeError, match="on purpose"):
            stability(model, images, "gradcam")
    else:
        stability(model, images, "gradcam")
    assert torch.equal(images, before)
    assert model.training and not model.first.weight.requires_grad
    assert model.last.weight.requires_grad and model.last.weight.grad is None
    assert (model.head.weight.grad == 1).all()
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"metrics": ["max_sensitivty"]}, "max_sensitivity"),
        ({"metrics": []}, "no metric"),
        ({"draws": 0}, "draws"),
        ({"shift": (0, 0)}, "shift"),
        ({"targets": "all"}, "one class per image"),
        ({"targets": [0, 1]}, "do not fit"),
        ({"targets": 3}, "3"),
    ],
)
def test_what_makes_no_sense_is_refused(images: Tensor, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(OctoscopeError, match=said):
        stability(Net(), images, "gradcam", **wrong)


def test_images_that_are_no_batch() -> None:
    with pytest.raises(OctoscopeError, match="no batch"):
        stability(Net(), torch.rand(0, 1, 24, 24))


def test_rows_say_what_is_measured() -> None:
    assert {row.name for row in ROWS} == {*METRICS, "seed_agreement", "seed_overlap"}
    assert [row.name for row in ROWS if row.headline] == ["max_sensitivity"]
    assert [row.name for row in ROWS if not row.higher_is_better] == ["max_sensitivity"]
    assert not any(row.nulls for row in ROWS)
    assert all(row.family == "stability" for row in ROWS)
