"""The twin of a run: the same network and recipe, trained on labels that mean nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from octoscope.data.cache import ScanCache
from octoscope.files import read_json
from octoscope.study.folder import RunFolder
from octoscope.training.recipe import Recipe
from octoscope.training.supervised import train
from octoscope.trust.sanity.twin import shuffled_labels


def train_twin(run: RunFolder, cache: ScanCache, *, seed: int = 0) -> RunFolder:
    """Train the twin of a run below its folder, or find it trained.

    Labels are dealt anew to the patients of training and validation, each split for itself; the
    test split keeps its own, since nothing looks at it.

    Args:
        run: A finished run.
        cache: The cache of its study.
        seed: Of the shuffle.
    """
    frame = cache.table.frame
    labels = frame["label"].to_numpy(dtype=object).copy()
    groups = np.asarray(cache.table.groups)
    for split in ("train", "val"):
        rows = np.flatnonzero((frame["split"] == split).to_numpy())
        labels[rows] = shuffled_labels(labels[rows], groups[rows], seed=seed)
    table = cache.table.noting("labels are shuffled over patients: a twin", label=labels)
    recipe = Recipe.from_dict(read_json(run.path / "recipe.json"))
    path = run.path / "trust" / "twin"
    train(replace(cache, table=table), recipe, path)
    return RunFolder(path)
