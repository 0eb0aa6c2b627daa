"""Whether methods, or models, agree on where to look: a claim becomes a number with its interval.

Two maps of one scan agree by their rank correlation and by the overlap of their highest areas.
But retinas lie in the middle of most scans, and so do most maps: maps of *different* scans agree,
too. Only what the maps of the same scan agree beyond that is about the scan, so every pair is held
against this chance.

Shapes: M methods (or models), B scans, P = M (M - 1) / 2 pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from octoscope.attribution.ranks import standard_ranks
from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.evaluation.bootstrap import resample_patients
from octoscope.trust.lesions import Readable
from octoscope.trust.localisation import draw_donors, in_blocks
from octoscope.trust.pairs import Pair, compare
from octoscope.trust.similarity import pairwise, top_overlap

SHARE = 0.1
"""Share of the pixels that are the top of a map."""

BLOCK = 16
"""Scans whose maps of all methods are compared at once."""

DONORS = 16
"""Scans of a class, drawn at random, whose maps every scan of it is compared with for chance."""


Names = Sequence[str] | np.ndarray


@dataclass(frozen=True, eq=False)
class Agreement:
    """How M methods, or models, agree: matrices for a heat map, and sentences.

    Attributes:
        names: The M names, those that agree beside one another.
        spearman: ``(M, M)`` mean rank correlation; NaN where no scan has both maps.
        low: ``(M, M)`` lower ends of its intervals; NaN where there is none, as on the diagonal.
        high: ``(M, M)`` upper ends.
        top: ``(M, M)`` mean overlap of the top areas.
        top_share: Share of the pixels that are the top.
        linkage: ``(M - 1, 4)`` of `scipy.cluster.hierarchy`; leaf k is ``names[k]``.
        pairs: All pairs, those that agree most first.
        sentences: Which agree, which do not, and what that is worth.
    """

    names: tuple[str, ...]
    spearman: np.ndarray
    low: np.ndarray
    high: np.ndarray
    top: np.ndarray
    top_share: float
    linkage: np.ndarray
    pairs: tuple[Pair, ...]
    sentences: tuple[str, ...]

    def pair(self, one: str, other: str) -> Pair:
        """Return what is known of a claim such as "Grad-CAM and occlusion converge".

        Raises:
            OctoscopeError: If the two were not compared.
        """
        for name in (one, other):
            if name not in self.names:
                raise OctoscopeError(
                    f'"{name}" was not compared{did_you_mean(name, self.names)}; '
                    f"there are {', '.join(self.names)}"
                )
        for pair in self.pairs:
            if {pair.one, pair.other} == {one, other}:
                return pair
        raise OctoscopeError(f"{one} was not compared with itself; name two")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values, None for what is undefined."""
        matrices = {key: _plain(getattr(self, key)) for key in ("spearman", "low", "high", "top")}
        return {
            "names": list(self.names),
            **matrices,
            "top_share": self.top_share,
            "linkage": self.linkage.tolist(),
            "pairs": [{key: _plain(value) for key, value in asdict(p).items()} for p in self.pairs],
            "sentences": list(self.sentences),
        }


def agreement(
    maps: Mapping[str, Tensor | Readable],
    patients: Names,
    labels: Names | None = None,
    *,
    share: float = SHARE,
    resamples: int = 2000,
    seed: int = 0,
) -> Agreement:
    """Compare the maps of several methods on one model, or of one method on several models.

    Args:
        maps: Name → ``(B, *S)`` maps of the same scans and classes, all of one size: a tensor, or
            anything of length B that gives the maps at positions ``(n,)``.
        patients: Patient of each scan, ``(B,)``.
        labels: Class of each scan, ``(B,)``; if given, chance is measured between scans of one
            class.
        share: Share of the pixels that are the top of a map.
        resamples: Bootstrap resamples of the patients.
        seed: Seed of the bootstrap and of the draw of scans for chance.

    Returns:
        `Agreement`.

    Raises:
        OctoscopeError: If there are fewer than two names, or shapes do not fit.
    """
    names, owners = list(maps), np.asarray(patients, dtype=object)
    _check(maps, owners, labels)
    weights = resample_patients(list(patients), resamples, seed)
    classes = np.asarray(["any"] * len(owners) if labels is None else labels, dtype=object)
    same, tops, chance = _compared(maps, owners, classes, share, seed)
    pairs = [
        compare(names[i], names[j], same[i, j], tops[i, j], chance[i, j], weights, share)
        for i, j in combinations(range(len(names)), 2)
    ]
    return _arranged(names, pairs, share)


