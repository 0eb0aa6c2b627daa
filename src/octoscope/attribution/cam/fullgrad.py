"""FullGrad: a logit taken apart, without remainder, into what the image and each bias add to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from octoscope.attribution.display import normalise, upsample
from octoscope.attribution.graph import has_own_backward, is_curved, kind_of, nodes_of
from octoscope.attribution.source import Batch
from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.models.probe import at_least_float32, logits_of

Rescale = Literal["layer", "channel"]

CONVOLUTIONS = (
    *(F.linear, F.conv1d, F.conv2d, F.conv3d),
    *(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
)
"""Functions of (input, weight, bias, …)."""
SUMS = {"add", "add_", "__add__", "__iadd__", "__radd__"}
DIFFERENCES = {"sub", "sub_", "__sub__", "__isub__"}
BENT = {
    *("relu6", "hardtanh", "hardsigmoid", "clamp", "clip", "clamp_min", "clamp_max", "threshold"),
    *("softshrink", "hardshrink", "maximum", "minimum", "max", "min", "fmax", "fmin"),
    *("where", "masked_fill"),
}
"""Functions of each number whose pieces are lines that may not go through 0."""
CURVED = (
    *(nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.SELU, nn.CELU, nn.Softplus, nn.Softsign, nn.GLU),
    *(nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Hardswish, nn.Hardsigmoid),
    *(nn.Softmax, nn.LogSoftmax, nn.MultiheadAttention),
    *(nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)
"""Parts that are not piecewise linear in their input."""
CURVED_NAMES = {"GELU", "GELUTanh", "QuickGELU", "Swish", "Mish", "Sigmoid", "Tanh"} | {
    *("HardSwish", "HardSigmoid", "HardMish", "SwishMe", "MishMe", "HardSwishMe", "HardSigmoidMe"),
    *("RmsNorm", "RmsNorm2d", "RMSNorm", "SimpleNorm", "SimpleNorm2d"),
}
"""The same by the names that networks give classes of their own."""


@dataclass(frozen=True)
class FullGradSettings:
    """What can be set of FullGrad.

    Attributes:
        rescale: Over what each term is scaled to [0, 1]: ``"layer"``, over all channels of a layer
            together, as the authors' program does, which keeps a strong channel strong; or
            ``"channel"``, each channel by itself, as equation 4 reads.
    """

    rescale: Rescale = "layer"

    def __post_init__(self) -> None:
        if self.rescale not in get_args(Rescale):
            known = get_args(Rescale)
            raise OctoscopeError(
                f'fullgrad: rescale="{self.rescale}" is not known'
                f"{did_you_mean(str(self.rescale), known)}; known are {', '.join(known)}"
            )


def fullgrad(full_gradients: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """FullGrad: M = ψ(x ⊙ ∇ₓ y_c) + Σ_l Σ_k ψ(b_lk ∂y_c/∂z_lk).

    Srinivas & Fleuret, NeurIPS 2019, equations 3-4. ψ takes the magnitude, scales it to [0, 1] by
    (m - min m) / (max m - min m), interpolates it to the image (cell centres aligned, where the
    authors align corners), and is summed over channels. z_l is what a layer with a bias gives; the
    bias of a batch norm is β - γ μ/σ; a constant added to or subtracted from features, such as the
    mean of a `Classifier`'s preprocessing, is a bias too; and so is what a bent function has beside
    its slope, σ(z) - σ'(z) z, such as the 6 of a saturated ReLU6 (the paper's implicit bias,
    section 3). Biases without positions, those after the
    pooling, have no map. The map is not signed, and says how much, not for or against.

    Returns:
        (b, *S), and ``unexplained`` (b,): y_c less the sum of all terms before ψ, which equation 3
        says is 0. It is rounding noise; above a hundredth of y_c the map is ``incomplete``.
    """
    map_, unexplained = full_gradients
    return map_, {"unexplained": unexplained}


def full_gradients(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the map (b, *S), and y_c less the sum of the decomposition (b,)."""
    rescale = batch.settings["fullgrad"].rescale
    size = batch.images.shape[2:]

    def run(rows: Tensor) -> Tensor:
        parts = _FullGradient(batch.images.ndim, lambda term: _shown(term, size, rescale))
        score = parts.of(batch.module, batch.images[rows], batch.classes[rows])
        # One row per image, for memory to be kept by halves: the map, and what is left over.
        return torch.cat([parts.map.flatten(1), (score - parts.total)[:, None]], 1)

    found = batch.with_graph(run)
    return found[:, :-1].unflatten(1, size), found[:, -1]


def piecewise_linear(module: nn.Module) -> None:
    """Refuse networks with a part that is not piecewise linear.

    Raises:
        OctoscopeError: Naming the part, and what to use instead.
    """
    for name, part in module.named_modules():
        kind = type(part).__name__
        if isinstance(part, torch.jit.ScriptModule):
            raise OctoscopeError(
                f"{name or 'the model'} is TorchScript, whose biases cannot be reached; use "
                '"integrated_gradients"'
            )
        if isinstance(part, CURVED) or kind in CURVED_NAMES or "Attention" in kind:
            raise OctoscopeError(_not_linear(f"{name or 'the model'} is of type {kind}"))


def _not_linear(found: str) -> str:
    return (
        "a logit is the sum of its full gradients only in a piecewise linear network (ReLU, batch "
        f"norm), and {found}; use hirescam"
    )


