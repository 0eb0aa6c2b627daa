"""The patient-clustered bootstrap: whole patients are drawn with replacement.

Scans of one patient are alike, so a bootstrap over scans gives intervals that are too narrow
(Field and Welsh, "Bootstrapping clustered data", JRSS-B 2007, section 3: the randomised cluster
bootstrap). One resample draws P of the P patients with replacement; a scan then counts as often
as its patient was drawn. No resample is ever written out: a resample is a vector of integer
weights, and every metric is computed for all resamples at once from the weights.

Shapes: N scans, P patients, R resamples, F columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array

from octoscope.errors import OctoscopeError

CHUNK_ELEMENTS = 2**16
"""Size of the largest temporary array, in elements: fits the cache of one core."""


@dataclass(frozen=True, eq=False)
class Weights:
    """How often each of N scans counts in each of R resamples.

    Attributes:
        unit: Patient index of every scan, ``(N,)`` int.
        counts: How often each patient was drawn, ``(P, R)`` unsigned integers.
    """

    unit: np.ndarray
    counts: np.ndarray

    @classmethod
    def once(cls, scans: int) -> Weights:
        """Return the weights of the sample itself: one "resample" where each scan counts once."""
        return cls(np.zeros(scans, dtype=np.intp), np.ones((1, 1), dtype=np.uint8))

    @property
    def resamples(self) -> int:
        """R."""
        return self.counts.shape[1]

    def sums(self, columns: np.ndarray) -> np.ndarray:
        """Return the weighted column sums of every resample.

        What is linear in the scans is summed per patient first, so that the cost no longer
        depends on the number of scans.

        Args:
            columns: ``(N, F)`` numbers.

        Returns:
            ``(R, F)`` float64.
        """
        scans, patients = len(self.unit), len(self.counts)
        scan_to_patient = csr_array(
            (np.ones(scans), self.unit, np.arange(scans + 1)), shape=(scans, patients)
        )
        return self.sums_of_patients(scan_to_patient.T @ np.asarray(columns, dtype=np.float64))

    def sums_of_patients(self, columns: np.ndarray) -> np.ndarray:
        """Return what `sums` does, ``(R, F)``, of columns ``(P, F)`` summed per patient already."""
        return np.concatenate(
            [chunk.T.astype(np.float64) @ columns for chunk in self._chunks(len(columns))]
        )

    def chunks(self) -> Iterator[Weights]:
        """Yield the resamples in groups whose ``(N, r)`` scan weights stay small."""
        for counts in self._chunks(len(self.unit)):
            yield Weights(self.unit, counts)

    def rows(self, scans: np.ndarray) -> Weights:
        """Return the same resamples for the scans at positions (or in mask) `scans` only."""
        return Weights(self.unit[scans], self.counts)

    def of(self, scans: np.ndarray) -> np.ndarray:
        """Return the weights ``(n, R)`` of the scans at positions `scans` ``(n,)``."""
        return self.counts.take(self.unit[scans], axis=0)

    def _chunks(self, rows: int) -> Iterator[np.ndarray]:
        step = max(16, CHUNK_ELEMENTS // max(rows, 1))
        for start in range(0, self.resamples, step):
            yield np.ascontiguousarray(self.counts[:, start : start + step])


def resample_patients(patients: Sequence[str], resamples: int = 2000, seed: int = 0) -> Weights:
    """Draw bootstrap resamples of whole patients.

    The draw depends on the set of patient names, `resamples` and `seed` only, not on the order
    of the scans; two models evaluated on the same patients therefore meet the same resamples.

    Args:
        patients: Patient of every scan, ``(N,)``.
        resamples: R.
        seed: Seed of the generator.

    Raises:
        OctoscopeError: If there is no scan, a patient is missing, or R is not positive.
    """
    names = np.asarray(patients, dtype=object)
    if names.size == 0:
        raise OctoscopeError("there is no scan to resample; the table of predictions is empty")
    if any(name is None or name != name for name in names):
        raise OctoscopeError(
            "a scan has no patient; intervals need one (use ScanTable.groups, which names it)"
        )
    if resamples < 1:
        raise OctoscopeError(f"{resamples} resamples: use at least 1 (2,000 is usual)")
    known, unit = np.unique(names.astype(str), return_inverse=True)
    return Weights(unit, _drawn(len(known), resamples, seed))


@lru_cache(maxsize=4)
def _drawn(patients: int, resamples: int, seed: int) -> np.ndarray:
    """Return how often each of P patients is drawn, ``(P, R)``; kept, as a study asks often."""
    generator = np.random.default_rng(seed)
    counts = np.empty((resamples, patients), dtype=np.uint8)
    for row in counts:  # a loop keeps the draw independent of any chunk size
        drawn = np.bincount(generator.integers(patients, size=patients), minlength=patients)
        row[:] = np.minimum(drawn, 255)  # a count of 256 has probability below 1e-500
    counts = np.ascontiguousarray(counts.T)
    counts.flags.writeable = False
    return counts


def percentile_interval(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentile interval over the first axis, ignoring undefined (NaN) resamples.

    Args:
        values: ``(R, …)``; NaN where a resample leaves the metric undefined.
        level: Coverage, such as 0.95.

    Returns:
        Lower and upper bounds ``(…)``; NaN where every resample is undefined.
    """
    values = np.asarray(values, dtype=np.float64)
    tail = (1 - level) / 2
    ordered = np.sort(values, axis=0)  # NaN sorts last
    defined = np.isfinite(values).sum(axis=0)
    return _quantile(ordered, defined, tail), _quantile(ordered, defined, 1 - tail)


def _quantile(ordered: np.ndarray, defined: np.ndarray, q: float) -> np.ndarray:
    """Return quantile `q` of the first `defined` of the ordered values, linearly interpolated."""
    position = q * np.maximum(defined - 1, 0)
    below = np.floor(position).astype(np.intp)
    above = np.minimum(below + 1, np.maximum(defined - 1, 0))
    low = np.take_along_axis(ordered, below[None], axis=0)[0]
    high = np.take_along_axis(ordered, above[None], axis=0)[0]
    return np.where(defined > 0, low + (position - below) * (high - low), np.nan)
