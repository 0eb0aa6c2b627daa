"""Linear layers on a CPU by the kernels of convolutions, which are quicker on some processors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

LEAST_ROWS = 64
"""Rows below which preparing a convolution takes longer than the product."""


class quick_linear(TorchFunctionMode):
    """A context in which ``F.linear`` in float32 on a CPU runs as a convolution of width 1.

    y = x Wᵀ + b is the same sum either way, and no memory is copied for it, unless x is not
    contiguous. PyTorch leaves matrix products to MKL, which does not use AVX-512 on processors that
    are not Intel's; convolutions go to oneDNN, which does: there, transformers run nearly twice as
    fast.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one function of torch; see `TorchFunctionMode`."""
        if func is F.linear and _suits(*args, **(kwargs or {})):
            return _convolved(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _suits(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Say whether a product is one that convolutions do better."""
    return (
        type(input) is Tensor
        and input.device.type == "cpu"
        and input.dtype == weight.dtype == torch.float32
        and weight.ndim == 2
        and weight.is_contiguous()
        and input.numel() >= LEAST_ROWS * weight.shape[1]
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    )


def _convolved(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the product, (..., D) to (..., D'): rows stand where pixels stand in an image."""
    depth = input.shape[-1]
    image = input.reshape(1, 1, -1, depth).permute(0, 3, 1, 2)  # (1, D, 1, rows), channels last
    out = F.conv2d(image, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*input.shape[:-1], len(weight))
