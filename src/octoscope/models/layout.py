"""Reading an activation as maps: which axis holds channels, which tokens are patches, on what grid.

Three layouts exist: ``"nchw"`` (B, C, *grid), ``"nhwc"`` (B, *grid, C) and ``"tokens"``
(B, prefix + N + suffix, C) where the N patch tokens fill the grid, most often in raster order, and
class, distillation and register tokens stand around them. Whatever the layout, `TargetLayer.maps`
gives (B, C, *grid).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, log, prod
from typing import Literal

from torch import Tensor, nn

from octoscope.errors import OctoscopeError

Kind = Literal["nchw", "nhwc", "tokens"]
Grid = tuple[int, ...]

REMEDY = "pass layer= another layer, or a TargetLayer that states its kind, grid and prefix_tokens"
CHANNELS_FIRST = (
    nn.Conv1d,
    nn.BatchNorm1d,
    nn.AvgPool1d,
    nn.MaxPool1d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveMaxPool1d,
)
"""Layers that take sequences as (B, C, N)."""
ALIKE = 0.1
"""Relative difference of two strides of a grid, in logarithms, that may be rounding."""
USUAL_PREFIXES = (0, 1, 2, 5)
"""Other tokens that networks are known to have: none, class, distillation, class and registers."""


@dataclass(frozen=True)
class TargetLayer:
    """A layer whose output is read as maps.

    Attributes:
        name: Its qualified name in the (eager) model, such as ``blocks.11.norm1``.
        module: The module itself.
        kind: The layout of its output; with volumes ``"nchw"`` stands for (B, C, Z, H, W) too.
        grid: Positions per spatial axis *s.
        prefix_tokens: Tokens before the first patch token (``"tokens"`` only).
        suffix_tokens: Tokens after the last patch token.
        places: Which token each patch is, in raster order, where patches are not simply one after
            the other (another order, or a class token between them).
        extent: Pixels per axis that the grid spans where they are not those of the image, because
            it was padded to whole patches, or cut.
        offset: First pixel of the image within the extent; negative if the grid begins later.
    """

    name: str
    module: nn.Module
    kind: Kind
    grid: Grid
    prefix_tokens: int = 0
    suffix_tokens: int = 0
    places: tuple[int, ...] | None = None
    extent: Grid | None = None
    offset: Grid | None = None

    @property
    def tokens(self) -> int:
        """All tokens, the patches among them (``"tokens"`` only)."""
        places = self.places or (0, prod(self.grid) - 1)
        return self.prefix_tokens + max(places) - min(places) + 1 + self.suffix_tokens

    @property
    def other_tokens(self) -> int:
        """Class, distillation and register tokens, wherever they stand."""
        return self.tokens - prod(self.grid) if self.kind == "tokens" else 0

    def maps(self, tensor: Tensor) -> Tensor:
        """View an activation, or its gradient, as maps.

        Args:
            tensor: (B, C, *grid), (B, *grid, C) or (B, prefix + N, C), as `kind` says.

        Returns:
            (B, C, *grid), without a copy unless patches are in another order.

        Raises:
            OctoscopeError: If the tensor is not of this layout.
        """
        if tensor.ndim != self._ndim() or self._positions(tensor) != self.grid:
            raise OctoscopeError(
                f"layer {self.name} gives {tuple(tensor.shape)}, which is not {self.kind} on a "
                f"grid of {say(self.grid)} with {self.prefix_tokens} prefix tokens"
                f"{f' and {self.suffix_tokens} after the patches' if self.suffix_tokens else ''}; "
                f"{REMEDY}"
            )
        if self.kind == "nchw":
            return tensor
        if self.kind == "nhwc":
            return tensor.movedim(-1, 1)
        if self.places is None:
            patches = tensor[:, self.prefix_tokens : self.tokens - self.suffix_tokens]  # (B, N, C)
        else:
            patches = tensor[:, list(self.places)]
        return patches.mT.unflatten(-1, self.grid)  # (B, C, *grid)

    def _ndim(self) -> int:
        return 3 if self.kind == "tokens" else 2 + len(self.grid)

    def _positions(self, tensor: Tensor) -> Grid:
        if self.kind == "nchw":
            return tuple(tensor.shape[2:])
        if self.kind == "nhwc":
            return tuple(tensor.shape[1:-1])
        return self.grid if tensor.shape[1] == self.tokens else ()


@dataclass(frozen=True)
class Patches:
    """Where the patches stand among the tokens of a network, as seen when it ran.

    Attributes:
        grid: Patches per spatial axis.
        places: Which token each patch is, in raster order of the patches.
        extent: Pixels per axis that the grid spans, with what was padded; None if unknown.
        offset: First pixel of the image within them; negative if the grid begins later.
    """

    grid: Grid
    places: tuple[int, ...]
    extent: Grid | None = None
    offset: Grid | None = None


def read_layout(
    network: nn.Module,
    name: str,
    module: nn.Module,
    shape: Sequence[int],
    size: Grid,
    patches: Mapping[int, Patches] | None = None,
) -> TargetLayer:
    """Tell the layout of a layer's output from its shape, and what was seen or is stated.

    Args:
        network: The network that the layer belongs to, whose attributes (``patch_embed``,
            ``num_prefix_tokens``, ``num_features``, ``output_fmt``) settle what else is open.
        name: Name of the layer, for messages.
        module: The layer.
        shape: Shape of its output.
        size: *S of the images.
        patches: Number of tokens to where the patches were seen to be among them.

    Raises:
        OctoscopeError: If the output has no spatial axes, one position only, or tokens of which
            nothing tells where they belong, or that could be read in two ways.
    """
    if len(shape) == 2 + len(size):
        layer = _channel_layout(network, name, module, shape, size)
    elif len(shape) == 3:
        layer = _token_layout(network, name, module, shape[1], size, patches or {})
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
    network: nn.Module,
    name: str,
    module: nn.Module,
    tokens: int,
    size: Grid,
    patches: Mapping[int, Patches],
) -> TargetLayer:
    if isinstance(module, CHANNELS_FIRST):
        raise OctoscopeError(f"layer {name} gives channels before tokens; {REMEDY}")
    if tokens in patches:
        return _seen_layout(name, module, tokens, size, patches[tokens])
    prefixes = _prefixes(network)
    for grid in _stated_grids(network, size):
        for prefix in prefixes if prefixes is not None else [0]:
            if tokens == prefix + prod(grid):
                return TargetLayer(name, module, "tokens", grid, prefix)
    if prefixes is not None:
        others: Iterable[int] = prefixes[:1]
    elif patches:
        others = {count - len(seen.places) for count, seen in patches.items()}
    else:
        others = USUAL_PREFIXES
    alike = [
        (prefix, grid)
        for prefix in sorted(others)
        for grid in _proportional_grids(tokens - prefix, size, patches)
    ]
    if len(alike) == 1:
        return TargetLayer(name, module, "tokens", alike[0][1], alike[0][0])
    says = f"layer {name} gives {tokens} tokens for images of {say(size)}, which"
    if alike:
        readings = " or ".join(
            f"{say(grid)}{f' after {prefix} others' if prefix else ''}"
            for prefix, grid in alike[:3]
        )
        raise OctoscopeError(f"{says} may be {readings}; {REMEDY}")
    after = "" if prefixes is None else f" after {' or '.join(map(str, prefixes))} prefix tokens"
    raise OctoscopeError(f"{says} is no grid of patches{after}; {REMEDY}")


def _seen_layout(
    name: str, module: nn.Module, tokens: int, size: Grid, seen: Patches
) -> TargetLayer:
    first, last = min(seen.places), max(seen.places)
    plain = seen.places == tuple(range(first, last + 1))
    whole = seen.extent is None or (seen.extent == size and not any(seen.offset or ()))
    return TargetLayer(
        name,
        module,
        "tokens",
        seen.grid,
        prefix_tokens=first,
        suffix_tokens=tokens - 1 - last,
        places=None if plain else seen.places,
        extent=None if whole else seen.extent,
        offset=None if whole else seen.offset,
    )


def _prefixes(network: nn.Module) -> list[int] | None:
    """Return the numbers of prefix tokens that a layer may have, None if the network says none."""
    stated = getattr(network, "num_prefix_tokens", None)
    if stated is None:
        kinds = {}  # CoaT has one class token per scale, of which each layer sees one
        for name, parameter in network.named_parameters(recurse=False):
            if kind := re.fullmatch(r"(cls|class|dist|reg|register)_tokens?\d*", name):
                kinds[kind[1]] = parameter.shape[-2] if parameter.ndim > 1 else 1
        if not kinds and not hasattr(network, "patch_embed"):
            return None
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


def _proportional_grids(tokens: int, size: Grid, patches: Mapping[int, Patches]) -> list[Grid]:
    """Return the grids of this many cells whose strides are most alike, all that are nearly so.

    If patches were seen, only grids that are theirs, halved so many times, are taken.
    """
    grids = [grid for grid in _factorings(tokens, len(size)) if covers(grid, size)]
    if patches:
        finer = {seen.grid for seen in patches.values()}
        grids = [grid for grid in grids if any(_halved(one, grid) for one in finer)]

    def unlike(grid: Grid) -> float:
        strides = [s / g for s, g in zip(size, grid, strict=True)]
        return log(max(strides) / min(strides))

    best = min(map(unlike, grids), default=inf)
    return [grid for grid in grids if unlike(grid) <= max(best + 1e-9, ALIKE)]


def _halved(grid: Grid, coarse: Grid) -> bool:
    """Say whether one grid becomes another by being halved, along all axes, any number of times."""
    while all(a >= b for a, b in zip(grid, coarse, strict=True)):
        if grid == coarse:
            return True
        if max(grid) == 1:
            return False
        grid = tuple(-(-length // 2) for length in grid)
    return False


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
