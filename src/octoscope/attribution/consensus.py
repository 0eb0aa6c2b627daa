"""What several maps agree on, and where they do not.

Maps of different methods, layers, models or seeds are scaled alike, weighted by how well each
agrees with the rest, and averaged; the spread around that mean is kept beside it. A map that is
blank, broken or turned upside down gets no weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from octoscope.attribution.display import upsample
from octoscope.attribution.method import Method
from octoscope.attribution.ranks import standard_ranks
from octoscope.errors import OctoscopeError, did_you_mean

if TYPE_CHECKING:
    from octoscope.attribution.maps import Maps

CELLS = 32
"""Most cells per axis on which agreement is judged: pixel noise is no disagreement."""
SHARE = 0.99
"""Of the positions whose magnitude is at most 1 when a map is scaled."""
FEWEST = 2
"""Maps that a consensus takes."""
IMAGES = 16
"""Images combined at once: all maps of these are held at full size."""


@dataclass(frozen=True, eq=False)
class Consensus:
    """Several maps made one.

    Attributes:
        map: (…, *S) the weighted mean of the scaled maps, in [-1, 1].
        disagreement: (…, *S) their weighted standard deviation.
        weights: (n, …) of the maps, which sum to 1; all 0 where no map is usable.
    """

    map: Tensor
    disagreement: Tensor
    weights: Tensor


@dataclass(frozen=True)
class ConsensusSettings:
    """What can be set of the consensus.

    Attributes:
        weights: Method to weight, such as its measured faithfulness; methods that are not named
            are left out. None: all methods count alike.
        agreement: Whether weights are multiplied by the agreement, or stand alone.
    """

    weights: Mapping[str, float] | None = None
    agreement: bool = True

    def __post_init__(self) -> None:
        for name, weight in (self.weights or {}).items():
            if not isfinite(weight) or weight < 0:
                raise OctoscopeError(f"consensus: {name} has weight {weight}; use 0 or more")


def agreed(
    stack: Tensor,
    weights: Sequence[float] | Tensor | None = None,
    *,
    axes: int = 2,
    agreement: bool = True,
) -> Consensus:
    """Combine maps of the same images, whatever they differ in.

    Each map is divided by the magnitude that 99 % of its positions do not exceed, and cut to
    [-1, 1]. Its agreement is found in two steps from the rank correlations r of all maps, on at
    most 32 cells per axis. First every map is supported by the others, s_i = Σ_{j≠i} max(0, r_ij).
    Then w_i = max(0, r of map i with the mean of all ranks weighted by s_j). So the larger group of
    maps that agree decides, and what contradicts it has no weight. Where no two maps agree at all,
    every usable map keeps the weight given, and the disagreement is large.

    Args:
        stack: (n, …, *S).
        weights: (n,) or (n, …), not negative; by default all alike.
        axes: Number of spatial axes *S.
        agreement: Multiply the weights by the agreement. A map that is blank (the same value
            everywhere) or not finite has no weight either way.

    Raises:
        OctoscopeError: If weights are negative, not finite, or not as many as maps.
    """
    prior = _prior(stack, weights, axes)
    usable = stack.isfinite().flatten(-axes).all(-1)
    stack = stack.where(usable.view(*usable.shape, *[1] * axes), 0).float()
    ranks = _standard_ranks(stack, axes)
    usable &= (ranks != 0).any(-1)  # (n, …)
    prior = prior * usable
    chosen = prior
    if agreement:
        judged = ranks * (prior > 0)[..., None]  # a map left out has no say about the others
        agreements = _agreements(torch.einsum("i...p,j...p->...ij", judged, judged))
        chosen = prior * agreements.movedim(-1, 0).float()
        chosen = torch.where(chosen.sum(0) > 0, chosen, prior)
    total = chosen.sum(0)
    chosen = chosen / total.where(total > 0, 1)
    w = chosen.view(*chosen.shape, *[1] * axes)
    scaled = _scaled(stack, axes)
    mean = (w * scaled).sum(0)
    return Consensus(mean, (w * (scaled - mean) ** 2).sum(0).sqrt(), chosen)


def consensus_of(
    several: Sequence[Maps],
    method: str = "gradcam",
    weights: Sequence[float] | Tensor | None = None,
    *,
    agreement: bool = True,
) -> Consensus:
    """Combine the maps that several models, seeds or layers give of the same images.

    ```python
    found = consensus_of([explain(m, images, targets=1) for m in models], "gradcam")
    found.map, found.disagreement       # (B, H, W)
    ```

    Args:
        several: What `explain` returned for each, for the same images and classes.
        method: Whose maps.
        weights: (n,) of the models, such as their accuracy; by default all alike.
        agreement: As for `agreed`.

    Raises:
        OctoscopeError: If there are fewer than two, or images or classes differ.
    """
    if len(several) < FEWEST:
        raise OctoscopeError(f"a consensus takes two maps or more, not {len(several)}")
    first = several[0]
    for number, other in enumerate(several[1:], 1):
        if other[method].shape != first[method].shape:
            raise OctoscopeError(
                f"maps 0 are {tuple(first[method].shape)} and maps {number} are "
                f"{tuple(other[method].shape)}; explain the same images and as many classes"
            )
        if first.scores != other.scores or not _same_targets(first.targets, other.targets):
            raise OctoscopeError(
                f"maps 0 and maps {number} explain different classes; give explain() the same "
                "targets= for all"
            )
    stack = torch.stack([maps[method].to(first.logits.device) for maps in several])
    return agreed(stack, weights, axes=len(first.size), agreement=agreement)


def consensus(maps: Maps, settings: ConsensusSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """Combine the maps of the other methods asked for.

    Null maps and methods with several maps per image (attention heads) do not take part.

    Returns:
        (B, [M,] *S) of `agreed`, with ``disagreement`` (B, [M,] *S) and, for every method,
        ``weight_NAME`` (B, [M]).

    Raises:
        OctoscopeError: If fewer than two methods take part, or a weight is for another method.
    """
    names = _taking_part(maps, settings.weights)
    axes = len(maps.size)
    prior = None if settings.weights is None else [float(settings.weights[n]) for n in names]
    found: list[Consensus] = []
    for start in range(0, len(maps.logits), IMAGES):
        some = [maps.native[name][start : start + IMAGES] for name in names]
        stack = torch.stack([upsample(part, maps.size) for part in some])
        found.append(agreed(stack, prior, axes=axes, agreement=settings.agreement))
    weights = torch.cat([part.weights for part in found], 1)
    details = {"disagreement": torch.cat([part.disagreement for part in found])}
    details |= {f"weight_{name}": row for name, row in zip(names, weights, strict=True)}
    return torch.cat([part.map for part in found]), details


def _same_targets(one: Tensor | str, other: Tensor | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return isinstance(one, str) and isinstance(other, str) and one == other
    return torch.equal(one.cpu(), other.cpu())


def _taking_part(maps: Maps, weights: Mapping[str, float] | None) -> list[str]:
    """Return the methods that are combined."""
    from octoscope.attribution.registry import METHODS  # which lists this module's row

    names = combined(METHODS[name] for name in maps)
    for name in weights or {}:
        if name not in names:
            raise OctoscopeError(
                f'consensus: there is a weight for "{name}", which does not take part'
                f"{did_you_mean(name, names)}; taking part are {', '.join(names) or 'none'}"
            )
    names = [name for name in names if weights is None or name in weights]
    if len(names) < FEWEST:
        raise OctoscopeError(f"consensus: {_wanting(names)}")
    return names


def combined(methods: Iterable[Method]) -> list[str]:
    """Return the names of the methods that a consensus combines: one map of the model each."""
    aside = ("null", "consensus")
    return [row.name for row in methods if row.family not in aside and not row.parts]


def too_few(methods: Iterable[Method]) -> str | None:
    """Say why there is no consensus of some methods, None if there is."""
    names = combined(methods)
    return _wanting(names) if len(names) < FEWEST else None


def _wanting(names: Sequence[str]) -> str:
    return (
        "it combines the maps of the other methods asked for, and of those "
        f"{', '.join(names) or 'none'} can take part; ask for two or more beside it, such as "
        'methods=["gradcam", "layercam", "consensus"]'
    )


def _prior(stack: Tensor, weights: Sequence[float] | Tensor | None, axes: int) -> Tensor:
    """Return the weights given, or ones, as (n, …)."""
    leading = stack.shape[: stack.ndim - axes]
    if weights is None:
        return stack.new_ones(leading, dtype=torch.float32)
    given = torch.as_tensor(weights, dtype=torch.float32, device=stack.device)
    if len(given) != len(stack) or given.shape != leading[: given.ndim]:
        raise OctoscopeError(
            f"weights of shape {tuple(given.shape)} do not fit {len(stack)} maps; give one per map"
        )
    if not bool((given.isfinite() & (given >= 0)).all()):
        raise OctoscopeError("weights of a consensus are finite and not negative")
    return given.view(*given.shape, *[1] * (len(leading) - given.ndim)).expand(leading)


def _scaled(maps: Tensor, axes: int) -> Tensor:
    """Divide each map (…, *S) by the magnitude that 99 % of positions keep to; cut to [-1, 1]."""
    magnitudes = maps.abs().flatten(-axes)
    usual = magnitudes.kthvalue(ceil(SHARE * magnitudes.shape[-1])).values
    scale = torch.where(usual > 0, usual, magnitudes.amax(-1))  # where most of the map is 0
    scale = scale.where(scale > 0, 1).view(*scale.shape, *[1] * axes)
    return (maps / scale).clamp(-1, 1)


def _standard_ranks(maps: Tensor, axes: int) -> Tensor:
    """Return ranks, (…, p), of mean 0 and length 1, so that products are rank correlations.

    Equal values share the mean of their ranks; a map with one value has zeros.
    """
    cells = [min(length, CELLS) for length in maps.shape[maps.ndim - axes :]]
    rows = maps.reshape(-1, 1, *maps.shape[maps.ndim - axes :])
    pool = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}[axes]
    values = pool(rows, cells).flatten(1).view(*maps.shape[: maps.ndim - axes], -1)  # type: ignore[arg-type]
    return standard_ranks(values)


def _agreements(correlations: Tensor) -> Tensor:
    """Return how well each map agrees with what maps support, (…, n), from r (…, n, n)."""
    own = torch.eye(correlations.shape[-1], dtype=torch.bool, device=correlations.device)
    support = correlations.clamp(min=0).masked_fill(own, 0).sum(-1)  # s
    # With z_i the standard ranks: ⟨z_i, Σ_j s_j z_j⟩ and the squared length of that sum.
    along = torch.einsum("...ij,...j->...i", correlations, support)
    squared = torch.einsum("...i,...i->...", along, support)[..., None]
    return (along / squared.where(squared > 0, 1).sqrt()).clamp(min=0)


ROWS = (
    Method(
        "consensus",
        "Consensus",
        "consensus",
        consensus,
        ("maps", "settings"),
        "Mean of scaled maps, weighted by rank correlation (`agreed`)",
        rectified=False,
        sentence="What the other methods asked for agree on.",
        settings=ConsensusSettings,
    ),
)
"""Methods that are functions of the other methods' maps."""
