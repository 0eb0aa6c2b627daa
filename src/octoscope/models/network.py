"""Building any timm classifier by name, for one or three channels and any image size.

Every network is first built and run once on PyTorch's meta device, where tensors have shapes but
no numbers: that costs no memory, and a name, option or image size that cannot work is known, with
sizes that would, before anything is allocated.
"""

from __future__ import annotations

import inspect
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.models.bounds import RESERVED, TooLargeError, counted, require_options
from octoscope.models.pretrained import explained_loading, require_loaded, weights_from
from octoscope.models.sizes import STRIDES, Size, nearest_sizes, say

MOST_CLASSES = 10_000
LARGEST_SIDE = 2**14


def build_network(
    name: str,
    num_classes: int,
    *,
    in_channels: int = 1,
    image_size: Size = (224, 224),
    pretrained: bool = False,
    weights: Path | None = None,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """Build a classifier of the timm library.

    Args:
        name: A timm name such as ``resnet18``; with pretrained weights also ``resnet18.a1_in1k``.
        num_classes: K.
        in_channels: Channels C of the images, 1 or 3. Pretrained first layers are summed over
            colour for 1.
        image_size: Rows and columns H, W. Families that fix it (ViT, Swin, …) are built for it.
        pretrained: Load timm's weights, from the local cache or by download.
        weights: Or a ``.safetensors`` file of this architecture; its head is replaced if it was
            trained for another number of classes.
        seed: Seed of the random initial weights.
        options: The architecture's own, such as ``patch_size``, ``depth``, ``embed_dim``,
            ``num_heads``, ``drop_path_rate``: numbers, texts, or lists of them.

    Returns:
        The network, ``(B, C, H, W)`` to ``(B, K)``, on the CPU, in training mode.

    Raises:
        OctoscopeError: On an unknown name or option, an image size the architecture cannot take
            (the nearest ones that it can are named), or weights that cannot be had.
    """
    require_known(name)
    _require_arguments(num_classes, in_channels, image_size)
    require_options(name, options)
    shape = dict(num_classes=num_classes, in_chans=in_channels, **options)
    sized = _takes_image_size(name, shape, image_size)
    _dry_run(name, shape, image_size, sized)
    if sized:
        shape["img_size"] = image_size
    if weights is not None:
        shape.update(pretrained=True, pretrained_cfg_overlay=weights_from(weights))
        with explained_loading(name, weights):
            network, again = (_seeded(s, name, **shape) for s in (seed, seed + 1))
        require_loaded(network, again, weights, name)
        return network
    if pretrained:
        with explained_loading(name):
            return _seeded(seed, name, pretrained=True, **shape)
    return _seeded(seed, name, **shape)


def build_saved(
    name: str,
    num_classes: int,
    *,
    in_channels: int,
    image_size: Size,
    options: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
) -> nn.Module:
    """Build the network that a file of tensors belongs to, for its tensors to be loaded into.

    What the description asks for is compared with the file's tensors on the meta device first, so
    that one that asks for more than the file holds costs next to nothing.

    Args:
        name: A timm name.
        num_classes: K.
        in_channels: Channels C of the images, 1 or 3.
        image_size: Rows and columns H, W.
        options: The architecture's own.
        shapes: Name → shape of every tensor in the file.

    Returns:
        The network with random weights, on the CPU.

    Raises:
        OctoscopeError: On an unknown name or option, or if the network has other tensors.
    """
    require_known(name)
    _require_arguments(num_classes, in_channels, image_size)
    require_options(name, options)
    shape: dict[str, Any] = dict(num_classes=num_classes, in_chans=in_channels, **options)
    with counted(2 * len(shapes) + 100, 2 * sum(map(math.prod, shapes.values())) + 10**6):
        if _takes_image_size(name, shape, image_size):
            shape["img_size"] = image_size
        try:
            network = _on_meta(name, shape).eval()
        except TooLargeError as error:
            raise OctoscopeError(f"does not hold the weights of {name} ({error})") from None
        except Exception as error:  # a network may object in any way it likes
            raise OctoscopeError(f"{name} cannot be built ({_first_sentence(error)})") from None
    state = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    for key in sorted(state.keys() | shapes.keys()):
        if state.get(key) != shapes.get(key):
            has, asked = (say(s[key]) or "one number" if key in s else "none"
                          for s in (shapes, state))  # fmt: skip
            raise OctoscopeError(
                f"does not hold the weights of {name} (of {key[:80]}, {asked} is asked for and "
                f"{has} is there)"
            )
    if reason := _misfit(network, shape, image_size):
        raise OctoscopeError(f"{name} cannot take images of {say(image_size)} ({reason})")
    return _seeded(0, name, **shape)


def count_parameters(network: nn.Module) -> tuple[int, int]:
    """Return the numbers of all and of the trainable parameters."""
    counts = [(p.numel(), p.numel() * p.requires_grad) for p in network.parameters()]
    return sum(c for c, _ in counts), sum(t for _, t in counts)


def require_known(name: str) -> None:
    """Check that timm has an architecture of this name.

    Raises:
        OctoscopeError: If not, with the nearest name.
    """
    if ":" in name or "/" in name or not timm.is_model(name):
        raise OctoscopeError(
            f'model "{name}" is not known{did_you_mean(name, timm.list_models())}; use a name of '
            "the timm library (timm.list_models() lists them)"
        )


def _require_arguments(num_classes: int, in_channels: int, image_size: Size) -> None:
    if not 2 <= num_classes <= MOST_CLASSES:
        raise OctoscopeError(
            f"a classifier needs at least 2 classes, and at most {MOST_CLASSES}, not {num_classes}"
        )
    if in_channels not in (1, 3):
        raise OctoscopeError(f"a network takes 1 or 3 channels, not {in_channels}")
    if min(image_size) < 1 or max(image_size) > LARGEST_SIDE:
        raise OctoscopeError(
            f"image size {say(image_size)} is empty or too large; use 1×1 to "
            f"{LARGEST_SIDE}×{LARGEST_SIDE}"
        )


def _takes_image_size(name: str, shape: Mapping[str, Any], image_size: Size) -> bool:
    """Say whether the architecture is built for one image size, by offering it.

    Raises:
        OctoscopeError: If it refuses one of the other options by name.
    """
    try:
        _on_meta(name, {**shape, "img_size": image_size})
    except TypeError as refusal:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(refusal))
        if unknown is None:
            return True  # something else is wrong, which the dry run will explain
        if unknown[1] == "img_size":
            return False
        raise OctoscopeError(
            f'{name} has no option "{unknown[1]}"{did_you_mean(unknown[1], _known_options(name))}; '
            f"known are {', '.join(_known_options(name))}"
        ) from None
    except Exception:
        return True  # it took the size, and the dry run will say what is wrong with it
    return True


