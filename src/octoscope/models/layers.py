"""Where an architecture keeps its last spatial features.

`find_layer` answers from attributes alone: no table of model names and no numbers, but rules about
what families call their parts, each tried on the network and on what it wraps. A network that no
rule knows is run once and watched (`octoscope.models.probe`). The layout of the layer's output is
then read from its actual shape (`octoscope.models.layout`), so any image size works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.models.borrow import borrowed, eager
from octoscope.models.layout import TargetLayer, read_layout
from octoscope.models.probe import as_the_model_takes, first_tensor, probe_layer
from octoscope.models.view import counterpart

Rule = Callable[[nn.Module], nn.Module | None]


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
    name, module = find_layer(model, layer) or probe_layer(model, images)
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
    return layout_of(model, name, module, seen[-1].shape, images[:1].shape)


def layout_of(
    model: nn.Module,
    name: str,
    module: nn.Module,
    shape: Sequence[int],
    images: Sequence[int],
) -> TargetLayer:
    """Read the layout of a layer of `model` from the shapes of its output and of the images.

    Raises:
        OctoscopeError: If it cannot be read as maps, one row per image.
    """
    if shape[0] != images[0]:
        raise OctoscopeError(
            f"layer {name} gives {shape[0]} rows for {images[0]} images; pass layer= one that "
            "keeps a row per image"
        )
    return read_layout(_owner(eager(model), module), name, module, shape, tuple(images[2:]))


def find_layer(
    model: nn.Module, layer: str | nn.Module | None = None
) -> tuple[str, nn.Module] | None:
    """Find the layer to explain without running the model.

    Args:
        model: Any module.
        layer: A name or module to take; None for the family's own.

    Returns:
        Its qualified name in the eager model and the module, or None if no rule knows the network.

    Raises:
        OctoscopeError: If `layer` is not a part of the model.
    """
    module = eager(model)
    names = {part: name for name, part in module.named_modules(remove_duplicate=True)}
    if isinstance(layer, nn.Module):
        if layer not in names:
            raise OctoscopeError(
                f"the layer given ({type(layer).__name__}) is no part of the model"
            )
        return names[layer], layer
    if layer is not None:
        for part, name in names.items():
            if name == layer:
                return name, part
        raise OctoscopeError(
            f'the model has no layer "{layer}"{did_you_mean(layer, names.values())}; '
            "model.named_modules() lists them"
        )
    for network in unwrapped(module):
        for rule in RULES:
            found = rule(network)
            if found is not None and found in names:
                return names[found], found
    return None


def unwrapped(module: nn.Module) -> list[nn.Module]:
    """Return the module and, while a single child holds all parameters, that child in turn."""
    chain = [module]
    while True:
        children = [
            child for child in chain[-1].children() if any(True for _ in child.parameters())
        ]
        own = any(True for _ in chain[-1].parameters(recurse=False))
        if own or len(children) != 1:
            return chain
        chain.append(eager(children[0]))


def _owner(module: nn.Module, part: nn.Module) -> nn.Module:
    """Return the innermost unwrapped network that contains `part`."""
    owners = [net for net in unwrapped(module) if any(part is p for p in net.modules())]
    for net in reversed(owners):
        if hasattr(net, "patch_embed") or hasattr(net, "num_features"):
            return net
    return owners[-1] if owners else module


# The rules, most specific first. Each takes a network and returns its layer or None.


def _before_class_attention(network: nn.Module) -> nn.Module | None:
    """XCiT, CaiT: the class token joins after the patch blocks, whose output is the features."""
    joins = hasattr(network, "cls_attn_blocks") or hasattr(network, "blocks_token_only")
    return _last(getattr(network, "blocks", None)) if joins else None


def _last_block_norm(network: nn.Module) -> nn.Module | None:
    """ViT, DeiT, DINO, SigLIP, BEiT, EVA, Mixer: the first norm of the last block.

    Its output feeds the last token mixing. The block's output would not do: when the class token
    is pooled, the logits have no gradient there at the patches. Blocks that normalise after
    attention, or do both at once, have no such norm; the output of the block before stands for it.
    """
    blocks = getattr(network, "blocks", None)
    last = _last(blocks)
    if any(order in type(last).__name__ for order in ("Post", "Parallel")):
        return _last(blocks[:-1])  # type: ignore[index]
    norm = getattr(last, "norm1", None)
    return norm if isinstance(norm, nn.Module) else None


def _encoder_norm(network: nn.Module) -> nn.Module | None:
    """The ViT of torchvision: the same norm by its own name."""
    last = _last(getattr(getattr(network, "encoder", None), "layers", None))
    norm = getattr(last, "ln_1", None)
    return norm if isinstance(norm, nn.Module) else None


def _channels_last_norm(network: nn.Module) -> nn.Module | None:
    """Swin, SwinV2: the norm after the last stage."""
    if getattr(network, "output_fmt", None) != "NHWC":
        return None
    norm = getattr(network, "norm", None)
    return norm if isinstance(norm, nn.Module) and not isinstance(norm, nn.Identity) else None


def _after_the_stages(network: nn.Module) -> nn.Module | None:
    """HRNet, MobileViT, EfficientNet: what widens the last stage's features before pooling.

    EfficientNet's is ``bn2`` (with its activation) after ``conv_head``. MobileNetV3 has a
    ``conv_head`` too, but after pooling, and no ``bn2``.
    """
    for name in ("final_layer", "final_conv"):
        part = getattr(network, name, None)
        if _convolves(part):
            return part
    if hasattr(network, "conv_head"):
        part = getattr(network, "bn2", None)
        return part if isinstance(part, nn.Module) else None
    return None


def _last_stage(network: nn.Module) -> nn.Module | None:
    """What timm calls the last features; the end of their sequence, if they are in one.

    Not for networks with a class token, whose stages also carry it.
    """
    if isinstance(getattr(network, "cls_token", None), Tensor):
        return None
    info = getattr(network, "feature_info", None)
    info = getattr(info, "info", info)
    if not isinstance(info, list) or not info or not isinstance(info[-1], dict):
        return None
    path = str(info[-1].get("module", "")).split(".")
    try:
        part = network.get_submodule(".".join(path))
        container = network.get_submodule(".".join(path[:-1]))
    except AttributeError:
        return None
    if len(path) > 1 and isinstance(container, nn.Sequential | nn.ModuleList):
        return _last(container)
    return None if isinstance(part, nn.ModuleList) else part  # a list itself never runs


def _fourth_layer(network: nn.Module) -> nn.Module | None:
    """ResNets from elsewhere, also in 3-D."""
    part = getattr(network, "layer4", None)
    return part if _convolves(part) else None


RULES: tuple[Rule, ...] = (
    _before_class_attention,
    _last_block_norm,
    _encoder_norm,
    _channels_last_norm,
    _after_the_stages,
    _last_stage,
    _fourth_layer,
)


def _convolves(part: object) -> bool:
    """Say whether this is a module with a convolution: others use these names for their heads."""
    convolutions = (nn.Conv2d, nn.Conv3d)
    return isinstance(part, nn.Module) and any(isinstance(p, convolutions) for p in part.modules())


def _last(blocks: object) -> nn.Module | None:
    sequence = isinstance(blocks, nn.Sequential | nn.ModuleList) and len(blocks) > 0
    return blocks[-1] if sequence else None  # type: ignore[index]
