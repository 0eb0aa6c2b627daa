"""What goes into a model and what comes out of it and its layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from octoscope.errors import OctoscopeError
from octoscope.models.layout import say
from octoscope.models.output import described


def as_the_model_takes(module: nn.Module, images: Tensor) -> Tensor:
    """Move images to the device and floating type of the first parameter, out of inference mode."""
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), images.dtype)
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    with torch.inference_mode(False):
        if images.is_inference():
            images = images.clone()  # an inference tensor may not be saved for a backward
        return images.detach().to(device, dtype)


def noise_like(image: Tensor) -> Tensor:
    """Return noise from 0 to 1, always the same, whatever the image shows."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(image.shape, generator=generator, dtype=torch.float32)
    return noise.to(image.device, image.dtype)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return a tensor of half precision in float32, any other as it is."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def first_tensor(output: Any) -> Tensor:
    """Return a layer's output, or the first part of it that is a tensor.

    Raises:
        OctoscopeError: If there is none.
    """
    if isinstance(output, Tensor):
        return output
    for part in output if isinstance(output, tuple | list) else ():
        if isinstance(part, Tensor):
            return part
    raise OctoscopeError(
        f"the layer gives a {type(output).__name__} without a tensor; pass layer= another one"
    )


def with_first(output: Any, tensor: Tensor) -> Any:
    """Return a layer's output with its first tensor replaced."""
    if isinstance(output, Tensor):
        return tensor
    parts = list(output)
    parts[next(i for i, part in enumerate(parts) if isinstance(part, Tensor))] = tensor
    return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)


def logits_of(output: Any) -> Tensor:
    """Return the logits (B, K) of a model's output, which may carry them as ``.logits``.

    Raises:
        OctoscopeError: If there are none.
    """
    logits = getattr(output, "logits", output)
    if isinstance(logits, Tensor) and logits.ndim == 2:
        return logits
    raise OctoscopeError(
        f"the model gives {described(output)} instead of logits (B, K); "
        "say where they are with output=, or wrap the model"
    )


def refusal_of(module: nn.Module, images: Tensor, error: Exception) -> str | None:
    """Say in a sentence why a model could not run images, None if it is no fault of theirs."""
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    first = next((part for part in module.modules() if isinstance(part, convolutions)), None)
    channels = images.shape[1]
    if first is not None and first.in_channels != channels:
        return (
            f"the images have {channels} channels and the model takes {first.in_channels}; "
            "repeat or drop channels to fit"
        )
    if isinstance(error, AssertionError):  # how networks refuse the size of an image
        return f"the model refuses images of {say(images.shape[2:])}: {error}"
    return None
