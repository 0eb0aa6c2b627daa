"""Every method on models and images that come in some odd way gives what it gives plainly."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attribution.quick import quick
from octoscope.attribution.explain import explain
from octoscope.attribution.maps import Maps
from octoscope.attribution.registry import METHODS
from octoscope.errors import OctoscopeError
from timm_families import FAMILIES, Family

NETWORKS = {
    "cnn": Family("resnet10t", "layer4", "nchw", (2, 3), options={"channels": (8, 12, 16, 24)}),
    "vit": next(family for family in FAMILIES if family.name == "vit_tiny_patch16_224"),
}
NAMES = ["all", "-scorecam"]
"""Score-CAM runs an image once per channel, here 24 and 48 times."""


class Answer:
    """What some libraries return."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


class Answers(nn.Module):
    """Returns an object that carries the logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Answer:
        return Answer(self.network(x))


class Shifts(nn.Module):
    """Subtracts a mean, which `Overwrites` does in the images it is given."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x - 0.3)


class Overwrites(Shifts):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.sub_(0.3))


class OneLogit(nn.Module):
    """A binary head with one logit for the disease."""

    def __init__(self, network: nn.Module, classes: list[int]) -> None:
        super().__init__()
        self.network, self.classes = network, classes

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[:, self.classes]


@cache
def network(kind: str) -> nn.Module:
    """In float64: in float32, rounding flips a ReLU at its kink now and then."""
    return deepcopy(NETWORKS[kind].build()).double()


def images(kind: str) -> Tensor:
    return NETWORKS[kind].images(2).double()


def every(model: nn.Module, batch: Tensor) -> Maps:
    return explain(model, batch, NAMES, [1, 2], options=quick(NAMES))


@cache
def plain(kind: str) -> Maps:
    return every(network(kind), images(kind))


def require_alike(found: Maps, expected: Maps, tolerance: float = 1e-4) -> None:
    assert set(found) == set(expected)
    for name, maps in expected.native.items():
        scale = maps.abs().amax((-2, -1), keepdim=True).clamp(min=1e-30)
        apart = ((found.native[name] - maps) / scale).abs().max()
        assert apart <= tolerance, f"{name}: {float(apart)}"


def in_place(model: nn.Module) -> nn.Module:
    model.compile()
    return model


MODELS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "compiled": torch.compile,  # type: ignore[dict-item]
    "compiled in place": in_place,
    "data parallel": nn.DataParallel,
    "training": lambda model: model.train(),
    "frozen": lambda model: model.requires_grad_(False),
    "logits in an object": Answers,
}


