"""Groups of scans whose maps look alike: spectral relevance analysis (SpRAy).

Lapuschkin et al., "Unmasking Clever Hans predictors and assessing what machines really learn",
Nature Communications 10, 2019, section "Spectral relevance analysis" of the methods: maps are made
small, joined to their nearest neighbours, and the graph is cut by spectral clustering (Ng, Jordan,
Weiss, NIPS 2001); a gap after the k-th eigenvalue of its Laplacian speaks for k clusters.

Three things are done otherwise, so that no cluster is seen where there is none:

- Neighbours are looked for among the scans of *other* patients. Scans of one patient are alike,
  and would be a cluster each.
- The eigengap decides only between numbers of clusters that are real by two further tests: that
  two thirds of the patients give the same clusters (stability; von Luxburg, "Clustering stability",
  2010), and that clusters lie apart from each other (silhouette; Rousseeuw, 1987). Maps that only
  change gradually, such as a spot that moves, have large gaps too.
- Distances are those of Hellinger, between square roots of shares, so that one bright cell does
  not outweigh the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.spatial.distance import cdist
from torch import Tensor
from torch.nn import functional as F

from octoscope.trust.localisation import Array, says_something
from octoscope.trust.scores import LEAST_PATIENTS

CELLS = 16
"""Cells per axis of a map made small."""
MOST_CLUSTERS = 8
LEAST_SCANS = 10
"""With fewer scans (or fewer than `LEAST_PATIENTS` patients) no clusters are looked for."""
PER_CLUSTER = 4
"""So many scans per cluster there must be on average."""
PARTS = 10
"""Random two thirds of the patients for the test of stability."""
STABLE = 0.8
"""Mean adjusted Rand index from which clusters are stable. In simulations (64 scans of 32 patients)
planted clusters had 0.89 and more, a spot that moves mostly under 0.75, along a line up to 0.84."""
AS_STABLE = 0.05
"""By how much less stable than the most stable another number of clusters may be chosen."""
APART = 0.35
"""Mean silhouette from which they lie apart: planted 0.40 and more, a moving spot 0.31 and less."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """The clusters of B maps.

    Attributes:
        of: ``(B,)`` int: number of each map's cluster, from 1, the largest first; 0 for maps that
            say nothing, and for all where there are too few.
        number: How many there are: 1 if the maps show no groups, 0 if there are too few to tell.
        embedding: ``(B, 2)`` positions for a plot (the two main directions in which the maps
            differ); NaN for maps that say nothing.
        cells: ``(B, C)`` maps made small, each of sum 1; NaN likewise.
        stability: Adjusted Rand index over parts of the patients; NaN unless 2 or more clusters.
        silhouette: Mean silhouette, −1 to 1; likewise.
        scans: How many maps it rests on.
        patients: How many patients.
    """

    of: np.ndarray
    number: int
    embedding: np.ndarray
    cells: np.ndarray
    stability: float
    silhouette: float
    scans: int
    patients: int


def small_maps(maps: Array, size: int = CELLS) -> np.ndarray:
    """Average the positive part of maps over cells, and divide each by its sum.

    Args:
        maps: ``(B, *S)``, one to three spatial axes.
        size: Cells per axis, fewer where the map has fewer pixels.

    Returns:
        ``(B, C)`` float64; NaN for a map without positive part or not finite.
    """
    maps = torch.as_tensor(maps).double()
    known = says_something(maps.flatten(1))
    positive = maps.clamp(min=0)
    positive = positive / positive.flatten(1).amax(1).view(-1, *[1] * (maps.ndim - 1))
    shape: Any = tuple(min(size, length) for length in maps.shape[1:])
    pool = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[len(shape) - 1]
    pooled: Tensor = pool(positive[:, None], shape).flatten(1)
    share = pooled / pooled.sum(1, keepdim=True)
    return np.asarray(share.where(known[:, None], torch.nan).numpy(force=True))


def find_clusters(cells: np.ndarray, patients: np.ndarray, *, seed: int = 0) -> Clusters:
    """Find groups of maps that look alike.

    Args:
        cells: ``(B, C)`` of `small_maps`.
        patients: Patient of each map, ``(B,)``.
        seed: Seed of the parts of patients and of k-means.
    """
    known = np.isfinite(cells).all(axis=1)
    features, owner = np.sqrt(cells[known]), np.asarray(patients).astype(str)[known]
    scans, owners = len(features), len(np.unique(owner))
    of, embedding = np.zeros(len(cells), int), np.full((len(cells), 2), np.nan)
    embedding[known] = _plane(features)
    number, stability, silhouette = 0, np.nan, np.nan
    if scans >= LEAST_SCANS and owners >= LEAST_PATIENTS:
        found, stability, silhouette = _best(features, owner, seed)
        of[known] = _largest_first(found)
        number = int(of.max())
    return Clusters(of, number, embedding, cells, stability, silhouette, scans, owners)


def affinity(features: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Join every map with its nearest neighbours of other patients, ``(n, n)`` of 0 and 1.

    As many neighbours as the logarithm (base 2) of the number of patients, but 3: of the order
    that keeps one cluster in one piece (von Luxburg, "A tutorial on spectral clustering", 2007,
    section 8.2). Symmetric: two maps are joined if one is a neighbour of the other.

    Args:
        features: ``(n, C)``.
        patients: ``(n,)``.
    """
    count = len(features)
    neighbours = min(max(3, int(np.ceil(np.log2(len(np.unique(patients)))))), count - 1)
    distance = cdist(features, features)
    distance[patients[:, None] == patients[None]] = np.inf
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :neighbours]
    joined = np.zeros((count, count))
    finite = np.isfinite(np.take_along_axis(distance, nearest, axis=1))
    np.put_along_axis(joined, nearest, finite.astype(float), axis=1)
    return np.maximum(joined, joined.T)


