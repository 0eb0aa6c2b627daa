"""Reading an activation as maps: which axis holds channels, which tokens are patches, on what grid.

Three layouts exist: ``"nchw"`` (B, C, *grid), ``"nhwc"`` (B, *grid, C) and ``"tokens"``
(B, prefix + N, C) where the N patch tokens fill the grid in raster order after `prefix` class,
distillation and register tokens. Whatever the layout, `TargetLayer.maps` gives (B, C, *grid).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, log, prod
from typing import Literal

from torch import Tensor, nn

from octoscope.errors import OctoscopeError

Kind = Literal["nchw", "nhwc", "tokens"]
Grid = tuple[int, ...]

REMEDY = "pass layer= another layer, or a TargetLayer that states its kind, grid and prefix_tokens"


@dataclass(frozen=True)
class TargetLayer:
    """A layer whose output is read as maps.

    Attributes:
        name: Its qualified name in the (eager) model, such as ``blocks.11.norm1``.
        module: The module itself.
        kind: The layout of its output; with volumes ``"nchw"`` stands for (B, C, Z, H, W) too.
        grid: Positions per spatial axis *s.
        prefix_tokens: Tokens before the first patch token (``"tokens"`` only).
    """

    name: str
    module: nn.Module
    kind: Kind
    grid: Grid
    prefix_tokens: int = 0

    def maps(self, tensor: Tensor) -> Tensor:
        """View an activation, or its gradient, as maps.

        Args:
            tensor: (B, C, *grid), (B, *grid, C) or (B, prefix + N, C), as `kind` says.

        Returns:
            (B, C, *grid), without a copy.

        Raises:
            OctoscopeError: If the tensor is not of this layout.
        """
        if tensor.ndim != self._ndim() or self._positions(tensor) != self.grid:
            raise OctoscopeError(
                f"layer {self.name} gives {tuple(tensor.shape)}, which is not {self.kind} on a "
                f"grid of {say(self.grid)} with {self.prefix_tokens} prefix tokens; {REMEDY}"
            )
        if self.kind == "nchw":
            return tensor
        if self.kind == "nhwc":
            return tensor.movedim(-1, 1)
        patches = tensor[:, self.prefix_tokens :]  # (B, N, C)
        return patches.mT.unflatten(-1, self.grid)  # (B, C, *grid)

    def _ndim(self) -> int:
        return 3 if self.kind == "tokens" else 2 + len(self.grid)

    def _positions(self, tensor: Tensor) -> Grid:
        if self.kind == "nchw":
            return tuple(tensor.shape[2:])
        if self.kind == "nhwc":
            return tuple(tensor.shape[1:-1])
        return self.grid if tensor.shape[1] == self.prefix_tokens + prod(self.grid) else ()


def read_layout(
    network: nn.Module, name: str, module: nn.Module, shape: Sequence[int], size: Grid
) -> TargetLayer:
    """Tell the layout of a layer's output from its shape and what the network says of itself.

    Args:
        network: The network that the layer belongs to, whose attributes (``patch_embed``,
            ``num_prefix_tokens``, ``num_features``, ``output_fmt``) settle what shapes leave open.
        name: Name of the layer, for messages.
        module: The layer.
        shape: Shape of its output.
        size: *S of the images.

    Raises:
        OctoscopeError: If the output has no spatial axes, one position only, or a number of tokens
            that equals no prefix plus grid.
    """
    if len(shape) == 2 + len(size):
        layer = _channel_layout(network, name, module, shape, size)
    elif len(shape) == 3:
        layer = _token_layout(network, name, module, shape[1], size)
    else:
        raise OctoscopeError(
            f"layer {name} gives {tuple(shape)} for images of {say(size)}, which has no "
            f"{len(size)} spatial axes; {REMEDY}"
        )
    if prod(layer.grid) < 2:
        raise OctoscopeError(
            f"layer {name} has a single position for images of {say(size)}, so a map of it says "
            "nothing; use larger images or pass layer= an earlier layer"
        )
    return layer


def _channel_layout(
    network: nn.Module, name: str, module: nn.Module, shape: Sequence[int], size: Grid
) -> TargetLayer:
    first = TargetLayer(name, module, "nchw", tuple(shape[2:]))
    last = TargetLayer(name, module, "nhwc", tuple(shape[1:-1]))
    if _normalises_last_axis(module, shape):
        return last
    fits = (covers(first.grid, size), covers(last.grid, size))
    if fits == (True, False):
        return first
    if fits == (False, True):
        return last
    # The shape fits both or neither: believe the network, and PyTorch's convention otherwise.
    width = getattr(network, "num_features", None)
    if getattr(network, "output_fmt", None) == "NHWC" or (shape[1] != width == shape[-1]):
        return last
    return first


def _normalises_last_axis(module: nn.Module, shape: Sequence[int]) -> bool:
    """Say whether this is a layer norm over the last axis (timm's LayerNorm2d is not)."""
    return (
        isinstance(module, nn.LayerNorm)
        and not type(module).__name__.endswith(("2d", "3d"))
        and tuple(module.normalized_shape) == (shape[-1],)
    )


def _token_layout(
    network: nn.Module, name: str, module: nn.Module, tokens: int, size: Grid
) -> TargetLayer:
    prefixes = _prefixes(network)
    for grid in _stated_grids(network, size):
        for prefix in prefixes:
            if tokens == prefix + prod(grid):
                return TargetLayer(name, module, "tokens", grid, prefix)
    # The network states no grid of this many tokens: take the one that the image would give.
    grids = _proportional_grids(tokens - prefixes[0], size)
    if len(grids) == 1:
        return TargetLayer(name, module, "tokens", grids[0], prefixes[0])
    raise OctoscopeError(
        f"layer {name} gives {tokens} tokens for images of {say(size)}, which is no grid of "
        f"patches after {' or '.join(map(str, prefixes))} prefix tokens; {REMEDY}"
    )


def _prefixes(network: nn.Module) -> list[int]:
    """Return the numbers of prefix tokens a layer may have: as the network states, or none yet."""
    stated = getattr(network, "num_prefix_tokens", None)
    if stated is None:
        kinds = {}  # CoaT has one class token per scale, of which each layer sees one
        for name, parameter in network.named_parameters(recurse=False):
            if kind := re.fullmatch(r"(cls|class|dist|reg|register)_tokens?\d*", name):
                kinds[kind[1]] = parameter.shape[-2] if parameter.ndim > 1 else 1
        stated = sum(kinds.values())
    # XCiT and CaiT state a class token that joins the patches only after these layers.
    return [stated, 0] if stated else [0]


def _stated_grids(network: nn.Module, size: Grid) -> Iterator[Grid]:
    """Yield the grids the patch embedding may have made of an image, the likeliest first."""
    embed = getattr(network, "patch_embed", None)
    patch = getattr(embed, "patch_size", None) or getattr(network, "patch_size", None)
    if patch:
        sides = (patch,) * len(size) if isinstance(patch, int) else tuple(patch)
        if len(sides) == len(size):
            yield tuple(s // p for s, p in zip(size, sides, strict=True))
            yield tuple(-(-s // p) for s, p in zip(size, sides, strict=True))  # padded
    stated = getattr(embed, "grid_size", None)
    if stated and len(stated) == len(size):
        yield tuple(stated)


def covers(grid: Grid, size: Grid) -> bool:
    """Say whether one stride s along every axis can make `grid` of `size`, give or take a cell."""
    low = max(s / (g + 1) for s, g in zip(size, grid, strict=True))
    high = min(s / (g - 1) if g > 1 else inf for s, g in zip(size, grid, strict=True))
    return low <= high and all(g <= s for s, g in zip(size, grid, strict=True))


def _proportional_grids(tokens: int, size: Grid) -> list[Grid]:
    """Return the grids of this many cells whose strides are most alike, all that tie."""
    grids = [grid for grid in _factorings(tokens, len(size)) if covers(grid, size)]

    def unlike(grid: Grid) -> float:
        strides = [s / g for s, g in zip(size, grid, strict=True)]
        return log(max(strides) / min(strides))

    best = min(map(unlike, grids), default=inf)
    return [grid for grid in grids if unlike(grid) <= best + 1e-9]


def _factorings(count: int, axes: int) -> Iterator[Grid]:
    """Yield every way to write `count` as an ordered product of `axes` positive integers."""
    if count < 1:
        return
    if axes == 1:
        yield (count,)
        return
    for first in range(1, count + 1):
        if count % first == 0:
            for rest in _factorings(count // first, axes - 1):
                yield (first, *rest)


def say(size: Sequence[int]) -> str:
    """Write a size as ``64×96``."""
    return "×".join(map(str, size))
