"""The canary in the mine: labels without meaning must score chance.

Every patient has a texture of their own and a label drawn by lot. A network can learn the
textures by heart, so wherever a patient stands in both splits it "predicts" labels that mean
nothing. Under our split it cannot.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from octoscope.data.cache import ScanCache
from octoscope.scans.splits import require_no_overlap, split_by_patient
from octoscope.training.supervised import Recipe, train
from training.toy import cache_of

PATIENTS, SCANS = 160, 4


def lottery(seed: int = 0) -> ScanCache:
    """Return scans of patients with a texture each, half of them with either label, by lot."""
    random = np.random.default_rng(seed)
    textures = random.integers(60, 190, (PATIENTS, 4, 6)).repeat(6, axis=1).repeat(6, axis=2)
    noise = random.normal(0, 12, (PATIENTS, SCANS, 24, 36))
    images = np.clip(textures[:, None] + noise, 0, 255).astype(np.uint8).reshape(-1, 24, 36)
    labels = np.repeat(random.permutation(["CNV", "NORMAL"] * (PATIENTS // 2)), SCANS)
    patients = [f"p{i // SCANS}" for i in range(PATIENTS * SCANS)]
    return cache_of(images, list(labels), patients, None)


def final_accuracy(cache: ScanCache, run: Path) -> float:
    """Return the balanced accuracy on the validation scans after the last epoch.

    Not that of the best epoch: choosing among epochs would lift it above chance.
    """
    recipe = Recipe(
        model="test_resnet",
        epochs=10,
        batch_size=32,
        lr=4e-3,
        weight_decay=0.0,
        balance="none",
        augment=False,
        precision="fp32",
    )
    train(cache, recipe, run, allow_overlap=True)
    last = (run / "log.csv").read_text().splitlines()
    return float(last[-1].split(",")[last[0].split(",").index("val_balanced_accuracy")])


def with_splits(cache: ScanCache, splits: np.ndarray) -> ScanCache:
    frame = cache.table.frame
    return cache_of(cache.images, list(frame["label"]), list(frame["patient"]), splits)


def test_by_patient_it_scores_chance(tmp_path: Path) -> None:
    cache = lottery()
    table = split_by_patient(cache.table, (0.6, 0.4, 0.0), seed=0)
    require_no_overlap(table)
    patients = table.split("val").frame["patient"].nunique()
    assert patients >= 60
    # All scans of a patient look alike, so it is patients who are right or wrong. Under chance
    # their share is binomial; beyond 3.3 standard deviations lies less than one run in 1,000.
    bound = 3.3 * 0.5 / np.sqrt(patients)
    found = final_accuracy(with_splits(cache, table.frame["split"].to_numpy()), tmp_path / "run")
    assert abs(found - 0.5) <= bound


def test_by_image_it_sings(tmp_path: Path) -> None:
    """The same scans, network and recipe, but split by scan: the labels seem to mean something."""
    cache = lottery()
    order = np.random.default_rng(1).permutation(len(cache))
    splits = np.where(order < 0.6 * len(cache), "train", "val")
    assert final_accuracy(with_splits(cache, splits), tmp_path / "run") >= 0.85