class _FullGradient(TorchFunctionMode):
    """While a model runs, asks every bias for its gradient; while it is differentiated, adds up.

    It watches functions, not modules, because some modules (timm's norm with activation) give their
    output only after a nonlinearity, and because a preprocessing is no module.
    """

    def __init__(self, ndim: int, shown: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._ndim = ndim
        self._shown = shown
        self.map: Tensor
        self.total: Tensor

    def of(self, module: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Run a model on images (m, C, *S), set map and total, and return y_c (m,)."""
        self.map = at_least_float32(images.new_zeros(len(images), *images.shape[2:]))
        self.total = at_least_float32(images.new_zeros(len(images)))
        images = images.detach().clone().requires_grad_()
        with self:
            logits = logits_of(module(images))
        if not logits.requires_grad:
            raise OctoscopeError(
                "the model runs under its own no_grad, so FullGrad finds no gradient; "
                "leave fullgrad out"
            )
        for node in nodes_of(logits):
            if is_curved(node) or has_own_backward(node):
                raise OctoscopeError(_not_linear(f"the model computes {kind_of(node)}"))
        score = logits.gather(1, classes[:, None]).squeeze(1)
        (gradient,) = torch.autograd.grad(score.sum(), images)
        self._add(images.detach(), gradient)
        return at_least_float32(score.detach())

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, and if it adds a bias, ask its output for its gradient."""
        kwargs = kwargs or {}
        bias = _bias_of(func, args, kwargs)  # before an in-place sum overwrites what it is of
        if bias is None and getattr(func, "__name__", "").strip("_") in BENT:
            bias = _bias_of_bend(func, args, kwargs)
        found = func(*args, **kwargs)
        if bias is not None and isinstance(found, Tensor) and found.requires_grad:
            # A hook sees the gradient of this value, even if a ReLU then works in place.
            found.register_hook(partial(self._add, bias))
        return found

    def _add(self, bias: Tensor, gradient: Tensor) -> None:
        term = at_least_float32(bias.detach()) * at_least_float32(gradient.detach())
        self.total += term.flatten(1).sum(1)
        if term.ndim == self._ndim:
            self.map += self._shown(term)


def _shown(term: Tensor, size: torch.Size, rescale: Rescale) -> Tensor:
    """Return Σ_k ψ(term_k), (m, *S), of a term (m, C, *s)."""
    axes = term.ndim - 2
    scaled = normalise(term.abs(), axes if rescale == "channel" else axes + 1)
    return upsample(scaled.sum(1), size)  # interpolation is linear: one sum, then one map


def _bias_of(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor | None:
    """Return what a function adds to something linear in its input, shaped to broadcast; or None.

    The bias is what the function would give for zeros.
    """
    if func in CONVOLUTIONS:
        bias = kwargs.get("bias", args[2] if len(args) > 2 else None)
        if bias is None or func is F.linear:
            return bias
        return _per_channel(bias, args[0].ndim if args else kwargs["input"].ndim)
    if func is F.batch_norm:
        given = signature(F.batch_norm).bind(*args, **kwargs)
        given.apply_defaults()
        return _bias_of_norm(**given.arguments)
    name = getattr(func, "__name__", "")
    if name in SUMS | DIFFERENCES and len(args) == 2:
        return _constant(name, *args, alpha=kwargs.get("alpha", 1))
    return None


def _bias_of_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    **_others: Any,
) -> Tensor | None:
    """Return β - γ μ/σ of a batch norm with fixed statistics."""
    if running_mean is None or running_var is None:
        return None
    shift = running_mean / (running_var + eps).sqrt()
    shift = -shift if weight is None else -shift * weight
    return _per_channel(shift if bias is None else shift + bias, input.ndim)


def _constant(name: str, left: Any, right: Any, alpha: float) -> Tensor | None:
    """Return what a sum adds to its operand in the graph, if the other one is a constant."""
    follows = [isinstance(side, Tensor) and side.requires_grad for side in (left, right)]
    sign = -1 if name in DIFFERENCES else 1
    if follows == [True, False]:
        tensor, constant, factor = left, right, sign * alpha
    elif follows == [False, True]:
        tensor, constant, factor = right, left, 1
    else:
        return None
    return factor * torch.as_tensor(constant, dtype=tensor.dtype, device=tensor.device).clone()


def _bias_of_bend(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor | None:
    """Return σ(z) - σ'(z) z of a function of each number of one tensor z in the graph, or None."""
    follows = [isinstance(one, Tensor) and one.requires_grad for one in args]
    if sum(follows) != 1 or any(
        isinstance(one, Tensor) and one.requires_grad for one in kwargs.values()
    ):
        return None
    place = follows.index(True)
    leaf = args[place].detach().clone().requires_grad_()
    given = [leaf.clone() if i == place else one for i, one in enumerate(args)]
    found = func(*given, **kwargs)
    if not isinstance(found, Tensor) or found.shape != leaf.shape:
        return None
    (slope,) = torch.autograd.grad(found.sum(), leaf)
    bias = found.detach() - slope * leaf.detach()
    return bias if bool(bias.any()) else None


def _per_channel(bias: Tensor, ndim: int) -> Tensor:
    """Shape (C,) to (C, 1, …), for features of `ndim` axes (m, C, *s)."""
    return bias.view(-1, *[1] * (ndim - 2))
