"""Watching an unknown network run once, to find its last spatial features."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from octoscope.errors import OctoscopeError
from octoscope.models.borrow import borrowed
from octoscope.models.layout import read_layout
from octoscope.models.output import described


def probe_layer(model: nn.Module, images: Tensor) -> tuple[str, nn.Module]:
    """Find the last layer with more than one position on which the logits depend.

    One image runs with its whole graph kept, and the gradient of the logits with respect to every
    candidate's output tells which ones matter: of a transformer whose class token is pooled, for
    example, no output after the last attention does.

    Args:
        model: Any classifier.
        images: (B, C, *S); the first is used.

    Returns:
        The layer's qualified name in the eager model, and the module.

    Raises:
        OctoscopeError: If there is none.
    """
    size = tuple(images.shape[2:])
    with borrowed(model) as module:
        names = {part: name for name, part in module.named_modules() if name}
        seen = _gradients(module, list(names), as_the_model_takes(module, images[:1]))
        tokens = {gradient.shape[1] for _, gradient in seen if gradient.ndim == 3}
        for part, gradient in reversed(seen):
            if len(gradient) != 1 or (gradient.ndim == 4 and gradient.shape[2] in tokens):
                continue  # no row per image, or (B, heads, N, ·) inside an attention
            try:
                layer = read_layout(module, names[part], part, gradient.shape, size)
            except OctoscopeError:
                continue
            if _used_positions(layer.maps(gradient)) > 1:
                return names[part], part
    raise OctoscopeError(
        f"{type(module).__name__} has no layer with spatial features before its logits; "
        "pass layer= a layer whose output is (B, C, *S), (B, *S, C) or (B, tokens, C)"
    )


def _gradients(
    module: nn.Module, parts: list[nn.Module], image: Tensor
) -> list[tuple[nn.Module, Tensor]]:
    """Return, in order, the parts that ran once and the gradient of the logits at their output."""
    seen: list[tuple[nn.Module, Tensor]] = []

    def watch(part: nn.Module, _inputs: Any, output: Any) -> Any:
        if isinstance(output, Tensor) and not torch.is_grad_enabled():
            torch.set_grad_enabled(True)  # the model runs its backbone under its own no_grad
            output = output.detach().requires_grad_()
        if isinstance(output, Tensor) and output.requires_grad:
            seen.append((part, output))
            return output.clone()  # what follows may write into its input
        return None

    hooks = [part.register_forward_hook(watch) for part in parts]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            leaf = image.clone().requires_grad_()
            logits = logits_of(module(leaf.clone()))  # which may be written into
            ranks = torch.arange(1, logits.shape[1] + 1, device=logits.device)
            score = (logits * ranks).sum()  # no two classes cancel
            outputs = [output for _, output in seen]
            grads = torch.autograd.grad(score, outputs, allow_unused=True) if outputs else ()
    finally:
        for hook in hooks:
            hook.remove()
    runs = Counter(part for part, _ in seen)
    return [
        (part, grad)
        for (part, _), grad in zip(seen, grads, strict=True)
        if grad is not None and runs[part] == 1
    ]


def _used_positions(gradient: Tensor) -> int:
    """Count the positions of (1, C, *grid) where the gradient is not zero."""
    return int(gradient.ne(0).any(dim=1).sum())


def as_the_model_takes(module: nn.Module, images: Tensor) -> Tensor:
    """Move images to the device and floating type of the first parameter, out of inference mode."""
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), images.dtype)
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    with torch.inference_mode(False):
        if images.is_inference():
            images = images.clone()  # an inference tensor may not be saved for a backward
        return images.detach().to(device, dtype)


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
