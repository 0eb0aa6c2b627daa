"""What families call the layer with their last spatial features.

No table of model names and no numbers, but rules about what families call their parts, each tried
on the network and on every part of it, so that what wraps a network does not matter. A rule
answers from attributes alone; whether its answer is true, only a run of the network tells
(`octoscope.models.choice`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

Standing = Literal["last", "stated", "norm", "block"]
"""What else must hold: ``"last"`` no convolution follows; ``"stated"`` none outside of the network,
which itself says that these are its features; ``"norm"`` it is the first norm of a block, after
which no block follows; ``"block"`` it is a block, and at most one more follows."""

FIRST_NORMS = ("norm1", "ln_1")
"""What transformer blocks call the norm before their attention, or before what stands for it."""


@dataclass(frozen=True)
class Candidate:
    """A layer that a rule names.

    Attributes:
        name: Its qualified name in the eager model.
        module: The layer.
        network: Qualified name of the network that the rule was tried on; empty for the model.
        standing: What must hold for it.
    """

    name: str
    module: nn.Module
    network: str
    standing: Standing


def candidates(model: nn.Module) -> Iterator[Candidate]:
    """Yield the layers that rules name, outer networks before inner ones, without running any.

    Args:
        model: An eager module.
    """
    names = {part: name for name, part in model.named_modules()}
    seen = set()
    for part, path in names.items():
        for rule, standing in RULES:
            found = rule(part)
            if found is None or found not in names or found in seen:
                continue
            seen.add(found)
            is_norm = standing == "norm" and names[found].rpartition(".")[2] in FIRST_NORMS
            kind: Standing = "block" if standing == "norm" and not is_norm else standing
            yield Candidate(names[found], found, path, kind)


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
    return _of_tokens(getattr(last, "norm1", None))


def _encoder_norm(network: nn.Module) -> nn.Module | None:
    """The ViT of torchvision: the same norm by its own name."""
    last = _last(getattr(getattr(network, "encoder", None), "layers", None))
    return _of_tokens(getattr(last, "ln_1", None))


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


RULES: tuple[tuple[Callable[[nn.Module], nn.Module | None], Standing], ...] = (
    (_before_class_attention, "stated"),
    (_last_block_norm, "norm"),
    (_encoder_norm, "norm"),
    (_channels_last_norm, "last"),
    (_after_the_stages, "last"),
    (_last_stage, "stated"),
    (_fourth_layer, "last"),
)


def _of_tokens(norm: object) -> nn.Module | None:
    """Return a norm unless it is one of planes: CNNs call what follows a convolution the same."""
    planes = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm)
    if not isinstance(norm, nn.Module) or isinstance(norm, planes):
        return None
    return None if type(norm).__name__.endswith(("2d", "3d")) else norm


def _convolves(part: object) -> bool:
    """Say whether this is a module with a convolution: others use these names for their heads."""
    convolutions = (nn.Conv2d, nn.Conv3d)
    return isinstance(part, nn.Module) and any(isinstance(p, convolutions) for p in part.modules())


def _last(blocks: object) -> nn.Module | None:
    sequence = isinstance(blocks, nn.Sequential | nn.ModuleList) and len(blocks) > 0
    return blocks[-1] if sequence else None  # type: ignore[index]
