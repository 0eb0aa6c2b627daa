"""What a study will hold, decided before any picture is rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from octoscope.scans.phantom.diseases import CLASSES
from octoscope.scans.phantom.shortcut import PLANTED_DEVICE, Shortcut
from octoscope.scans.table import SPLITS


@dataclass(frozen=True)
class PlannedScan:
    """One file of the study before it is rendered."""

    patient: str
    label: str
    split: str
    number: int
    laterality: str
    device: str
    severity: float
    eye_seed: int
    scan_seed: int
    shortcut: bool

    @property
    def name(self) -> str:
        """Path below images/ and masks/, Kermany layout."""
        return f"{self.split}/{self.label}/{self.label}-{self.patient}-{self.number}.png"


def plan_study(
    patients: int,
    scans_per_patient: int,
    seed: int,
    severity: tuple[float, float],
    fractions: Sequence[float],
    both_classes: float,
    shortcut: Shortcut | None,
) -> list[PlannedScan]:
    """Decide everything that is not in a picture: classes, splits, instruments, seeds, shortcuts.

    Args:
        patients: How many, shared evenly by the classes.
        scans_per_patient: B-scans of each.
        seed: Of everything.
        severity: Interval of the severities of diseased patients.
        fractions: Of patients in train, val and test, met within every class.
        both_classes: Share of diseased patients whose last scan is of their healthy other eye.
        shortcut: An artefact to plant, met within every class and split.
    """
    rng = np.random.default_rng([seed, 0x0C7])
    labels = np.resize(CLASSES, patients)
    names = 1000 + rng.permutation(patients)
    splits = _splits(labels, fractions, rng)
    devices = _devices(labels, shortcut, rng)
    plan: list[PlannedScan] = []
    for label, name, split, device in zip(labels, names, splits, devices, strict=True):
        side = str(rng.choice(["OD", "OS"]))
        degree = float(rng.uniform(*severity))
        seeds = rng.integers(2**62, size=scans_per_patient + 2)
        mixed = label != "NORMAL" and scans_per_patient > 1 and rng.uniform() < both_classes
        for number in range(1, scans_per_patient + 1):
            healthy = label == "NORMAL" or (mixed and number == scans_per_patient)
            other = mixed and number == scans_per_patient
            plan.append(
                PlannedScan(
                    patient=str(name),
                    label="NORMAL" if healthy else str(label),
                    split=str(split),
                    number=number,
                    laterality={"OD": "OS", "OS": "OD"}[side] if other else side,
                    device=str(device),
                    severity=0.0 if healthy else degree,
                    eye_seed=int(seeds[-1 if other else -2]),
                    scan_seed=int(seeds[number - 1]),
                    shortcut=False,
                )
            )
    if shortcut is None:
        return plan
    flags = np.zeros(len(plan), bool)
    for split in SPLITS:
        rows = np.flatnonzero([scan.split == split for scan in plan])
        flags[rows] = shortcut.chosen(np.array([plan[r].label for r in rows]), rng)
    return [replace(scan, shortcut=bool(flag)) for scan, flag in zip(plan, flags, strict=True)]


def _devices(labels: np.ndarray, shortcut: Shortcut | None, rng: np.random.Generator) -> np.ndarray:
    """Return the instrument of each patient ``(N,)``: three of five spectralis in every class.

    Even shares keep the instrument from becoming a shortcut by chance.
    """
    known = ["spectralis", "cirrus", "spectralis", "topcon", "spectralis"]
    if shortcut is not None and shortcut.kind == "device":
        known = [name for name in known if name != PLANTED_DEVICE]
    devices = np.empty(len(labels), dtype="<U16")
    for label in sorted(set(labels)):
        rows = rng.permutation(np.flatnonzero(labels == label))
        devices[rows] = np.resize(known, len(rows))
    return devices


def _splits(labels: np.ndarray, fractions: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Return the split of each patient ``(N,)``, every class by the fractions, none left out."""
    splits = np.empty(len(labels), dtype="<U5")
    for label in sorted(set(labels)):
        rows = rng.permutation(np.flatnonzero(labels == label))
        test = min(max(1, round(fractions[2] * len(rows))), len(rows) - 2)
        val = min(max(1, round(fractions[1] * len(rows))), len(rows) - test - 1)
        splits[rows] = np.repeat(SPLITS, (len(rows) - val - test, val, test))
    return splits
