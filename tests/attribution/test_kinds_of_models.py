"""Models that come in odd kinds are explained as the plain one is, or refused in one sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from octoscope.attribution.explain import explain
from octoscope.attribution.maps import Maps
from octoscope.attribution.registry import METHODS
from octoscope.errors import OctoscopeError

SOME = {
    "gradcam": {},
    "ablationcam": {},
    "scorecam": {},
    "fullgrad": {},
    "occlusion": {"window": 8, "stride": 8},
    "rise": {"most": 8, "least": 8},
    "integrated_gradients": {"steps": 2},
    "guided_backprop": {},
}
"""A few of every family that is defined for convolutions."""
IMAGE_ALONE = ["occlusion", "rise", "integrated_gradients"]


class Plain(nn.Module):
    """A small network with everything registered."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.stem = nn.Conv2d(1, 6, 3, padding=1)
            self.norm = nn.BatchNorm2d(6)
            self.layer4 = nn.Conv2d(6, 8, 3, stride=2, padding=1)
            self.fc = nn.Linear(8, 3)

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.layer4(F.relu(self.norm(self.stem(x)))))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


class Reentrant(Plain):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = checkpoint(self.features, x, use_reentrant=True)
        return self.fc(found.mean((2, 3)))


class NotReentrant(Plain):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = checkpoint(self.features, x, use_reentrant=False)
        return self.fc(found.mean((2, 3)))


class InSegments(Plain):
    def forward(self, x: Tensor) -> Tensor:
        parts = [self.stem, self.norm, F.relu, self.layer4, F.relu]
        found: Tensor = checkpoint_sequential(parts, 2, x, use_reentrant=False)
        return self.fc(found.mean((2, 3)))


class Detached(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).detach().mean((2, 3)))


class TwoInputs(Plain):
    def forward(self, x: Tensor, age: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x) + age


class DoubleHead(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.fc.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)).double())


class Unconverted(DoubleHead):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


class Siblings(Plain):
    """Refers to its parts by other ways than its children."""

    def __init__(self) -> None:
        super().__init__()
        self.in_a_list = [self.stem, self.norm]
        self.by_name = {"last": self.layer4}
        self.method = self.stem.forward
        self.closure = lambda x: self.norm(x)
        object.__setattr__(self.fc, "parent", self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.closure(self.method(x)))
        return self.fc.parent.fc(F.relu(self.by_name["last"](x)).mean((2, 3)))


def plain() -> nn.Module:
    return Plain().eval()


def compiled_part() -> nn.Module:
    model = Plain().eval()
    model.layer4 = torch.compile(model.layer4)  # type: ignore[assignment]
    return model


KINDS: dict[str, Callable[[], nn.Module]] = {
    "training": lambda: Plain().train(),
    "reentrant checkpoint": lambda: Reentrant().eval(),
    "checkpoint": lambda: NotReentrant().eval(),
    "checkpointed segments": lambda: InSegments().eval(),
    "checkpoint in training": lambda: NotReentrant().train(),
    "float64 head": lambda: DoubleHead().eval(),
    "references": lambda: Siblings().eval(),
    "fx": lambda: fx.symbolic_trace(plain()),
    "compiled": lambda: torch.compile(plain()),  # type: ignore[dict-item,return-value]
    "compiled part": compiled_part,
    "float64": lambda: plain().double(),
}


def images() -> Tensor:
    return torch.rand(2, 1, 24, 24, generator=torch.Generator().manual_seed(3))


def explained(model: Any, names: list[str] | None = None, **more: Any) -> Maps:
    names = list(SOME) if names is None else names
    options = {name: SOME[name] for name in names if SOME[name]}
    return explain(model, images(), names, 1, layer="layer4", options=options, **more)


@cache
def expected() -> Maps:
    return explained(plain())


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_explained_as_the_plain_one(kind: str) -> None:
    model = KINDS[kind]()
    flags = [part.training for part in model.modules()]
    found = explained(model)
    for name, maps in expected().native.items():
        scale = float(maps.abs().max())
        assert (found.native[name] - maps).abs().max() <= 1e-4 * scale, name
    assert flags == [part.training for part in model.modules()]


@contextmanager
def default(dtype: torch.dtype | None = None, device: str | None = None) -> Iterator[None]:
    before = torch.get_default_dtype()
    try:
        if dtype is not None:
            torch.set_default_dtype(dtype)
        torch.set_default_device(device)
        yield
    finally:
        torch.set_default_dtype(before)
        torch.set_default_device(None)


@pytest.mark.parametrize(
    "how", [{"dtype": torch.float64}, {"dtype": torch.bfloat16}, {"device": "meta"}], ids=str
)
def test_defaults_of_torch_are_not_heeded(how: dict[str, Any]) -> None:
    model, batch, names = plain(), images(), list(SOME)
    options = {name: values for name, values in SOME.items() if values}
    with default(**how):
        found = explain(model, batch, names, 1, layer="layer4", options=options)
    for name, maps in expected().native.items():
        scale = float(maps.abs().max())
        assert (found.native[name] - maps).abs().max() <= 1e-4 * scale, name


