"""Backward passes through ReLUs by other rules than the chain rule.

The rules are put in where functions are called, not by hooks on modules: nothing in the model is
touched, and a ReLU is found whether it is a module, a function, in place, or used many times, and
also where it is written as ``clamp(min=0)``, ``maximum(x, 0)``, ``where(x > 0, x, 0)`` or
``x * (x > 0)``. What is left in the graph then must be no activation function (`require_followed`).
captum, which hooks modules, gives the same where every ReLU is a module that is not in place
(the tests compare); it passes over functional ones in silence and fails on those in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from math import inf
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from octoscope.attribution.graph import (
    ACTIVATIONS,
    factors,
    has_own_backward,
    kind_of,
    nodes_of,
)
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
        "rrelu", "selu", "silu", "softplus", "softsign", "tanh", "erf", "glu", "hardshrink",
        "softshrink", "tanhshrink", "logsigmoid",
    )
    for name in (stem, f"{stem}_")
    if hasattr(place, name)
)  # fmt: skip


def require_rectifiers(module: nn.Module) -> None:
    """Refuse networks for which guided backpropagation and deconvolution are not defined.

    Raises:
        OctoscopeError: If the network has activations other than ReLU, or is TorchScript.
    """
    for name, part in module.named_modules():
        kind = type(part).__name__
        if isinstance(part, SMOOTH_MODULES) or kind.lower() in SMOOTH_NAMES:
            raise OctoscopeError(_undefined(f"{name or 'the model'} is {kind}"))
        if isinstance(part, torch.jit.ScriptModule):
            raise OctoscopeError(
                f"{name or 'the model'} is TorchScript, whose ReLUs cannot be reached; {INSTEAD}"
            )


def require_followed(outputs: Sequence[Tensor]) -> None:
    """Refuse a graph in which an activation function is left that passed by `Rectifiers`.

    Args:
        outputs: What the network gave within that context.

    Raises:
        OctoscopeError: Naming it; or if there is no ReLU at all.
    """
    ours = False
    for node in chain.from_iterable(map(nodes_of, outputs)):
        kind = kind_of(node)
        if kind == _Rectified.__name__:
            ours = True
        elif has_own_backward(node):
            raise OctoscopeError(_undefined(f"the network has a backward of its own, {kind}"))
        elif kind.startswith(ACTIVATIONS) or (kind in SELECTIONS and factors(node) < 2):
            raise OctoscopeError(_undefined(f"the network calls {kind.lower()}"))
    if not ours and any(output.requires_grad for output in outputs):
        raise OctoscopeError(_undefined("the network calls none"))


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
        self._answers = WeakTensorKeyDictionary()
        """What was computed from features without a graph, such as x > 0."""
        self._gates = WeakTensorKeyDictionary()
        """σ(a x) to x, and a x to x."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Replace ReLUs, and let everything else be."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        stem = name.strip("_")
        if func in SMOOTH_FUNCTIONS and not _never_below_zero(stem, args, kwargs):
            raise OctoscopeError(_undefined(f"the network calls {name}"))
        x = rectified_by(stem, args, kwargs, self._answers)
        if x is not None:
            in_place = name in IN_PLACE or bool(kwargs.get("inplace", _last_flag(stem, args)))
            found = _Rectified.apply(x, in_place, self._rule == "guided")
            return None if stem == "setitem" else found
        found = func(*args, **kwargs)
        if isinstance(found, Tensor):
            self._remember(stem, args, found)
        return found

    def _remember(self, stem: str, args: tuple[Any, ...], found: Tensor) -> None:
        tensors = [one for one in args if isinstance(one, Tensor)]
        if not found.requires_grad:
            if any(one.requires_grad or one in self._answers for one in tensors):
                self._answers[found] = True
        elif tensors and (
            stem in ("sigmoid", "hardsigmoid")
            or (stem in ("mul", "div", "truediv", "rmul", "imul") and len(tensors) == 1)
        ):
            self._gates[found] = self._gates.get(tensors[0], tensors[0])
        elif stem in ("mul", "rmul", "imul") and len(tensors) == 2:
            one, two = tensors
            if self._gates.get(one) is two or self._gates.get(two) is one:
                raise OctoscopeError(_undefined("the network multiplies x by σ(x), as SiLU does"))


