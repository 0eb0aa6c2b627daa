"""Where an architecture keeps its last spatial features.

`find_layer` answers from attributes alone (`octoscope.models.rules`); what it says is confirmed,
and networks that no rule knows are explored, by one run on noise (`octoscope.models.choice`). The
layout of the layer's output is then read from its actual shape and from that run
(`octoscope.models.layout`), so any image size works.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.models.borrow import borrowed, eager
from octoscope.models.choice import owner_of, require_rows
from octoscope.models.finding import found_in
from octoscope.models.layout import TargetLayer, read_layout
from octoscope.models.probe import as_the_model_takes, first_tensor
from octoscope.models.rules import candidates
from octoscope.models.view import counterpart


def resolve_target(
    model: nn.Module, images: Tensor, layer: str | nn.Module | TargetLayer | None = None
) -> TargetLayer:
    """Find the layer to explain and the layout of its output, by running the first image.

    Args:
        model: Any classifier, also a `Classifier`, compiled or ``DataParallel``.
        images: (B, C, *S) in the model's own range.
        layer: A name, module or complete `TargetLayer` to take instead of the family's.

    Returns:
        The layer with kind, grid and prefix tokens.

    Raises:
        OctoscopeError: If there is no such layer, it does not run, or its output is no map.
    """
    if isinstance(layer, TargetLayer):
        return layer
    name, module = choose_layer(model, images, layer)
    seen: list[Tensor] = []
    with borrowed(model) as lent, torch.no_grad():
        watched = counterpart(lent, module)
        hook = watched.register_forward_hook(lambda _m, _i, out: seen.append(first_tensor(out)))
        try:
            lent(as_the_model_takes(lent, images[:1]).clone())
        finally:
            hook.remove()
    if not seen:
        raise OctoscopeError(f"layer {name} does not run in the model's forward pass")
    return layout_of(model, name, module, seen[-1].shape, images[:1])


def choose_layer(
    model: nn.Module, images: Tensor, layer: str | nn.Module | None = None
) -> tuple[str, nn.Module]:
    """Find the layer to explain: the one given, or the last that everything goes through.

    Args:
        model: Any classifier.
        images: (B, C, *S), of which only the shape matters.
        layer: A name or module to take.

    Returns:
        Its qualified name in the eager model, and the module.

    Raises:
        OctoscopeError: If there is none, with the reason.
    """
    if layer is not None:
        return named_layer(model, layer)
    finding = found_in(model, images)
    if not finding.layer:
        raise OctoscopeError(finding.reason)
    return finding.layer, eager(model).get_submodule(finding.layer)


def layout_of(
    model: nn.Module, name: str, module: nn.Module, shape: Sequence[int], images: Tensor
) -> TargetLayer:
    """Read the layout of a layer of `model` from the shape of its output for images (b, C, *S).

    Raises:
        OctoscopeError: If it cannot be read as maps, one row per image.
    """
    require_rows(name, tuple(shape), len(images))
    patches = found_in(model, images).patches if len(shape) == 3 else None
    network, size = owner_of(eager(model), name), tuple(images.shape[2:])
    return read_layout(network, name, module, shape, size, patches)


def named_layer(model: nn.Module, layer: str | nn.Module) -> tuple[str, nn.Module]:
    """Find a layer by its name, or the name of a layer.

    Raises:
        OctoscopeError: If it is not a part of the model.
    """
    names = {part: name for name, part in eager(model).named_modules()}
    if isinstance(layer, nn.Module):
        if layer not in names:
            raise OctoscopeError(
                f"the layer given ({type(layer).__name__}) is no part of the model"
            )
        return names[layer], layer
    for part, name in names.items():
        if name == layer:
            return name, part
    raise OctoscopeError(
        f'the model has no layer "{layer}"{did_you_mean(layer, names.values())}; '
        "model.named_modules() lists them"
    )


def find_layer(model: nn.Module) -> tuple[str, nn.Module] | None:
    """Name the layer that rules know of a network, without running it.

    Returns:
        Its qualified name in the eager model and the module, or None if no rule knows the network.
    """
    first = next(candidates(eager(model)), None)
    return None if first is None else (first.name, first.module)