SCRIPTS: dict[str, Callable[[], nn.Module]] = {
    "script": lambda: torch.jit.script(Plain().train()),
    "trace": lambda: torch.jit.trace(plain(), images()),
    "frozen script": lambda: torch.jit.freeze(torch.jit.script(plain())),
}


@pytest.mark.parametrize("kind", SCRIPTS)
def test_torchscript(kind: str) -> None:
    model = SCRIPTS[kind]()
    found = explain(model, images(), IMAGE_ALONE, 1, options={n: SOME[n] for n in IMAGE_ALONE})
    for name in IMAGE_ALONE:
        maps = expected().native[name]
        assert (found.native[name] - maps).abs().max() <= 1e-4 * float(maps.abs().max()), name
    assert kind != "script" or model.training
    for name in ("gradcam", "guided_backprop", "fullgrad"):
        with pytest.raises(OctoscopeError) as refused:
            explain(model, images(), name)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", SOME)
def test_detached_features(name: str) -> None:
    if METHODS[name].family == "perturbation" or name in ("ablationcam", "scorecam"):
        assert explained(Detached().eval(), [name])[name].isfinite().all()
        return
    with pytest.raises(OctoscopeError) as refused:
        explained(Detached().eval(), [name])
    assert "\n" not in str(refused.value)


def a_function(x: Tensor) -> Tensor:
    return plain()(x)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "two inputs": (lambda: TwoInputs().eval(), "takes more than images"),
    "mixed types": (lambda: Unconverted().eval(), "float32 and float64"),
    "a function": (lambda: a_function, "the model is a function"),
    "a method": (lambda: plain().forward, "the model is a function"),
    "no model": (lambda: {"weights": 1}, "the model is a dict"),
    "no forward": (lambda: nn.ModuleList([plain()]), r"has no forward\(\)"),
    "lazy": (lambda: nn.Sequential(nn.LazyConv2d(3, 3)), "run it once"),
}


@pytest.mark.parametrize("methods", ["gradcam", "occlusion", "saliency", "guided_backprop", "cam"])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_explained_says_so(kind: str, methods: str) -> None:
    build, sentence = REFUSED[kind]
    with pytest.raises(OctoscopeError, match=sentence) as refused:
        explain(build(), images(), methods)
    assert "\n" not in str(refused.value)


class Pixels(nn.Module):
    """Functions of the image alone, with no layer that has positions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(36, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.gelu(F.adaptive_avg_pool2d(x, 6).flatten(1)))


QUICK = {
    "occlusion": {"window": 8, "stride": 8},
    "rise": {"most": 8, "least": 8},
    "integrated_gradients": {"steps": 2},
    "smoothgrad": {"samples": 2},
    "gradient_shap": {"samples": 2},
}


def test_all_leaves_out_what_needs_a_layer() -> None:
    maps = explain(Pixels().eval(), images(), "all", options=QUICK)
    assert {"occlusion", "saliency", "smoothgrad"} <= set(maps)
    for name in ("gradcam", "ablationcam", "guided_gradcam", "guided_backprop", "fullgrad"):
        assert name in maps.refused and name not in maps and "\n" not in maps.refused[name]
    assert "calls" in maps.refused["guided_backprop"]
    plan = explain(Pixels().eval(), images(), ["all", "-consensus"], options=QUICK, dry_run=True)
    assert "gradcam" in plan.refused
    with pytest.raises(OctoscopeError, match="no layer with spatial features"):
        explain(Pixels().eval(), images(), ["occlusion", "gradcam"])
    with pytest.raises(OctoscopeError):
        explain(Pixels().eval(), images(), "cam")
    with pytest.raises(OctoscopeError, match='no layer "nothing"'):
        explain(Pixels().eval(), images(), "all", layer="nothing", options=QUICK)


def test_double_precision_is_kept_through_differences() -> None:
    """A large bias makes the drops a billionth of the logit, which float32 cannot tell apart."""
    model = plain().double()
    with torch.no_grad():
        model.fc.bias.add_(1e8)
    few = ["occlusion", "ablationcam", "integrated_gradients"]
    found = explain(
        model,
        images().double(),
        few,
        1,
        layer="layer4",
        options={n: SOME[n] for n in few if SOME[n]},
    )
    for name in ("occlusion", "integrated_gradients"):
        maps = expected().native[name]
        assert (found.native[name] - maps).abs().max() <= 1e-3 * float(maps.abs().max()), name


def test_functional_relus_are_enough() -> None:
    assert "guided_backprop" in explain(
        plain(),
        images(),
        "input",
        options={k: v for k, v in QUICK.items() if METHODS[k].family == "input"},
    )
    assert inspect.ismodule(torch)
