"""What passes a layer by: the output of the block before the layer's own."""

from __future__ import annotations

from torch import nn


def block_before(module: nn.Module, name: str) -> tuple[str, nn.Module] | None:
    """Find the block before that of a layer in a sequence of blocks, without running the model.

    In ``x + attention(norm1(x))`` the residual x passes the layer ``norm1`` by; x is what the block
    before gave. Whether it is all that passes by, only a trial tells
    (`octoscope.attribution.head.trial`).

    Args:
        module: The eager model.
        name: Qualified name of a layer, ``blocks.11.norm1``.

    Returns:
        Qualified name and module, ``blocks.10``; None if the layer is in no block of a sequence, or
        in its first.
    """
    path = name.split(".")
    for depth in range(len(path) - 1, 0, -1):  # from the innermost block that the layer is in
        parent, own = ".".join(path[: depth - 1]), path[depth - 1]
        blocks = module.get_submodule(parent)
        if not isinstance(blocks, nn.Sequential | nn.ModuleList):
            continue
        names = [key for key, _ in blocks.named_children()]
        place = names.index(own) if own in names else 0
        if place == 0:
            continue
        block, before = blocks.get_submodule(own), blocks.get_submodule(names[place - 1])
        if type(before) is type(block):
            return ".".join(filter(None, (parent, names[place - 1]))), before
    return None
