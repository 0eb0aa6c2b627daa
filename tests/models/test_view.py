"""A view is the same network, and nothing that is done to it reaches the model."""

from __future__ import annotations

import threading
import weakref
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm

from octoscope.errors import OctoscopeError
from octoscope.models.borrow import borrowed
from octoscope.models.view import counterpart, origin, view_of


class Knot(nn.Module):
    """Refers to its parts in every way that comes to mind."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(4, 4) for _ in range(4))
        self.e = parametrizations.weight_norm(nn.Linear(4, 4))
        self.f = spectral_norm(nn.Linear(4, 4))
        self.g = nn.Linear(4, 4, bias=False)
        self.g.weight = self.a.weight  # tied
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("scale", torch.ones(4))
        self.listed = [self.a, (self.b,)]
        self.partly = partial(self._twice, self.c)
        self.closure = lambda x: self.d(x)
        self.holder = SimpleNamespace(part=self.e, lock=threading.Lock())
        self.weak = weakref.ref(self.f)
        self.cache: dict[str, Tensor] = {}
        self.lock = threading.Lock()
        object.__setattr__(self.a, "parent", self)

    @staticmethod
    def _twice(part: nn.Module, x: Tensor) -> Tensor:
        return part(part(x))

    def forward(self, x: Tensor) -> Tensor:
        self.cache["last"] = x
        self.last = x
        x = self.listed[1][0](self.listed[0](x)).relu()
        x = self.holder.part(self.closure(self.partly(x)))
        self.scale.mul_(1.0)
        return self.norm(self.a.parent.g(self.weak()(x))) * self.scale


PARTS = ["a", "b", "c", "d", "e", "f", "g", "norm"]


def knot() -> Knot:
    torch.manual_seed(0)
    model = Knot()
    model(torch.rand(8, 4))
    return model.eval()


def test_it_gives_the_same() -> None:
    model, x = knot(), torch.rand(5, 4)
    assert view_of(model)(x).equal(model(x))


@pytest.mark.parametrize("name", PARTS)
def test_every_reference_stays_within(name: str) -> None:
    """A hook on each part of the view fires, however the part is reached, and only in the view."""
    model, x = knot(), torch.rand(5, 4)
    view, seen = view_of(model), []
    part = counterpart(view, getattr(model, name))
    assert part is view.get_submodule(name) and origin(part) is getattr(model, name)
    part.register_forward_hook(lambda *_: seen.append(name))
    model(x)
    assert not seen
    view(x)
    assert seen


def test_nothing_reaches_the_model() -> None:
    model, x = knot().train(), torch.rand(5, 4)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = {k: id(v) for k, v in vars(model).items()}
    view = view_of(model)
    assert not any(part.training for part in view.modules())
    assert not any(parameter.requires_grad for parameter in view.parameters())
    view.scale.fill_(7)
    view.norm.train()(x)
    view(x)
    view.a.weight.grad = torch.ones(4, 4)
    view.new = nn.Linear(1, 1)
    assert all(part.training for part in model.modules() if part is not model.norm)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.a.weight.grad is None and not hasattr(model, "new")
    assert {k: id(v) for k, v in vars(model).items()} == state and "last" in model.cache
    for name, value in model.state_dict().items():
        assert value.equal(before[name]), name


def test_weights_are_shared_or_copied() -> None:
    model = knot()
    shared, own = view_of(model), view_of(model, own_weights=True)
    assert shared.a.weight.data_ptr() == model.a.weight.data_ptr()
    assert shared.g.weight is shared.a.weight and own.g.weight is own.a.weight
    assert own.a.weight.data_ptr() != model.a.weight.data_ptr()
    with torch.no_grad():
        model.a.weight.fill_(3)
    assert (shared.a.weight == 3).all() and not (own.a.weight == 3).all()


def test_weights_that_change_meanwhile() -> None:
    """In evaluation they are shared, so it is an error; in training they were copied."""
    model, x = knot(), torch.rand(5, 4)
    with (
        pytest.raises(OctoscopeError, match="were changed while"),
        borrowed(model),
        torch.no_grad(),
    ):
        model.b.weight.add_(1)
    model.train()
    with borrowed(model) as lent, torch.no_grad():
        expected = lent(x)
        model.b.weight.add_(1)
        assert lent(x).equal(expected)


def test_a_view_does_not_keep_the_model_alive_after_it() -> None:
    model = knot()
    watched = weakref.ref(model)
    with borrowed(model):
        pass
    vars(model.a).clear()  # its own circle
    del model
    import gc

    gc.collect()
    assert watched() is None


def test_a_hook_of_the_users_runs_in_the_view() -> None:
    """What somebody hung on a model is part of what it computes."""
    model, x = knot(), torch.rand(5, 4)
    model.register_forward_hook(lambda _m, _i, out: out + 1)
    seen: list[Any] = []
    model.a.register_forward_hook(lambda part, _i, _out: seen.append(part))
    assert view_of(model)(x).equal(model(x)) and len(seen) == 2
