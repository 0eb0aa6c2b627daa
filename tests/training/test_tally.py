"""Counts over batches against scikit-learn over everything."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score

from octoscope.training.tally import Tally


def test_batches_of_unequal_size_give_the_scores_of_all() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 3, generator=generator)
    target = torch.randint(0, 3, (50,), generator=generator)
    tally = Tally(3, torch.device("cpu"))
    for rows in (slice(0, 32), slice(32, 49), slice(49, 50)):
        tally.add(logits[rows], target[rows], F.cross_entropy(logits[rows], target[rows]))
    scores, predicted = tally.scores(), logits.argmax(1)
    assert scores["loss"] == pytest.approx(float(F.cross_entropy(logits, target)))
    assert scores["accuracy"] == pytest.approx(accuracy_score(target, predicted))
    assert scores["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(target, predicted))
    recalls = recall_score(target, predicted, average=None)
    np.testing.assert_allclose([scores[str(k)] for k in range(3)], recalls)


def test_a_class_without_scans_is_nan_and_does_not_count() -> None:
    tally = Tally(3, torch.device("cpu"))
    target = torch.tensor([0, 0, 2])
    tally.add(torch.eye(3)[[0, 1, 2]], target, torch.tensor(1.0))
    scores = tally.scores()
    assert math.isnan(scores["1"])
    assert scores["balanced_accuracy"] == pytest.approx((0.5 + 1) / 2)
