"""Randomising a model: the maps that must change, those that must not, and a model left intact."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from octoscope.errors import OctoscopeError
from octoscope.models.borrow import borrowed
from octoscope.trust.sanity.below import Shortcuts
from octoscope.trust.sanity.cascade import randomisation
from octoscope.trust.sanity.stages import stages_of

IMAGES = torch.rand(3, 1, 24, 24, generator=torch.Generator().manual_seed(1))


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(x + self.norm(self.conv(x)))


def small_cnn() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        Block(8),
        Block(8),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 3),
    ).eval()


def small_vit() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=24, patch_size=8, in_chans=1, embed_dim=24, depth=3,
        num_heads=2, num_classes=3,
    ).eval()  # fmt: skip


@pytest.mark.parametrize("mode", ["cascading", "independent"])
@pytest.mark.parametrize(
    ("build", "methods"),
    [
        (small_cnn, ["gradcam", "eigencam", "fullgrad", "saliency", "reciprocam", "null_edges"]),
        (small_vit, ["gradcam", "legrad", "rollout", "raw_attention", "input_x_gradient"]),
    ],
)
def test_shortcuts_change_no_map(build, methods, mode) -> None:
    model = build()
    with borrowed(model) as lent:
        shortcuts = Shortcuts(lent, IMAGES, stages_of(lent, IMAGES))
    assert sum(below is not None for below in shortcuts.below) >= 3
    with_, without = (
        randomisation(model, IMAGES, methods, 1, mode=mode, cache=cache) for cache in (True, False)
    )
    for name in methods:
        torch.testing.assert_close(
            with_.spearman[name], without.spearman[name], rtol=0, atol=1e-6, equal_nan=True
        )
        torch.testing.assert_close(
            with_.ssim[name], without.ssim[name], rtol=0, atol=1e-6, equal_nan=True
        )


def test_a_shortcut_runs_nothing_below() -> None:
    with borrowed(small_cnn()) as lent:
        nothing_below_is_run(lent)


def nothing_below_is_run(model: nn.Module) -> None:
    runs: list[int] = []
    order = stages_of(model, IMAGES)
    shortcuts = Shortcuts(model, IMAGES, order)
    given = shortcuts.recorded(IMAGES)
    expected = model(IMAGES.clone())
    before = model[3].conv.forward
    model[3].conv.forward = lambda x: runs.append(1) or before(x)
    with shortcuts.taken(0, IMAGES, given):  # someone changed a module that would not run
        assert torch.equal(model(IMAGES.clone()), expected)
    assert runs == [1]
    del model[3].conv.forward
    counted = model[3].conv._conv_forward
    model[3].conv._conv_forward = lambda *a: runs.append(2) or counted(*a)
    with shortcuts.taken(0, IMAGES, given):
        assert torch.equal(model(IMAGES.clone()), expected)
        assert runs == [1]
        other = IMAGES.flip(0)
        assert torch.equal(model(other.clone()), expected.flip(0))
        assert runs == [1, 2]
        pixels = IMAGES.clone().requires_grad_()
        assert torch.autograd.grad(model(pixels).sum(), pixels)[0].abs().sum() > 0
    assert not any("forward" in vars(part) for part in model.modules())
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in model.modules())


def test_a_map_of_the_image_never_changes_and_one_of_the_head_does() -> None:
    found = randomisation(small_cnn(), IMAGES, ["null_edges", "gradcam", "eigencam"], 0)
    assert found.stages[0] == "8" and len(found.stages) == len(found.spearman["gradcam"])
    assert torch.allclose(found.spearman["null_edges"], torch.ones(()).double())
    assert torch.allclose(found.ssim["null_edges"], torch.ones(()).double())
    # EigenCAM looks at activations alone: the head means nothing to it, the layers below do.
    assert torch.allclose(found.spearman["eigencam"][0], torch.ones(()).double())
    assert (found.spearman["gradcam"][0] < 0.999).any()
    assert (found.spearman["eigencam"][-1] < 0.999).any()


def test_independent_stages_do_not_add_up() -> None:
    model = small_cnn()
    cascade = randomisation(model, IMAGES, "eigencam", 0)
    alone = randomisation(model, IMAGES, "eigencam", 0, mode="independent")
    torch.testing.assert_close(cascade.spearman["eigencam"][0], alone.spearman["eigencam"][0])
    torch.testing.assert_close(cascade.spearman["eigencam"][1], alone.spearman["eigencam"][1])
    # Stages above the last features leave them as they are, so the second stage is the same too;
    # further down the features above are the model's own again.
    assert not torch.allclose(cascade.spearman["eigencam"][3], alone.spearman["eigencam"][3])


def test_the_model_is_left_as_it_was_also_after_an_error(monkeypatch) -> None:
    model = small_cnn()
    model[3].train()
    model[0].weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [part.training for part in model.modules()]
    asks = [parameter.requires_grad for parameter in model.parameters()]
    randomisation(model, IMAGES, ["gradcam", "saliency"], 0)

    def broken(*_: object) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr("octoscope.trust.sanity.cascade.structure", broken)
    with pytest.raises(RuntimeError, match="in the middle"):
        randomisation(model, IMAGES, ["gradcam"], 0)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert [part.training for part in model.modules()] == flags
    assert [parameter.requires_grad for parameter in model.parameters()] == asks
    assert all(parameter.grad is None for parameter in model.parameters())
    for part in model.modules():
        assert not part._forward_hooks and not part._forward_pre_hooks
        assert "forward" not in vars(part)


def test_images_do_not_depend_on_their_batch() -> None:
    model = small_cnn()
    together = randomisation(model, IMAGES, ["gradcam"], [0, 1, 2])
    one = randomisation(model, IMAGES[1:2], ["gradcam"], [1])
    torch.testing.assert_close(
        together.spearman["gradcam"][:, 1:2], one.spearman["gradcam"], rtol=0, atol=1e-3
    )


def test_wrong_requests_are_refused_in_words() -> None:
    with pytest.raises(OctoscopeError, match='mode="upwards"'):
        randomisation(small_cnn(), IMAGES, "gradcam", mode="upwards")  # type: ignore[arg-type]
    with pytest.raises(OctoscopeError, match="one class per image"):
        randomisation(small_cnn(), IMAGES, "gradcam", "all")


def test_named_layers_are_stages_of_their_own_from_the_output_down() -> None:
    model = small_cnn()
    stages = stages_of(model, IMAGES, ["0", "8", "3.conv"])
    assert [stage.name for stage in stages] == ["8", "3.conv", "0"]
    found = randomisation(model, IMAGES, "gradcam", 1, stages=["0", "8"], ssim=False)
    assert found.stages == ("8", "0")
    assert found.spearman["gradcam"].shape == (2, 3) and not found.ssim
    with pytest.raises(OctoscopeError, match='"conv" is no layer'):
        stages_of(model, IMAGES, ["conv"])
    with pytest.raises(OctoscopeError, match="no layer is named"):
        stages_of(model, IMAGES, [])
