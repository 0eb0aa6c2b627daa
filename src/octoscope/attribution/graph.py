"""What the graph of a pass says was computed, whether by a function, a script or a kernel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

ACTIVATIONS = (
    "Relu", "Clamp", "Threshold", "Hardtanh", "LeakyRelu", "Elu", "Celu", "Selu", "Gelu", "Silu",
    "Mish", "Prelu", "Rrelu", "Hardswish", "Softplus", "Tanh", "Erf", "Abs", "Glu", "Hardshrink",
    "Softshrink", "LogSigmoid", "Sin", "Cos", "Atan", "Sign", "Heaviside",
)  # fmt: skip
"""Beginnings of the names of autograd's nodes of activation functions."""
CURVED = (
    "Elu", "Celu", "Selu", "Gelu", "Silu", "Mish", "Hardswish", "Softplus", "Tanh", "Erf", "Glu",
    "LogSigmoid", "Sigmoid", "Sin", "Cos", "Atan", "Exp", "Log", "Sqrt", "Rsqrt", "Pow", "Softmax",
    "SafeSoftmax", "NativeLayerNorm", "NativeGroupNorm", "NativeRmsNorm", "FusedRmsNorm",
    "ScaledDotProduct", "Norm",
    "LinalgVectorNorm", "Var", "Std", "Reciprocal", "Prod",
)  # fmt: skip
"""The same of what is not piecewise linear in what it is given."""
PRODUCTS = ("Mul", "Div", "Mm", "Bmm", "Dot", "Mv", "Addmm", "Baddbmm", "Convolution")
"""The same of what is linear in one of its factors, if the other is a constant."""


def nodes_of(output: Tensor) -> Iterator[Any]:
    """Yield every node of the graph of a tensor, each once."""
    waiting, seen = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [one for one, _ in node.next_functions]
            yield node


def kind_of(node: Any) -> str:
    """Return what a node computes: ``Relu`` of ``ReluBackward0``."""
    return str(node.name()).partition("Backward")[0]


def has_own_backward(node: Any) -> bool:
    """Say whether a node is of an `torch.autograd.Function` that somebody wrote."""
    return isinstance(node, torch.autograd.function.BackwardCFunction)


def factors(node: Any) -> int:
    """Count what a node is given that is in the graph itself."""
    return sum(one is not None for one, _ in node.next_functions)


def is_curved(node: Any) -> bool:
    """Say whether a node computes what is not piecewise linear in all that it is given together."""
    kind = kind_of(node)
    return kind.startswith(CURVED) or (kind in PRODUCTS and factors(node) > 1)
