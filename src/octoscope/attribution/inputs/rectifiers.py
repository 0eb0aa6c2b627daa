"""Backward passes through ReLUs by other rules than the chain rule.

The rules are put in where functions are called, not by hooks on modules: nothing in the model is
touched, and a ReLU is found whether it is a module, a function, in place, or used many times.
captum, which hooks modules, gives the same where every ReLU is a module that is not in place
(the tests compare); it passes over functional ones in silence and fails on those in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from octoscope.errors import OctoscopeError

Rule = Literal["guided", "deconvolution"]

INSTEAD = 'use "saliency", "smoothgrad" or "integrated_gradients"'

SMOOTH_MODULES = (
    nn.CELU,
    nn.ELU,
    nn.GELU,
    nn.Hardswish,
    nn.Hardtanh,  # also ReLU6
    nn.LeakyReLU,
    nn.Mish,
    nn.PReLU,
    nn.RReLU,
    nn.SELU,
    nn.SiLU,
    nn.Softplus,
    nn.Softsign,
    nn.Tanh,
)
"""Activations that are no rectifiers. Sigmoids are not among them: they are gates, which scale."""

SMOOTH_NAMES = frozenset(
    (
        "gelu", "gelutanh", "quickgelu", "silu", "swish", "swishme", "mish", "mishme", "hardswish",
        "hardswishme", "hardmish", "hardmishme", "prelu", "tanh",
    )
)  # fmt: skip
"""Class names, in lower case, of the same by other libraries."""

SMOOTH_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    getattr(place, name)
    for place in (F, torch, torch.Tensor)
    for stem in (
        "celu", "elu", "gelu", "hardswish", "hardtanh", "leaky_relu", "mish", "prelu", "relu6",
        "rrelu", "selu", "silu", "softplus", "softsign", "tanh",
    )
    for name in (stem, f"{stem}_")
    if hasattr(place, name)
)  # fmt: skip

IN_PLACE: frozenset[Callable[..., Any]] = frozenset({torch.relu_, Tensor.relu_})
RELU: frozenset[Callable[..., Any]] = IN_PLACE | {torch.relu, Tensor.relu, F.relu}


def require_rectifiers(module: nn.Module) -> None:
    """Refuse networks for which guided backpropagation and deconvolution are not defined.

    Raises:
        OctoscopeError: If the network has activations other than ReLU, or none that is a module,
            so that what it has cannot be told before it runs.
    """
    rectifies = False
    for name, part in module.named_modules():
        kind = type(part).__name__
        if isinstance(part, SMOOTH_MODULES) or kind.lower() in SMOOTH_NAMES:
            raise OctoscopeError(_undefined(f"{name or 'the model'} is {kind}"))
        if isinstance(part, torch.jit.ScriptModule):
            raise OctoscopeError(
                f"{name or 'the model'} is TorchScript, whose ReLUs cannot be reached; {INSTEAD}"
            )
        rectifies |= isinstance(part, nn.ReLU)
    if not rectifies:
        raise OctoscopeError(
            "its rules replace the backward pass of ReLUs, and the network has no nn.ReLU module; "
            + INSTEAD
        )


def _undefined(found: str) -> str:
    return f"its rules replace the backward pass of ReLUs, and {found}; {INSTEAD}"


class Rectifiers(TorchFunctionMode):
    """A context in which every ReLU that is called passes gradients back by a rule.

    With R the gradient at the output f of a ReLU, what passes is R · 1[f > 0] by the chain rule,
    max(R, 0) · 1[f > 0] if ``"guided"``, and max(R, 0) by ``"deconvolution"``. The forward pass is
    the same. Only calls made inside the context, by this thread, are concerned.

    Raises:
        OctoscopeError: When another activation function is called.
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self._rule = rule

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Replace ReLUs, and let everything else be."""
        kwargs = kwargs or {}
        if func in RELU:
            return _rectified(self._rule, func in IN_PLACE, *args, **kwargs)
        if func in SMOOTH_FUNCTIONS:
            raise OctoscopeError(_undefined(f"the network calls {func.__name__}"))
        return func(*args, **kwargs)


def _rectified(rule: Rule, always: bool, input: Tensor, inplace: bool = False) -> Tensor:
    return _Rectified.apply(input, always or inplace, rule == "guided")


class _Rectified(torch.autograd.Function):
    """max(x, 0), whose backward pass is another than its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, inplace: bool, guided: bool) -> Tensor:
        if guided:
            ctx.save_for_backward(x > 0)
        if inplace:
            ctx.mark_dirty(x)
            return x.relu_()
        return x.relu()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        kept = grads[0].relu()
        for positive in ctx.saved_tensors:
            kept = kept * positive
        return kept, None, None
