"""How strongly a number or a word that describes a scan goes with its class, by patient.

Unit of everything here is the patient *in a class*: numbers are averaged and words turned into
shares over the scans of a patient that carry one label. A patient with scans of two classes makes
two units, which are alike, so that the test errs towards seeing no difference there.

Effect sizes. Numbers: AUROC of one class against the rest (Mann-Whitney U / n·m; 0.5 nothing, 1
separates), for the class that stands out most. Words: Cramér's V with the bias correction of
Bergsma, "A bias-correction for Cramér's V and Tschuprow's T", J. Korean Stat. Soc. 42(3), 2013.

p-values: the labels are permuted over the units; p = (k+1)/(n+1) (Phipson, Smyth, Stat. Appl.
Genet. Mol. Biol. 9(1), 2010), so never 0. Statistic for numbers: the largest |z| of the rank sums
over classes; for words: chi². Both depend on the labels through sums over each class only, so one
matrix product serves all features and many permutations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

MOST_CATEGORIES = 30
"""Words that occur less often than the 30 most common ones are pooled as `OTHER`."""
OTHER = "other"
CHUNK_BYTES = 2**26


@dataclass(frozen=True, eq=False)
class Association:
    """One feature against the labels.

    Attributes:
        feature: Its name.
        numeric: Whether it is a number (else a word).
        effect_size: AUROC in [0.5, 1] or bias-corrected Cramér's V in [0, 1].
        p_value: Permutation p, in (0, 1].
        stands_out: Index of the class that differs most from the rest.
        telling: For words the category in whose share that class differs most, else None.
        mean: ``(K,)`` mean over the patients of each class (of the share of `telling` for words),
            nan for a class without any.
        sd: ``(K,)`` standard deviation, likewise; 0 for one patient.
        rest: Mean over the patients of all other classes.
    """

    feature: str
    numeric: bool
    effect_size: float
    p_value: float
    stands_out: int
    telling: str | None
    mean: np.ndarray
    sd: np.ndarray
    rest: float


def associations(
    numbers: Mapping[str, np.ndarray],
    words: Mapping[str, np.ndarray],
    targets: np.ndarray,
    groups: np.ndarray,
    *,
    permutations: int,
    rng: np.random.Generator,
) -> list[Association]:
    """Measure and test every feature at once.

    Args:
        numbers: Feature → ``(N,)`` float, nan where missing (takes the median rank).
        words: Feature → ``(N,)`` str.
        targets: ``(N,)`` int class of each scan, 0…K-1.
        groups: ``(N,)`` patient of each scan.
        permutations: Number of permutations.
        rng: Source of the permutations.

    Returns:
        One `Association` per feature, numbers first; none if fewer than two classes occur.
        Features that do not vary have no effect (0.5 or 0) and p = 1.
    """
    unit, labels = _units(targets, groups)
    if len(np.unique(labels)) < 2:
        return []
    classes = int(labels.max()) + 1
    means = {name: _unit_means(np.asarray(v, float)[:, None], unit) for name, v in numbers.items()}
    shares = {name: _shares(np.asarray(v, object), unit) for name, v in words.items()}
    # (U, F): what is summed by class. Ranks are centred so that a sum's expectation is 0.
    ranks = [_centred_ranks(v[:, 0]) for v in means.values()]
    tables = [table for _, table in shares.values()]
    columns = np.column_stack([*ranks, *tables])
    cut = np.cumsum([1] * len(ranks) + [table.shape[1] for table in tables])[:-1]

    observed = _statistics(columns, cut, len(ranks), labels[None], classes)[0]  # (F,)
    exceeding = np.zeros(len(observed), np.int64)
    left = permutations
    most = max(1, CHUNK_BYTES // (8 * len(labels)))
    while left:
        size = min(left, most)
        permuted = rng.permuted(np.tile(labels, (size, 1)), axis=1)
        drawn = _statistics(columns, cut, len(ranks), permuted, classes)  # (P, F)
        exceeding += (drawn >= observed * (1 - 1e-9) - 1e-12).sum(axis=0)
        left -= size
    p = (exceeding + 1) / (permutations + 1)

    found = [
        _numeric(name, values[:, 0], centred, labels, classes, float(p[i]))
        for i, ((name, values), centred) in enumerate(zip(means.items(), ranks, strict=True))
    ]
    found += [
        _categorical(name, categories, table, labels, classes, float(p[len(ranks) + i]))
        for i, (name, (categories, table)) in enumerate(shares.items())
    ]
    return found


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjust p-values ``(F,)`` for being several (Holm, Scand. J. Stat. 6, 1979)."""
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1) if len(steps) else steps
    return adjusted


def auroc(values: np.ndarray, positive: np.ndarray) -> float:
    """Return P(value of a positive > of a negative) + ½ P(equal), from values (N,), bool (N,)."""
    n, m = int(positive.sum()), int((~positive).sum())
    return float((rankdata(values)[positive].sum() - n * (n + 1) / 2) / (n * m))


def cramers_v(table: np.ndarray) -> float:
    """Return the bias-corrected Cramér's V of a contingency table (K, C) (Bergsma 2013, eq. 3)."""
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    n = table.sum()
    rows, columns = table.shape
    if min(rows, columns) < 2 or n <= 1:
        return 0.0
    phi2 = max(0.0, float(_chi2(table)) / n - (rows - 1) * (columns - 1) / (n - 1))
    rows_ = rows - (rows - 1) ** 2 / (n - 1)
    columns_ = columns - (columns - 1) ** 2 / (n - 1)
    least = min(rows_ - 1, columns_ - 1)
    return float(min(1.0, np.sqrt(phi2 / least))) if least > 1e-9 else 0.0


