"""What clusters of maps go with: each cluster against all other maps, tested by patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from octoscope.scans.audit.association import Association, associations, holm

SIGNIFICANT = 0.05


def cluster_associations(
    of: np.ndarray,
    patients: Sequence[str],
    artefacts: pd.DataFrame,
    *,
    permutations: int = 5000,
    seed: int = 0,
) -> dict[int, list[dict[str, Any]]]:
    """Test each cluster against all other maps, for everything that is known of the scans.

    By patient, with permuted labels (`scans.audit.association`); p-values are corrected for all
    tests of all clusters together (Holm).

    Args:
        of: ``(B,)`` number of each map's cluster; 0 is left out.
        patients: ``(B,)``.
        artefacts: B rows, one column per measure, numbers or words.
        permutations: Number of permutations.
        seed: Their seed.

    Returns:
        Cluster → what goes with it at p < 0.05, strongest first, as rows ``feature, effect (its
        name), effect_size, p_value, here, elsewhere, telling`` (of words the category whose
        shares those two are).
    """
    kept = np.flatnonzero(of)
    table, owner = artefacts.iloc[kept], np.asarray(patients).astype(str)[kept]
    numbers, words = {}, {}
    for name in table.columns:
        column = table[name]
        if column.nunique() < 2:
            continue
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            numbers[str(name)] = column.to_numpy(float, na_value=np.nan)
        else:
            words[str(name)] = column.astype(object).where(column.notna(), "missing").to_numpy()
    clusters = [int(k) for k in np.unique(of[kept])]
    if len(clusters) < 2 or not (numbers or words):
        return {k: [] for k in clusters}
    found: list[tuple[int, Association]] = []
    for k in clusters:
        inside, rng = (of[kept] == k).astype(int), np.random.default_rng([seed, k])
        tested = associations(numbers, words, inside, owner, permutations=permutations, rng=rng)
        found += [(k, one) for one in tested]
    p_values = holm(np.array([one.p_value for _, one in found]))
    out: dict[int, list[dict[str, Any]]] = {k: [] for k in clusters}
    for (k, one), p in zip(found, p_values, strict=True):
        if p < SIGNIFICANT:
            out[k].append(
                {
                    "feature": one.feature,
                    "effect": "AUROC" if one.numeric else "Cramér's V",
                    "effect_size": one.effect_size,
                    "p_value": float(p),
                    "here": float(one.mean[1]),
                    "elsewhere": float(one.mean[0]),
                    "telling": one.telling,
                }
            )
    for rows in out.values():
        rows.sort(key=lambda row: (row["p_value"], -row["effect_size"]))
    return out


def association_words(row: Mapping[str, Any]) -> str:
    """Return one row of `cluster_associations` in words, such as "noise (9.1 against 4; …)"."""
    p = "p < 0.001" if row["p_value"] < 0.001 else f"p = {row['p_value']:.3f}"
    tail = f"{row['effect']} {row['effect_size']:.2f}, {p}"
    here, elsewhere = row["here"], row["elsewhere"]
    if row["telling"] is None:
        return f"{row['feature']} ({here:.3g} against {elsewhere:.3g}; {tail})"
    return (
        f"{row['feature']} {row['telling']} ({100 * here:.0f} % against {100 * elsewhere:.0f} %; "
        f"{tail})"
    )
