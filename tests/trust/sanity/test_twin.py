"""Labels dealt anew to patients, and maps of two models."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from octoscope.errors import OctoscopeError
from octoscope.trust.sanity.twin import shuffled_labels, twin_similarity

PATIENTS = np.array([f"p{number // 3}" for number in range(60)])
LABELS = np.array(["drusen" if number // 3 < 6 else "normal" for number in range(60)])


def by_patient(labels: np.ndarray) -> dict[str, set[str]]:
    return {who: set(labels[who == PATIENTS]) for who in np.unique(PATIENTS)}


def test_patients_keep_one_label_and_classes_their_number_of_patients() -> None:
    after = shuffled_labels(LABELS, PATIENTS, seed=1)
    assert all(len(found) == 1 for found in by_patient(after).values())
    count = Counter(next(iter(found)) for found in by_patient(after).values())
    assert count == {"drusen": 6, "normal": 14}
    assert (after != LABELS).any()
    assert after.dtype == LABELS.dtype
    assert (shuffled_labels(LABELS, PATIENTS, seed=1) == after).all()
    assert any((shuffled_labels(LABELS, PATIENTS, seed=s) != after).any() for s in (2, 3))
    assert (LABELS[:18] == "drusen").all()  # not written into


def test_the_draw_does_not_depend_on_the_order_of_the_scans() -> None:
    order = np.random.default_rng(0).permutation(60)
    expected = shuffled_labels(LABELS, PATIENTS)[order]
    assert (shuffled_labels(LABELS[order], PATIENTS[order]) == expected).all()


def test_a_patient_with_several_labels_keeps_several() -> None:
    labels, patients = np.array(["a", "b", "b", "a", "a"]), ["x", "x", "x", "y", "z"]
    after = shuffled_labels(labels, patients)
    assert sorted(after[:3]) == ["a", "b", "b"]
    assert list(after[3:]) == ["a", "a"]


def test_a_scan_without_patient_is_refused() -> None:
    with pytest.raises(OctoscopeError, match="no patient"):
        shuffled_labels(["a", "b"], ["x", None])  # type: ignore[list-item]
    with pytest.raises(OctoscopeError, match="do not fit"):
        shuffled_labels(["a"], ["x", "y"])


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1))
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)).eval()


def test_a_model_is_its_own_twin() -> None:
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    same = twin_similarity(network(0), network(0), images, ["gradcam", "null_edges"], [0, 1])
    other = twin_similarity(network(0), network(1), images, ["gradcam", "null_edges"], [0, 1])
    assert torch.allclose(same["gradcam"].nan_to_num(1.0), torch.ones(2).double())
    assert torch.allclose(other["null_edges"], torch.ones(2).double())
    assert not torch.allclose(other["gradcam"].nan_to_num(0.0), torch.ones(2).double())