def spectrum(joined: np.ndarray, most: int = MOST_CLUSTERS + 1) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest eigenvalues ``(m,)`` of the normalised Laplacian and their vectors.

    L = I − D^(-1/2) A D^(-1/2)

    Args:
        joined: A ``(n, n)``, symmetric.
        most: At most so many.

    Returns:
        Eigenvalues, ascending, and eigenvectors ``(n, m)``.
    """
    root = 1 / np.sqrt(np.maximum(joined.sum(axis=1), 1e-12))
    laplacian = np.eye(len(joined)) - root[:, None] * joined * root[None]
    values, vectors = eigh(laplacian, subset_by_index=[0, min(most, len(joined)) - 1])
    return values, vectors


def _best(features: np.ndarray, patients: np.ndarray, seed: int) -> tuple[np.ndarray, float, float]:
    """Return the clusters ``(n,)`` from 0, their stability and silhouette; all 0 if one."""
    from sklearn.metrics import adjusted_rand_score, silhouette_score  # heavy to import

    values, vectors = spectrum(affinity(features, patients))
    gaps = np.diff(values)  # of k clusters at k - 1
    parts = _parts(features, patients, seed)
    real = []
    for count in range(2, min(MOST_CLUSTERS, len(features) // PER_CLUSTER) + 1):
        found = _cut(vectors, count, seed)
        if len(np.unique(found)) < count:
            continue
        apart = float(silhouette_score(features, found))
        if apart < APART:
            continue
        same = [
            adjusted_rand_score(found[part], _cut(some, count, seed)) if len(some) > count else 0.0
            for part, some in parts
        ]
        if np.mean(same) >= STABLE:
            real.append((found, float(np.mean(same)), apart, float(gaps[count - 1])))
    if not real:
        return np.zeros(len(features), int), np.nan, np.nan
    most = max(stability for _, stability, _, _ in real)
    nearly = [one for one in real if one[1] >= most - AS_STABLE]
    return max(nearly, key=lambda one: one[3])[:3]


def _parts(
    features: np.ndarray, patients: np.ndarray, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return positions and eigenvectors of the maps of random two thirds of the patients."""
    generator, names = np.random.default_rng(seed), np.unique(patients)
    parts = []
    for _ in range(PARTS):
        chosen = generator.permutation(names)[: (2 * len(names) + 2) // 3]
        part = np.flatnonzero(np.isin(patients, chosen))
        parts.append((part, spectrum(affinity(features[part], patients[part]))[1]))
    return parts


def _cut(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Cut the graph into `count` parts by k-means on the rows of its eigenvectors (Ng et al.)."""
    from sklearn.cluster import KMeans  # heavy to import

    rows = vectors[:, :count]
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return np.asarray(KMeans(count, n_init=5, random_state=seed).fit_predict(rows))


def _largest_first(found: np.ndarray) -> np.ndarray:
    """Return cluster numbers from 1, the largest first, among equals the one met first."""
    names, first, size = np.unique(found, return_index=True, return_counts=True)
    order = np.lexsort((first, -size))
    number = np.empty(len(names), int)
    number[order] = np.arange(1, len(names) + 1)
    return number[np.searchsorted(names, found)]


def _plane(features: np.ndarray) -> np.ndarray:
    """Return the two first principal components ``(n, 2)``, each pointing where it is longest."""
    if len(features) < 2:
        return np.zeros((len(features), 2))
    left, size, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    at = np.zeros((len(features), 2))
    kept = min(2, len(size))
    at[:, :kept] = left[:, :kept] * size[:kept]
    longest = at[np.abs(at).argmax(axis=0), [0, 1]]
    return at * np.where(longest < 0, -1, 1)
