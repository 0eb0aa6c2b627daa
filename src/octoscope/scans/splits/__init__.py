"""Splits that no patient straddles: made, checked, mended; and said, in the table's notes.

The unit is `ScanTable.groups`. Unlabelled scans are a stratum of their own.
"""

from octoscope.scans.splits.making import carve_validation, k_fold, split_by_patient
from octoscope.scans.splits.overlap import overlapping_patients, require_no_overlap
from octoscope.scans.splits.ready import ready_splits

__all__ = [
    "carve_validation",
    "k_fold",
    "overlapping_patients",
    "ready_splits",
    "require_no_overlap",
    "split_by_patient",
]
