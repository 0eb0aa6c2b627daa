"""A run as the shortcut probes examine it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from octoscope.data.cache import ScanCache
from octoscope.study.evaluate import rows_of
from octoscope.trust.probes.probe import Predict, Scans, Subject


def subject_of(cache: ScanCache, predict: Predict) -> Subject:
    """Return a model with the scans of its study; the test split is not looked at.

    Args:
        cache: The cache that it was trained on.
        predict: The model.
    """
    there = set(cache.table.frame["split"])
    return Subject(
        predict=predict,
        classes=list(cache.table.classes),
        scans=split_of(cache, "val"),
        training=split_of(cache, "train") if "train" in there else None,
        fill=cache.framing.fill,
    )


@lru_cache(maxsize=2)
def split_of(cache: ScanCache, split: str) -> Scans:
    """Return a split, the same object for all models, since its retinas take long to find."""
    rows = rows_of(cache, split)
    return Scans(
        images=cache.images[rows],
        targets=np.asarray(cache.table.targets)[rows],
        patients=np.asarray(cache.table.groups)[rows].astype(str),
        frame=cache.table.frame.iloc[rows].reset_index(drop=True),
    )