SELECTIONS = ("Maximum", "Minimum", "Fmax", "Fmin")
"""What compares features with others, or with a constant."""
IN_PLACE = frozenset(("relu_", "clamp_", "clip_", "clamp_min_", "threshold_", "leaky_relu_",
                      "masked_fill_", "mul_", "__imul__", "__setitem__"))  # fmt: skip
"""Names of functions that write into their input."""


def rectified_by(
    stem: str, args: tuple[Any, ...], kwargs: dict[str, Any], answers: Any
) -> Tensor | None:
    """Return x if a function, called so, gives max(x, 0); None if it does something else.

    Args:
        stem: Its name without underscores around it.
        args: What it is called with.
        kwargs: The same by name.
        answers: The tensors that say something of features: gates among them.

    Raises:
        OctoscopeError: If it is another function that gates x by itself.
    """
    given = [*args, *(kwargs[key] for key in ("input", "other") if key in kwargs)]
    if stem == "where" and len(given) == 3:
        mask, one, two = given if given[0].dtype == torch.bool else (given[1], given[0], given[2])
        if _follows(one) and _is_zero(two):
            return _gated(one, mask, answers, opens=True)
        fits = _follows(two) and _is_zero(one)
        return _gated(two, mask, answers, opens=False) if fits else None
    if stem in ("maximum", "max", "fmax") and len(given) == 2:
        one, two = given
        if _follows(one) and isinstance(two, Tensor) and _is_zero(two):
            return one
        return two if _follows(two) and _is_zero(one) else None
    if stem in ("mul", "rmul", "imul") and len(given) == 2:
        one, mask = given if _follows(given[0]) else given[::-1]
        switch = isinstance(mask, Tensor) and _follows(one) and mask in answers and _is_switch(mask)
        return _gated(one, mask, answers, opens=True) if switch else None
    x = given[0] if given else None
    if not isinstance(x, Tensor) or not x.requires_grad:
        return None
    if stem in ("masked_fill", "setitem") and len(given) == 3 and _is_zero(given[2]):
        mask = given[1]
        boolean = isinstance(mask, Tensor) and mask.dtype == torch.bool
        return _gated(x, mask, answers, opens=False) if boolean else None
    return x if _never_below_zero(stem, args, kwargs) else None


def _never_below_zero(stem: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Say whether a function of x, by its numbers, is max(x, 0)."""
    numbers = list(args[1:])

    def number(place: int, name: str, default: Any = None) -> Any:
        return kwargs.get(name, numbers[place] if len(numbers) > place else default)

    if stem == "relu":
        return True
    if stem in ("clamp", "clip"):
        return _is_zero(number(0, "min")) and number(1, "max") in (None, inf)
    if stem == "clamp_min":
        return _is_zero(number(0, "min"))
    if stem == "threshold":
        return _is_zero(number(0, "threshold")) and _is_zero(number(1, "value"))
    if stem == "leaky_relu":
        return _is_zero(number(0, "negative_slope", 0.01))
    if stem == "hardtanh":
        return _is_zero(number(0, "min_val", -1)) and number(1, "max_val", 1) == inf
    return False


def _gated(x: Tensor, mask: Tensor, answers: Any, *, opens: bool) -> Tensor | None:
    """Return x if a mask that was computed from features lets through what is positive in it.

    Args:
        x: Features.
        mask: Of the same shape; another one is none of x alone, and lets x be linear.
        answers: The tensors that were computed from features.
        opens: Whether the mask says what passes, or what does not.

    Raises:
        OctoscopeError: If it lets something else through.
    """
    if mask not in answers or mask.shape != x.shape:
        return None
    passes = mask.bool() if opens else ~mask.bool()
    if bool(((passes != (x > 0)) & (x != 0)).any()):
        raise OctoscopeError(_undefined("the network shuts features off by another rule"))
    return x


def _follows(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _is_zero(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.requires_grad and not bool(value.any())
    return isinstance(value, int | float) and value == 0


def _is_switch(gate: Tensor) -> bool:
    """Say whether a tensor holds zeros and ones."""
    return gate.dtype == torch.bool or bool(((gate == 0) | (gate == 1)).all())


def _last_flag(stem: str, args: tuple[Any, ...]) -> bool:
    """Return ``inplace`` where it was given by place: the last argument of F.relu and the like."""
    return stem in ("relu", "threshold", "leaky_relu", "hardtanh") and args[-1] is True


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