def _units(targets: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit of each scan (N,) and the label of each unit (U,)."""
    _, patient = np.unique(groups.astype(str), return_inverse=True)
    pairs, unit = np.unique(np.stack([patient, targets], 1), axis=0, return_inverse=True)
    return unit.ravel(), pairs[:, 1]


def _unit_means(values: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Average values (N, C) over the scans of each unit, ``(U, C)``; nan where all are missing."""
    known = ~np.isnan(values)
    count = np.zeros((int(unit.max()) + 1, values.shape[1]))
    total = np.zeros_like(count)
    np.add.at(count, unit, known)
    np.add.at(total, unit, np.where(known, values, 0))
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _shares(values: np.ndarray, unit: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Return categories (C) and the share of each in a unit's scans ``(U, C)``, rows sum to 1."""
    names, code, count = np.unique(values.astype(str), return_inverse=True, return_counts=True)
    if len(names) > MOST_CATEGORIES:
        kept = np.sort(np.argsort(-count, kind="stable")[:MOST_CATEGORIES])
        position = np.full(len(names), MOST_CATEGORIES)
        position[kept] = np.arange(MOST_CATEGORIES)
        names, code = np.append(names[kept], OTHER), position[code]
    return [str(n) for n in names], _unit_means(np.eye(len(names))[code], unit)


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    """Return midranks (U,) minus their mean; missing values take the mean."""
    known = ~np.isnan(values)
    ranks = np.zeros(len(values))
    if known.any():
        ranks[known] = rankdata(values[known])
        ranks[known] -= ranks[known].mean()
    return ranks


def _statistics(
    columns: np.ndarray, cut: np.ndarray, numeric: int, labels: np.ndarray, classes: int
) -> np.ndarray:
    """Return the test statistic of each feature under each labelling, ``(P, F)``.

    Args:
        columns: ``(U, M)`` centred ranks and category shares, feature after feature.
        cut: Where each feature but the first begins among the M columns.
        numeric: How many of the features are numbers.
        labels: ``(P, U)`` labellings.
        classes: K.
    """
    sums = np.stack([(labels == k) @ columns for k in range(classes)], axis=1)  # (P, K, M)
    size = np.stack([(labels[0] == k).sum() for k in range(classes)])  # (K,), permutation keeps it
    n = len(columns)
    # Variance of a rank sum under permutation: n_k (n - n_k) / (n (n-1)) Σ r².
    factor = size * (n - size) / (n * max(n - 1, 1))  # (K,)
    out = np.zeros((len(labels), len(cut) + 1))
    for f, part in enumerate(np.split(sums, cut, axis=2)):
        if f < numeric:
            spread = np.sqrt(factor * (columns[:, f] ** 2).sum())  # (K,)
            z = np.abs(part[:, :, 0]) / np.where(spread > 1e-12, spread, np.inf)  # (P, K)
            out[:, f] = z.max(axis=1)
        else:
            out[:, f] = _chi2(part)
    return out


def _chi2(table: np.ndarray) -> np.ndarray:
    """Return Pearson's chi² of contingency tables ``(..., K, C)``; empty rows add nothing."""
    rows, columns = table.sum(axis=-1, keepdims=True), table.sum(axis=-2, keepdims=True)
    expected = rows * columns / table.sum(axis=(-1, -2), keepdims=True)
    part = (table - expected) ** 2 / np.where(expected > 0, expected, np.inf)
    return np.asarray(part.sum(axis=(-1, -2)))


def _numeric(
    name: str, values: np.ndarray, ranks: np.ndarray, labels: np.ndarray, classes: int, p: float
) -> Association:
    """Describe a numeric feature (U,) whose test gave `p`."""
    size = np.array([(labels == k).sum() for k in range(classes)])
    sums = np.array([ranks[labels == k].sum() for k in range(classes)])
    possible = (size > 0) & (size < len(labels))
    z = np.where(possible, np.abs(sums) / np.sqrt(np.maximum(size * (len(labels) - size), 1)), -1)
    k = int(z.argmax())
    effect = auroc(ranks, labels == k)
    mean, sd, rest = _by_class(values, labels, classes, k)
    return Association(name, True, max(effect, 1 - effect), p, k, None, mean, sd, rest)


def _categorical(
    name: str, categories: list[str], table: np.ndarray, labels: np.ndarray, classes: int, p: float
) -> Association:
    """Describe a categorical feature with shares (U, C) whose test gave `p`."""
    counts = np.stack([table[labels == k].sum(axis=0) for k in range(classes)])  # (K, C)
    size = counts.sum(axis=1, keepdims=True)  # (K, 1)
    others = size.sum() - size
    gap = counts / np.maximum(size, 1) - (counts.sum(axis=0) - counts) / np.maximum(others, 1)
    # As for numbers: small classes vary more. The category that the class has more often.
    strength = gap * np.sqrt(size * others)
    k, c = (int(i) for i in np.unravel_index(strength.argmax(), strength.shape))
    mean, sd, other = _by_class(table[:, c], labels, classes, k)
    effect = cramers_v(counts)
    return Association(name, False, effect, p, k, categories[c], mean, sd, other)


def _by_class(
    values: np.ndarray, labels: np.ndarray, classes: int, k: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return mean and sd of values (U,) in each class, and the mean outside class `k`."""
    mean, sd = np.full(classes, np.nan), np.full(classes, np.nan)
    for c in range(classes):
        own = values[(labels == c) & ~np.isnan(values)]
        if len(own):
            mean[c], sd[c] = own.mean(), own.std(ddof=1) if len(own) > 1 else 0.0
    rest = values[(labels != k) & ~np.isnan(values)]
    return mean, sd, float(rest.mean()) if len(rest) else float("nan")
