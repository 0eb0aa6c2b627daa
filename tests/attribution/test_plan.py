"""The plan of a request: what is shared, what it costs, and that it is what is then done."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attribution.quick import SEVEN, defined, quick
from octoscope.attribution.explain import explain
from octoscope.attribution.plan import Plan
from octoscope.attribution.registry import METHODS, SOURCES
from octoscope.errors import OctoscopeError
from timm_families import FAMILIES

RESNET = FAMILIES[0]
VIT = next(family for family in FAMILIES if family.name == "vit_tiny_patch16_224")


class Counted(nn.Module):
    """Counts the images that pass, forward."""

    seen = 0

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        Counted.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        Counted.seen += len(x)  # of the class: what is explained is a view
        return self.network(x)


def plan(methods: Any, **options: Any) -> Plan:
    return explain(RESNET.build(), RESNET.images(3), methods, dry_run=True, **options)


def test_one_forward_serves_all_cams() -> None:
    found = plan(SEVEN)
    assert found.forwards == 1 and found.images == 3 and found.classes == 1
    assert found.steps[0].methods == tuple(SEVEN)
    assert "activations of layer4" in found.steps[0].does
    (backward,) = found.steps[1:]
    assert set(backward.methods) == set(SEVEN) - {"eigencam"}


def test_methods_without_gradients_plan_no_backward() -> None:
    found = plan("eigencam")
    assert len(found.steps) == 1 and "graph" not in found.steps[0].does


def test_classes_and_views_multiply() -> None:
    assert plan("gradcam", targets="all").classes == 4
    assert plan("gradcam", classes=[0, 2]).classes == 2
    assert "× 4 classes" in str(plan("gradcam", targets="all"))
    assert plan("gradcam", tta=True).forwards == 6


def test_layers_add_up() -> None:
    one, two = plan("scorecam"), plan("scorecam", layer=["layer3", "layer4"])
    assert one.forwards == 1 + 512 and two.forwards == 1 + 256 + 512
    assert "layer3 and layer4" in two.steps[0].does


def test_a_dry_run_runs_one_image_and_leaves_nothing() -> None:
    model = Counted(RESNET.build())
    explain(model, RESNET.images(3), SEVEN, dry_run=True)
    assert model.seen == 2, "one of noise, once per model, to find the layer"
    explain(model, RESNET.images(3), SEVEN, dry_run=True)
    assert model.seen == 3
    assert all(not part._forward_hooks for part in model.modules())


def test_the_plan_lists_what_is_left_out() -> None:
    found = plan("all")
    assert "rollout" in found.refused and "attention" in found.refused["rollout"]
    assert f"left out  rollout: {found.refused['rollout']}" in str(found)


def test_a_plan_says_wrong_requests_like_the_run() -> None:
    with pytest.raises(OctoscopeError, match="class 9 does not exist"):
        plan("gradcam", targets=9)
    with pytest.raises(OctoscopeError, match="rollout"):
        plan("rollout")


@pytest.mark.parametrize("family", [RESNET, VIT], ids=lambda f: f.name)
@pytest.mark.parametrize("name", [m.name for m in METHODS.values() if "maps" not in m.needs])
def test_no_method_runs_more_images_than_planned(family: Any, name: str) -> None:
    """The cost said is never less than the forward passes counted (backward passes count too)."""
    model, images = Counted(family.build()), family.images(2)
    if not defined(model, name):
        pytest.skip(f"{name} is not defined for {family.name}")
    said = explain(model, images, name, 0, options=quick(name), dry_run=True).forwards
    model.seen = 0
    explain(model, images, name, 0, options=quick(name))
    measuring = 2  # images run once to see how much memory a pass takes
    if name == "occlusion":  # tries its quicker way; begins passes of each image and its cover
        measuring += 8 + 2 * len(images)
    assert model.seen <= len(images) * said + measuring + 1e-6


def test_every_need_is_a_source() -> None:
    known = {*SOURCES, "settings", "maps"}
    for method in METHODS.values():
        assert set(method.needs) <= known, method.name


@pytest.mark.parametrize("name", list(METHODS))
def test_registry_rows_are_complete(name: str) -> None:
    method = METHODS[name]
    assert name == method.name and method.title and method.sentence.endswith(".")
    assert method.paper and set(method.dims) <= {2, 3}
    assert not (method.rectified and method.unsigned)
    if method.settings is not None:
        method.settings()  # every field has a default


def test_options_are_checked() -> None:
    model, images = RESNET.build(), RESNET.images(1)
    with pytest.raises(OctoscopeError, match='"gradcam" is no method with settings'):
        explain(model, images, "gradcam", options={"gradcam": {}})
    with pytest.raises(OctoscopeError, match=r"precision=.*neither"):
        explain(model, images, precision="float16")
    with pytest.raises(OctoscopeError, match="names no layer"):
        explain(model, images, layer=[])


def test_bfloat16_where_no_gradient_goes() -> None:
    """The prefix runs in bf16, the suffix and its gradients in float32: the map done by hand.

    How far bf16 is from float32 depends on the processor, so the oracle has it, too.
    """
    model, images = RESNET.build(), RESNET.images(2)
    exact = explain(model, images, "gradcam", 0, signed=True).native["gradcam"]
    quick = explain(model, images, "gradcam", 0, signed=True, precision="bfloat16")
    assert quick.native["gradcam"].dtype == torch.float32
    assert not quick.native["gradcam"].equal(exact)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features = model.forward_features(images)
    features = features.float().requires_grad_()
    (gradient,) = torch.autograd.grad(model.forward_head(features)[:, 0].sum(), features)
    by_hand = (gradient.mean((2, 3), keepdim=True) * features).sum(1)
    assert (quick.native["gradcam"] - by_hand).abs().max() < 1e-4 * by_hand.abs().max()
