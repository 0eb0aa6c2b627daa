"""Mean curves over scans, with a band that resamples patients."""

from __future__ import annotations

import numpy as np

from octoscope.evaluation.bootstrap import percentile_interval, resample_patients
from octoscope.trust.scores import resampled_mean


def band(
    curves: np.ndarray, patients: np.ndarray, *, resamples: int = 2000, seed: int = 0
) -> dict[str, np.ndarray]:
    """Average curves over the scans in which they are defined.

    Args:
        curves: ``(B, T)``, one curve per scan; a row with NaN is left out.
        patients: Patient of each scan, ``(B,)``.
        resamples: Bootstrap resamples of the patients.
        seed: Seed of the bootstrap.

    Returns:
        ``mean``, ``low`` and ``high``, each ``(T,)``: the pointwise 95 % interval, NaN with fewer
        than two patients.
    """
    there = np.isfinite(curves).all(axis=1)
    weights = resample_patients(list(patients), resamples, seed).rows(np.flatnonzero(there))
    mean, drawn = resampled_mean(curves[there], weights)
    if len(np.unique(patients[there])) < 2:
        nothing = np.full(curves.shape[1], np.nan)
        return {"mean": mean, "low": nothing, "high": nothing}
    low, high = percentile_interval(drawn)
    return {"mean": mean, "low": low, "high": high}