def _compared(
    maps: Mapping[str, Tensor | Readable],
    patients: np.ndarray,
    classes: np.ndarray,
    share: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare all maps of each scan, and with those of other patients.

    Returns:
        Rank correlation and top overlap of the maps of scan b, ``[i, j, b]``; and the mean rank
        correlation of map i of b with map j of other patients of its class, and of j with i.
    """

    def overlap(a: Tensor, b: Tensor, *, axes: int) -> Tensor:
        return top_overlap(a, b, share, axes=axes)

    same, tops, chance = np.full((3, len(maps), len(maps), len(patients)), np.nan)
    anyone = torch.ones(len(patients), dtype=torch.bool)
    for label, places in draw_donors(anyone, classes, donors=DONORS, seed=seed).items():
        donors, donors_say = _ranked(_stacked(maps, places))  # (M, D, P), (M, D)
        for scans in in_blocks(np.flatnonzero(classes == label), BLOCK):
            stack = _stacked(maps, scans)  # (M, b, *S)
            ranks, say = _ranked(stack)
            both = say[:, None] & say[None]
            here = torch.einsum("ibp,jbp->ijb", ranks, ranks).clamp(-1, 1).where(both, torch.nan)
            same[..., scans] = here.numpy(force=True)
            tops[..., scans] = pairwise(stack, overlap, axes=stack.ndim - 2).numpy(force=True)
            crossed = torch.einsum("ibp,jdp->ijbd", ranks, donors)
            foreign = torch.as_tensor(patients[scans][:, None] != patients[places][None])
            usable = say[:, None, :, None] & donors_say[None, :, None] & foreign.to(say.device)
            one_way = (crossed * usable).sum(-1) / usable.sum(-1)  # (M, M, b); 0 / 0 is nan
            chance[..., scans] = ((one_way + one_way.transpose(0, 1)) / 2).numpy(force=True)
    return same, tops, chance


def _ranked(stack: Tensor) -> tuple[Tensor, Tensor]:
    """Return the standard ranks of maps, (M, b, P) float64, and whether each says anything."""
    flat = stack.flatten(2)
    low, high = flat.aminmax(dim=-1)  # a nan spreads to both
    say = low.isfinite() & high.isfinite() & (high > low)
    return standard_ranks(flat.where(say[..., None], 0)), say


def _stacked(maps: Mapping[str, Tensor | Readable], places: np.ndarray) -> Tensor:
    """Return the maps of some scans, (M, b, *S).

    Raises:
        OctoscopeError: If they differ in size.
    """
    found = {name: torch.as_tensor(several[places]) for name, several in maps.items()}
    sizes = {name: tuple(some.shape[1:]) for name, some in found.items()}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise OctoscopeError(f"maps of different sizes cannot be compared: {said}")
    return torch.stack([some.float() for some in found.values()])


def _check(
    maps: Mapping[str, Tensor | Readable], patients: np.ndarray, labels: Names | None
) -> None:
    """Raise if there is nothing to compare, or not one patient and label for every map."""
    if len(maps) < 2:
        raise OctoscopeError(
            f"agreement is between two or more, not {', '.join(maps) or 'none'}; give more maps"
        )
    for name, several in maps.items():
        if len(several) != len(patients):
            raise OctoscopeError(
                f"{name}: {len(several)} maps do not fit {len(patients)} patients; give the "
                "patient of every scan"
            )
    if labels is not None and len(labels) != len(patients):
        raise OctoscopeError(f"{len(labels)} labels do not fit {len(patients)} scans")


def _arranged(names: Sequence[str], pairs: Sequence[Pair], share: float) -> Agreement:
    """Put the names in the order of their clusters, and the pairs into matrices."""
    place = {name: number for number, name in enumerate(names)}
    matrices = {
        key: np.full((len(names),) * 2, np.nan) for key in ("spearman", "low", "high", "top")
    }
    for pair in pairs:
        i, j = place[pair.one], place[pair.other]
        for key, matrix in matrices.items():
            matrix[i, j] = matrix[j, i] = getattr(pair, key)
    for key in ("spearman", "top"):  # a map agrees with itself, if it says anything
        said = np.isfinite(matrices[key]).any(axis=1)
        np.fill_diagonal(matrices[key], np.where(said, 1, np.nan))
    order, tree = clusters(matrices["spearman"])
    ranked = sorted(pairs, key=lambda pair: -pair.spearman if pair.scans else np.inf)
    return Agreement(
        names=tuple(names[k] for k in order),
        **{key: matrix[np.ix_(order, order)] for key, matrix in matrices.items()},
        top_share=share,
        linkage=tree,
        pairs=tuple(ranked),
        sentences=_sentences(ranked),
    )


def clusters(spearman: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order methods so that those that agree stand beside one another.

    Average linkage on the distance 1 - Spearman; what could not be compared is as far as can be.

    Args:
        spearman: ``(M, M)``, symmetric.

    Returns:
        The order ``(M,)``, and the tree ``(M - 1, 4)`` of `scipy.cluster.hierarchy.linkage` whose
        leaf k is the k-th in that order.
    """
    distance = np.where(np.isfinite(spearman), 1 - spearman, 2).clip(0, 2)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    order = leaves_list(tree)
    new = np.concatenate([np.argsort(order), np.arange(len(order), 2 * len(order))])
    tree[:, :2] = new[tree[:, :2].astype(int)]
    return order, tree


def _sentences(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Say how many of the pairs agree, and which do most and least."""
    if len(pairs) == 1:
        return (pairs[0].sentence,)
    compared = [pair for pair in pairs if pair.scans]
    if not compared:
        return ("No two maps of any scan can be compared, so nothing can be said.",)
    agreeing = sum(pair.verdict == "agree" for pair in pairs)
    return (
        f"{agreeing} of {len(pairs)} pairs agree more than maps of different patients do.",
        f"Most alike: {compared[0].sentence}",
        f"Least alike: {compared[-1].sentence}",
    )


def _plain(value: Any) -> Any:
    """Return a value as JSON, None in place of what is not finite."""
    if isinstance(value, np.ndarray):
        return [_plain(row) for row in value.tolist()]
    if isinstance(value, list):
        return [_plain(row) for row in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
