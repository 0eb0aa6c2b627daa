"""What an architecture may ask for: options that are plain words and numbers, and a bounded size.

Options come from files of others. timm takes some that open files, fetch from the network or call
what they are given; those are never options here. A network is built on the meta device under a
count of its modules and parameters first, so that one that asks for too many ends at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules import module as registration

from octoscope.errors import OctoscopeError
from octoscope.options.hints import said

RESERVED = frozenset(
    {
        *("num_classes", "in_chans", "img_size", "device", "dtype", "pruned", "cache_dir"),
        *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_model_args"),
        *("pretrained_strict", "pretrained_filter_fn", "pretrained_custom_load", "weights"),
        *("checkpoint_path", "scriptable", "exportable", "no_jit", "kwargs_filter", "variant"),
        *("features_only", "out_indices", "feature_cls", "feature_cfg", "feature_filter_fn"),
        *("model_cls", "model_cfg", "model_name", "name", "in_channels", "image_size", "seed"),
    }
)
"""What timm's factory or ours takes beside an architecture's options; set by us or not at all."""

WORD = re.compile(r"[A-Za-z0-9_+-]{0,64}")
LARGEST_NUMBER = 2**14
"""No option of timm's architectures is larger. So many blocks are counted within a second."""
LONGEST_LIST = 1000
MOST_TENSORS = 8_000
"""Of a network; the largest of timm have some 3,000."""
MOST_PARAMETERS = 20 * 10**9


class TooLargeError(OctoscopeError):
    """An architecture that asks for more modules or parameters than it may have."""


def require_options(name: str, options: Mapping[str, Any]) -> None:
    """Check that options are an architecture's own, and plain: words, numbers, or lists of them.

    Raises:
        OctoscopeError: If one is not.
    """
    for key, value in options.items():
        if key in RESERVED or key.startswith("_"):
            raise OctoscopeError(
                f'"{key[:80]}" is no option of {name}; it follows from the classes, the channels, '
                "the framing and the weights"
            )
        _require_simple(name, key, value)


def _require_simple(name: str, key: str, value: Any) -> None:
    """Check one option; the numbers of a list count together, as blocks in stages do."""
    total, left = 0.0, [value]
    for count in range(LONGEST_LIST + 1):
        if not left:
            return
        item = left.pop()
        if isinstance(item, list | tuple):
            left += item
            good = True
        elif isinstance(item, str):
            good = bool(WORD.fullmatch(item))
        elif isinstance(item, int | float):
            total += abs(item)
            good = total <= LARGEST_NUMBER
        else:
            good = item is None
        if not good or count == LONGEST_LIST:
            raise OctoscopeError(
                f"option {key[:80]} of {name} is {said(value)}; use a number, a text, or a list of "
                f"them: numbers up to {LARGEST_NUMBER}, and texts that are plain words"
            )


@contextmanager
def counted(tensors: int = MOST_TENSORS, parameters: int = MOST_PARAMETERS) -> Iterator[None]:
    """End the building of a network that asks for more than this.

    Args:
        tensors: Most parameters and buffers, each a tensor; of modules, four times as many.
        parameters: Most numbers in them.

    Raises:
        TooLargeError: As soon as there are more.
    """
    left = {"modules": 4 * tensors + 100, "tensors": tensors, "parameters": parameters}

    def count(kind: str, number: int) -> None:
        left[kind] -= number
        if left[kind] < 0:
            raise TooLargeError(f"it asks for more {kind} than there may be")

    def add_tensor(module: nn.Module, name: str, tensor: Any) -> None:
        if tensor is not None:
            count("tensors", 1)
            count("parameters", tensor.numel())

    def add_module(module: nn.Module, name: str, child: Any) -> None:
        count("modules", 1)

    hooks = (
        registration.register_module_parameter_registration_hook(add_tensor),
        registration.register_module_module_registration_hook(add_module),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
