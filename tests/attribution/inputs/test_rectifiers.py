"""A ReLU is followed however it is written, and whatever else is written is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octoscope.attribution.explain import explain
from octoscope.errors import OctoscopeError

Activation = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """Three convolutions with an activation that is given as a function."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in [(1, 6), (6, 6), (6, 8)]
        )
        self.head = nn.Linear(8, 3)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        for convolution in self.convolutions:
            x = self.activation(convolution(x))
        return self.head(x.mean((2, 3)))


def written_into(x: Tensor) -> Tensor:
    x[x < 0] = 0
    return x


def times_float(x: Tensor) -> Tensor:
    gate = (x > 0).to(x.dtype)
    return gate * x


def times_in_place(x: Tensor) -> Tensor:
    return x.mul_(x > 0)


RELUS: dict[str, Activation] = {
    "relu": torch.relu,
    "method": lambda x: x.relu(),
    "in place": lambda x: x.relu_(),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, True),
    "clamp": lambda x: x.clamp(min=0),
    "clamp by place": lambda x: torch.clamp(x, 0),
    "clamp_": lambda x: x.clamp_(min=0),
    "clamp_min": lambda x: x.clamp_min(0),
    "clip": lambda x: torch.clip(x, min=0.0),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "maximum of one": lambda x: torch.maximum(torch.zeros(()), x),
    "max": lambda x: torch.max(x, torch.tensor(0.0)),
    "fmax": lambda x: torch.fmax(x, torch.zeros(1)),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "threshold in place": lambda x: F.threshold(x, 0.0, 0.0, True),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "where not": lambda x: torch.where(x <= 0, torch.zeros_like(x), x),
    "x.where": lambda x: x.where(x > 0, torch.zeros(())),
    "times": lambda x: x * (x > 0),
    "times float": times_float,
    "times in place": times_in_place,
    "masked_fill": lambda x: x.masked_fill(x < 0, 0),
    "written into": written_into,
    "leaky of slope 0": lambda x: F.leaky_relu(x, 0.0),
    "hardtanh to infinity": lambda x: F.hardtanh(x, 0.0, float("inf")),
}

OTHERS: dict[str, Activation] = {
    "abs": torch.abs,
    "clamp from 1": lambda x: x.clamp(min=1),
    "clamp to 1": lambda x: x.clamp(0, 1),
    "maximum with 1": lambda x: torch.maximum(x, torch.ones(())),
    "minimum": lambda x: torch.minimum(x, torch.ones(())),
    "threshold at 1": lambda x: F.threshold(x, 1, 0),
    "gate at 1": lambda x: x * (x > 0.1),
    "where at 1": lambda x: torch.where(x > 0.1, x, 0.0),
    "silu by hand": lambda x: x * torch.sigmoid(x),
    "quick gelu by hand": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu by hand": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
    "half of the sum with its magnitude": lambda x: (x + x.abs()) / 2,
    "sign": lambda x: x * (x.sign() + 1) / 2,
}


class Cubed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x**3

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        return grads[0]


OTHERS["a backward of its own"] = Cubed.apply


@pytest.mark.parametrize("method", ["guided_backprop", "deconvolution"])
@pytest.mark.parametrize("name", RELUS)
def test_every_way_to_write_relu(name: str, method: str) -> None:
    """The oracle is the same network written with nn.ReLU."""
    image = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    expected = explain(Net(nn.ReLU()), image, method, 1)[method]
    found = explain(Net(RELUS[name]), image, method, 1)[method]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert not torch.equal(
        expected, explain(Net(nn.ReLU()), image, "input_x_gradient", 1)["input_x_gradient"]
    )


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_relu_is_refused(name: str) -> None:
    with pytest.raises(OctoscopeError, match="backward pass of ReLUs"):
        explain(Net(OTHERS[name]), torch.rand(1, 1, 12, 12), "guided_backprop", 1)


def test_constant_masks_and_gates_of_other_features_are_no_activations() -> None:
    """What captum does with them: nothing, for they are linear in the features."""
    half = (torch.rand(6, 12, 12, generator=torch.Generator().manual_seed(2)) > 0.5).float()

    class Masked(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.activation(self.convolutions[0](x)) * half
            x = x * torch.sigmoid(x.mean((2, 3), keepdim=True))
            x = self.activation(self.convolutions[2](x))
            return self.head(x.mean((2, 3)))

    image = torch.rand(1, 1, 12, 12)
    expected = explain(Masked(nn.ReLU()), image, "guided_backprop", 1)["guided_backprop"]
    found = explain(Masked(lambda x: x.clamp(min=0)), image, "guided_backprop", 1)
    torch.testing.assert_close(found["guided_backprop"], expected)