@pytest.mark.parametrize("how", MODELS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_models(kind: str, how: str) -> None:
    model = MODELS[how](deepcopy(network(kind)))
    training = [part.training for part in model.modules()]
    trained = [parameter.requires_grad for parameter in model.parameters()]
    require_alike(every(model, images(kind)), plain(kind))
    assert training == [part.training for part in model.modules()]
    assert trained == [parameter.requires_grad for parameter in model.parameters()]
    assert all(parameter.grad is None for parameter in model.parameters())


def inference(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return x.clone()


IMAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "require gradients": lambda x: x.clone().requires_grad_(),
    "transposed": lambda x: x.mT.contiguous().mT,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "inference tensors": inference,
}


@pytest.mark.parametrize("how", IMAGES)
@pytest.mark.parametrize("kind", NETWORKS)
def test_images(kind: str, how: str) -> None:
    batch = IMAGES[how](images(kind))
    require_alike(every(network(kind), batch), plain(kind))
    assert batch.equal(images(kind)) and batch.grad is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kind", NETWORKS)
def test_within_modes(kind: str, mode: type[torch.no_grad]) -> None:
    with mode():
        found = every(network(kind), images(kind))
    require_alike(found, plain(kind))


@pytest.mark.parametrize("kind", NETWORKS)
def test_autocast_around_the_call_is_not_heeded(kind: str) -> None:
    """``precision=`` says in which precision passes run."""
    model, batch = NETWORKS[kind].build(), NETWORKS[kind].images(2)
    expected = every(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = every(model, batch)
    require_alike(found, expected, 1e-3)


class Frozen(Shifts):
    """Runs its network under a no_grad of its own."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.network(x)


def test_attention_of_a_model_with_its_own_no_grad() -> None:
    """The graph starts at what is differentiated, so that it does not matter."""
    names = ["gradcam", "legrad", "chefer", "gradient_rollout", "attnlrp", "chefer_lrp"]
    found = explain(Frozen(network("vit")), images("vit"), names, [1, 2])
    require_alike(found, explain(network("vit"), images("vit"), names, [1, 2]))


@pytest.mark.parametrize("kind", NETWORKS)
def test_rows_that_share_memory(kind: str) -> None:
    one = images(kind)[:1]
    found = every(network(kind), one.expand(2, -1, -1, -1))
    require_alike(found, every(network(kind), one.repeat(2, 1, 1, 1)))


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_model_that_writes_into_its_input(kind: str) -> None:
    """The images stay as they are, for the user and for the methods that come after."""
    batch = images(kind)
    found = every(Overwrites(network(kind)), batch)
    assert batch.equal(images(kind))
    require_alike(found, every(Shifts(network(kind)), batch))


@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(torch.float32, 1e-3), (torch.float16, 0.2), (torch.bfloat16, 0.5)],
    ids=str,
)
@pytest.mark.parametrize("kind", NETWORKS)
def test_precision_of_the_weights(kind: str, dtype: torch.dtype, bound: float) -> None:
    """Rounded weights and activations flip ReLUs, so maps are compared as a whole."""
    found = every(deepcopy(NETWORKS[kind].build()).to(dtype), NETWORKS[kind].images(2))
    assert set(found) == set(plain(kind))
    for name, maps in plain(kind).native.items():
        mine = found.native[name]
        assert mine.dtype == torch.float32 and mine.isfinite().all(), name
        if name == "null_random" and dtype != torch.float32:
            continue  # a hash of the pixels, which are rounded
        apart = (mine - maps).flatten(1).norm(dim=1)
        assert (apart <= bound * maps.flatten(1).norm(dim=1)).all(), (name, apart)


@pytest.mark.parametrize("kind", NETWORKS)
def test_two_classes_and_one_logit(kind: str) -> None:
    """What is said of a class by its logit does not depend on how many others there are."""
    two = explain(OneLogit(network(kind), [1, 2]), images(kind), NAMES, 0, options=quick(NAMES))
    one = explain(OneLogit(network(kind), [1]), images(kind), NAMES, 0, options=quick(NAMES))
    itself = explain(OneLogit(network(kind), [1]), images(kind), NAMES, options=quick(NAMES))
    assert set(one) == set(two)
    assert itself.targets.tolist() == [0, 0]  # type: ignore[union-attr]
    require_alike(itself, one)
    for name in set(one) - {"finercam", "rise", "consensus"}:
        torch.testing.assert_close(one.native[name], two.native[name], rtol=1e-4, atol=1e-6)
    with pytest.raises(OctoscopeError, match="class 1 does not exist"):
        explain(OneLogit(network(kind), [1]), images(kind), targets=1)


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_same_class_twice(kind: str) -> None:
    found = explain(network(kind), images(kind), NAMES, classes=[3, 3], options=quick(NAMES))
    table = explain(
        network(kind), images(kind), NAMES, torch.tensor([[3, 3], [3, 3]]), options=quick(NAMES)
    )
    heads = NETWORKS[kind].options.get("num_heads")
    for name, maps in found.native.items():
        assert maps.equal(table.native[name])
        if METHODS[name].parts:
            assert maps.shape[:2] == (2, heads)
        else:
            assert maps.shape[:2] == (2, 2) and maps[:, 0].equal(maps[:, 1]), name


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_every_method_has_a_plan(kind: str, name: str) -> None:
    names = [name, *(["gradcam", "layercam"] if "maps" in METHODS[name].needs else [])]
    try:
        plan = explain(network(kind), images(kind), names, "all", dry_run=True)
    except OctoscopeError as error:
        assert "is not defined here" in str(error)
        return
    assert plan.classes == 4 and plan.images == 2 and plan.forwards >= 1
    assert any(name in step.methods or "maps" in METHODS[name].needs for step in plan.steps)
    assert str(plan).count("\n") >= 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rises": {}}, 'did you mean "rise"'),
        ({"rise": {"mots": 8}}, 'did you mean "most"'),
        ({"gradcam": {"most": 8}}, "no method with settings"),
        ({"smoothgrad": {"samples": 3}}, "not among the methods"),
        ({"rise": None}, "rise=None is no dict"),
        ({"rise": {"kept": "half"}}, "wrong kind"),
        ({"rise": {"seed": "zero"}}, "no seed"),
        ({"finercam": {"classes": 1.5}}, "no number of classes"),
        ({"occlusion": {"baseline": float("nan")}}, "baseline=nan"),
    ],
)
def test_typing_errors_in_options(options: dict[str, Any], says: str) -> None:
    names = ["rise", "finercam", "occlusion"]
    with pytest.raises(OctoscopeError, match=says):
        explain(network("cnn"), images("cnn"), names, options=options)
