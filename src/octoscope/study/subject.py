"""A run as the shortcut probes examine it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from octoscope.data.cache import ScanCache
from octoscope.errors import OctoscopeError
from octoscope.study.evaluate import rows_of
from octoscope.study.retinas import retinas_of
from octoscope.study.spread import spread
from octoscope.trust.probes.metadata import HISTORY, earlier_visits
from octoscope.trust.probes.probe import Predict, Scans, Subject

MOST_SCANS, LEAST_SCANS, MOST_PIXELS = 2_000, 200, 2**26
"""Scans of a split that the probes look at: they hold some twenty masks and edited copies of each,
which are 64 MiB apiece at most (a frame of 128×256: 2,000 scans; of 496×768: 200)."""


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
        scans=sample_of(cache, split),
        training=sample_of(training, "train") if training and known else None,
        fill=cache.framing.fill,
    )


@lru_cache(maxsize=4)
def sample_of(cache: ScanCache, split: str) -> Scans:
    """Return a split, or of a large one `MOST_SCANS` of it, spread over classes and patients.

    A sample says of how many it is one, and how many visits of its patient came before each scan.
    """
    rows = rows_of(cache, split)
    pixels = int(np.prod(cache.images.shape[1:]))
    most = max(LEAST_SCANS, min(MOST_SCANS, MOST_PIXELS // pixels))
    if len(rows) <= most:
        return split_of(cache, split)
    frame = cache.table.rows(rows).frame
    patients = np.asarray(cache.table.groups)[rows].astype(str)
    chosen = spread(frame["label"].to_numpy(), patients, most)
    scans = _scans(cache, rows[chosen], drawn_from=len(rows))
    if "visit" not in frame.columns:
        return scans
    visits = earlier_visits(frame)[chosen]
    return replace(scans, frame=scans.frame.assign(**{HISTORY: visits}))


@lru_cache(maxsize=4)
def split_of(cache: ScanCache, split: str) -> Scans:
    """Return a split, the same object for all models, since its retinas take long to find."""
    return _scans(cache, rows_of(cache, split))


def _scans(cache: ScanCache, rows: np.ndarray, drawn_from: int = 0) -> Scans:
    """Return the scans at some rows of a cache."""
    table = cache.table.rows(rows)
    return Scans(
        images=cache.images[rows],
        targets=np.asarray(table.targets),
        patients=np.asarray(table.groups).astype(str),
        frame=table.frame,
        drawn_from=drawn_from,
        find=partial(retinas_of, cache, rows),
    )
