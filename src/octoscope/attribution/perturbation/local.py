"""What computes each position from those around it, by the kind of the operation.

A network is tried on a few images, on which what looks everywhere may look at nothing (a gate that
is shut, say). So what is not known to be local counts as not local.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

POSITIONWISE = frozenset(
    (
        # one number at a time
        "relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "gelu", "silu", "mish", "elu",
        "selu", "celu", "leaky_relu", "prelu", "rrelu", "softplus", "sigmoid", "tanh", "threshold",
        "clamp", "clamp_min", "clamp_max", "clip", "abs", "neg", "exp", "log", "sqrt", "rsqrt",
        "pow", "square", "erf", "dropout", "dropout1d", "dropout2d", "dropout3d",
        "feature_dropout", "alpha_dropout", "feature_alpha_dropout",
        # numbers at the same position
        "add", "sub", "mul", "div", "true_divide", "maximum", "minimum", "where", "lerp", "addcmul",
        "radd", "rsub", "rmul", "rdiv", "rtruediv", "truediv", "iadd", "isub", "imul", "itruediv",
        "gt", "ge", "lt", "le",
        # channels at the same position
        "linear", "layer_norm", "rms_norm", "batch_norm",
        # another order of axes, or none
        "permute", "movedim", "transpose", "clone", "contiguous", "detach", "to", "float", "type",
        "type_as", "half", "double", "bfloat16", "expand_as",
        # questions
        "get", "size", "dim", "ndimension", "numel", "stride", "is_floating_point", "is_complex",
        "is_contiguous", "element_size", "len", "has_names", "get_device", "assert",
    )
)  # fmt: skip
NEIGHBOURS = frozenset(
    (
        "conv1d", "conv2d", "conv3d", "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d",
        "avg_pool2d", "avg_pool3d", "max_pool1d_with_indices", "max_pool2d_with_indices",
        "max_pool3d_with_indices",
    )
)  # fmt: skip
"""What looks as far around as its kernel reaches."""
OF_CHANNELS = frozenset(("mean", "sum", "var", "std", "var_mean", "amax", "norm", "softmax"))
"""What is local if it goes over channels alone."""
PARTS_OF_CHANNELS = frozenset(("cat", "concat", "chunk", "split", "tensor_split", "unbind"))
"""What is local if it takes channels apart or puts them together."""
PADS = ("constant", "reflect", "replicate")
"""Padding that comes from within a kernel's reach; the circular one comes from the other side."""


class Watched(TorchFunctionMode):
    """A context that notes whether all that is computed in it is known to be local.

    Attributes:
        local: Whether it is so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.local = True

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one function of torch; see `TorchFunctionMode`."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").strip("_")
        self.local = self.local and _is_local(name, args, kwargs)
        return func(*args, **kwargs)


def _is_local(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if name == "batch_norm":
        return not kwargs.get("training", args[5] if len(args) > 5 else False)
    if name in POSITIONWISE or name in NEIGHBOURS:
        return True
    if name in OF_CHANNELS:
        return kwargs.get("dim", args[1] if len(args) > 1 else None) in (1, (1,), [1])
    if name in PARTS_OF_CHANNELS:
        place = 1 if name in ("cat", "concat", "unbind") else 2
        return kwargs.get("dim", args[place] if len(args) > place else 0) in (1, -3)
    if name == "pad":
        return kwargs.get("mode", args[2] if len(args) > 2 else "constant") in PADS
    return name == "getitem" and _takes_channels(args[1])


def _takes_channels(index: Any) -> bool:
    """Say whether an index takes all images and positions; ``x[:, a:b]``."""
    whole = slice(None)
    if not isinstance(index, tuple) or len(index) < 2 or isinstance(index[1], Tensor):
        return False
    return index[0] == whole and all(one is Ellipsis or one == whole for one in index[2:])
