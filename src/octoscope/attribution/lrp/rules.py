"""Rules of AttnLRP, attached to operations: values stay what they are, gradients do not.

With the ε-rule in the limit of no ε, relevance is input times gradient: R(x) = x ⊙ g(x), where g is
a gradient that some operations hand on in their own way (Achtibat et al., ICML 2024, Eq 7-9). So
one forward under `Rules`, and one ordinary backward, propagate relevance through everything:

- linear and convolutional layers, sums, means, cuts (Eq 8): the gradient.
- softmax s of x (Prop 3.1): R_i = x_i (R(s)_i - s_i Σ_j R(s)_j), which is x_i times the gradient.
- products of two things that both come from the image (Prop 3.3), A V, Q Kᵀ and a gate:
  R(A)_ji = A_ji Σ_p V_ip R(O)_jp / (2 O_jp), so each factor takes half of its gradient. V thus has
  a half; Q and K have a quarter, one half from A V and one from Q Kᵀ. A product with a constant is
  linear and keeps all.
- functions of one number, GELU and SiLU (Eq 9): R(x) = R(f(x)), so g(x) = g(f) f(x)/x. Both are x
  times a gate, Φ(x) and σ(x), and f(x)/x is that gate: nothing is divided, also not at 0.
- layer and RMS norm (Prop 3.4): the standard deviation is a constant; the rest is linear.

`Rules` watches the operations that PyTorch is asked for, so no module is changed, whatever happens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class Rules(TorchFunctionMode):
    """A context in which what is computed will be differentiated by the rules of AttnLRP.

    What does not require gradients counts as constant, so parameters must be frozen.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _RULES.get(func, func)(*args, **(kwargs or {}))


class _Halved(torch.autograd.Function):
    """The tensor itself, whose gradient is halved."""

    @staticmethod
    def forward(_ctx: Any, tensor: Tensor) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] / 2


def _shared(first: Any, second: Any) -> tuple[Any, Any]:
    """Halve the gradients of two factors, if neither is a constant."""
    if all(isinstance(one, Tensor) and one.requires_grad for one in (first, second)):
        return _Halved.apply(first), _Halved.apply(second)
    return first, second


def matmul(first: Tensor, second: Tensor) -> Tensor:
    """Return the matrix product; relevance is shared half and half (Prop 3.3)."""
    first, second = _shared(first, second)
    return first @ second


def multiply(first: Any, second: Any) -> Tensor:
    """Return the product, element by element; relevance is shared half and half (Prop 3.3)."""
    first, second = _shared(first, second)
    return first * second


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,  # the network is evaluating
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Return softmax(Q Kᵀ scale + mask) V by the rules of its parts; shapes (…, N, d).

    ``scaled_dot_product_attention`` does all at once, so its parts cannot be watched.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    logits = matmul(query * scale, key.mT)  # (…, N, N)
    if is_causal:
        attn_mask = torch.ones_like(logits[0, 0], dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        logits = logits.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        logits = logits + attn_mask
    return matmul(logits.softmax(-1), value)


def gelu(tensor: Tensor, approximate: str = "none") -> Tensor:
    """Return x Φ(x), of which Φ(x) is a constant."""
    x = tensor.detach()
    if approximate == "tanh":
        gate = (math.sqrt(8 / math.pi) * (x + 0.044715 * x**3)).sigmoid()
    else:
        gate = torch.special.ndtr(x)
    return tensor * gate


def silu(tensor: Tensor, inplace: bool = False) -> Tensor:
    """Return x σ(x), of which σ(x) is a constant."""
    return tensor * tensor.detach().sigmoid()


def sigmoid(tensor: Tensor) -> Tensor:
    """Return σ(x) as a constant: it is the gate of QuickGELU, x times σ(1.702 x)."""
    return tensor.detach().sigmoid()


def layer_norm(
    tensor: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_backend: bool,
) -> Tensor:
    """Return the layer norm, whose standard deviation is a constant."""
    axes = tuple(range(-len(normalized_shape), 0))
    centred = tensor - tensor.mean(axes, keepdim=True)
    variance = centred.detach().square().mean(axes, keepdim=True)
    return _affine(centred * (variance + eps).rsqrt(), weight, bias)


def rms_norm(
    tensor: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """Return the RMS norm, whose root mean square is a constant."""
    axes = tuple(range(-len(normalized_shape), 0))
    square = tensor.detach().square().mean(axes, keepdim=True)
    eps = torch.finfo(tensor.dtype).eps if eps is None else eps
    return _affine(tensor * (square + eps).rsqrt(), weight, None)


def _affine(tensor: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    tensor = tensor if weight is None else tensor * weight
    return tensor if bias is None else tensor + bias


_RULES: dict[Callable[..., Any], Callable[..., Any]] = {
    F.layer_norm: layer_norm,
    torch.layer_norm: layer_norm,
    F.rms_norm: rms_norm,
    torch.rms_norm: rms_norm,
    F.gelu: gelu,
    F.silu: silu,
    **dict.fromkeys((torch.sigmoid, Tensor.sigmoid, F.sigmoid), sigmoid),
    F.scaled_dot_product_attention: attention,
    **dict.fromkeys(
        (torch.matmul, torch.bmm, Tensor.matmul, Tensor.bmm, Tensor.__matmul__), matmul
    ),
    **dict.fromkeys((torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__), multiply),
}
