"""A run as the shortcut probes examine it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from octoscope.data.cache import ScanCache
from octoscope.errors import OctoscopeError
from octoscope.study.evaluate import rows_of
from octoscope.trust.probes.probe import Predict, Scans, Subject


def subject_of(
    cache: ScanCache,
    predict: Predict,
    classes: Sequence[str],
    *,
    split: str = "val",
    training: ScanCache | None,
) -> Subject:
    """Return a model with scans to examine it on, and those that it was trained on.

    Args:
        cache: Scans in the model's frame: the cache it was trained on, or that of others.
        predict: The model.
        classes: The model's class names, in the order of its logits.
        split: The rows of `cache` to examine it on; the test split is opened by the caller alone.
        training: The cache that it was trained on, whose training scans are looked at; None where
            it is not known.

    Raises:
        OctoscopeError: If the classes of the scans stand in another order than the logits.
    """
    for scans in (cache, training):
        if scans is not None and tuple(scans.table.classes) != tuple(classes):
            raise OctoscopeError(
                f"the classes of the scans ({', '.join(scans.table.classes)}) and of the model "
                f"({', '.join(classes)}) are not in one order; match them by name first "
                "(octoscope.evaluation.classes.in_order_of)"
            )
    there = set() if training is None else set(training.table.frame["split"])
    known = training is not None and "train" in there
    return Subject(
        predict=predict,
        classes=list(classes),
        scans=split_of(cache, split),
        training=split_of(training, "train") if training and known else None,
        fill=cache.framing.fill,
    )


@lru_cache(maxsize=4)
def split_of(cache: ScanCache, split: str) -> Scans:
    """Return a split, the same object for all models, since its retinas take long to find."""
    rows = rows_of(cache, split)
    table = cache.table.rows(rows)
    return Scans(
        images=cache.images[rows],
        targets=np.asarray(table.targets),
        patients=np.asarray(table.groups).astype(str),
        frame=table.frame,
    )