def _known_options(name: str) -> list[str]:
    """Return the names of the options that an architecture's class takes."""
    parameters = inspect.signature(type(_on_meta(name, {})).__init__).parameters
    return sorted(set(parameters) - RESERVED - {"self", "kwargs", "cfg"})


def _seeded(seed: int, name: str, **arguments: Any) -> nn.Module:
    """Build with random weights that follow from `seed` alone, leaving the global state be."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm.create_model(name, **arguments)


def _on_meta(name: str, shape: Mapping[str, Any]) -> nn.Module:
    with torch.device("meta"), counted(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters of them, the dry run finds out
        return timm.create_model(name, **shape)


def _dry_run(name: str, shape: Mapping[str, Any], size: Size, sized: bool) -> None:
    """Build and run the network without numbers.

    Raises:
        OctoscopeError: If that fails, or does not give one logit per class.
    """
    reason = _try_out(name, shape, size, sized)
    if reason is None:
        return
    strides = tuple(_sides(shape.get("patch_size"))) + STRIDES
    near = nearest_sizes(lambda s: _try_out(name, shape, s, sized) is None, size, strides)
    if near:
        raise OctoscopeError(
            f"{name} cannot take images of {say(size)} ({reason}); sizes near it that fit: "
            f"{' or '.join(map(say, near))}"
        )
    given = {k: v for k, v in shape.items() if k not in ("num_classes", "in_chans")}
    with_options = f" with {', '.join(f'{k}={v}' for k, v in given.items())}" if given else ""
    raise OctoscopeError(
        f"{name} cannot be built as a classifier of {say(size)} images{with_options} ({reason}); "
        "choose other options or another model"
    )


def _try_out(name: str, shape: Mapping[str, Any], size: Size, sized: bool) -> str | None:
    """Return why the network cannot be built for `size` or run on it, None if it can."""
    try:
        network = _on_meta(name, {**shape, "img_size": size} if sized else shape).eval()
    except Exception as error:  # a network may object in any way it likes
        return _first_sentence(error)
    return _misfit(network, shape, size)


def _misfit(network: nn.Module, shape: Mapping[str, Any], size: Size) -> str | None:
    """Return why a network on the meta device cannot be run on images of `size`, None if it can."""
    try:
        if cut := _cut_by_patches(network, size):
            return cut
        with torch.inference_mode():
            logits = network(torch.empty(1, shape["in_chans"], *size, device="meta"))
    except Exception as error:
        return _first_sentence(error)
    if isinstance(logits, torch.Tensor) and logits.shape == (1, shape["num_classes"]):
        return None
    return "it gives features, not one logit per class"


def _cut_by_patches(network: nn.Module, size: Size) -> str | None:
    """Say how many rows and columns would silently fall off the grid of patches, if any."""
    embed = getattr(network, "patch_embed", None)
    patches = getattr(embed, "proj", None)
    if (
        not isinstance(patches, nn.Conv2d)
        or patches.kernel_size != patches.stride
        or any(patches.padding)
        or getattr(embed, "dynamic_img_pad", False)
    ):
        return None
    left = [side % step for side, step in zip(size, patches.stride, strict=True)]
    if not any(left):
        return None
    return f"patches of {say(patches.stride)} would leave out {left[0]} rows, {left[1]} columns"


def _sides(patch_size: Any) -> list[int]:
    """Return the sides of a patch given as a number or a list of them."""
    sides = patch_size if isinstance(patch_size, list | tuple) else [patch_size]
    return sorted({side for side in sides if isinstance(side, int) and side > 0})


def _first_sentence(error: Exception) -> str:
    """Return an error's first sentence without its full stop; its kind if it says none."""
    lines = str(error).strip().splitlines() or [""]
    sentence = lines[0].split(". ")[0].rstrip(".") or type(error).__name__
    return sentence if len(sentence) <= 160 else sentence[:159] + "…"
