"""How many patients change their split when a scan or a patient is added, over random tables.

    python benchmarks/split_stability.py --tables 200

Prints patients that move (mean and most) when one scan is added to a patient, and when one new
patient is added; and how far the shares of patients and of scans are from those that were wanted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from octoscope.scans.splits import carve_validation, split_by_patient
from octoscope.scans.table import SPLITS, ScanTable

WANTED = (0.7, 0.15, 0.15)


def random_table(rng: np.random.Generator) -> pd.DataFrame:
    """Draw a study: 12 to 300 patients, 2 to 5 classes, skewed numbers of scans, some in two."""
    patients, classes = int(rng.integers(12, 300)), int(rng.integers(2, 6))
    rows = []
    for patient in range(patients):
        own = {f"class{patient % classes}"}
        if rng.random() < 0.1:
            own.add(f"class{rng.integers(classes)}")
        for label in own:
            scans = 1 + int(rng.exponential(6))
            rows += [(label, f"patient{patient:04d}")] * scans
    return pd.DataFrame(rows, columns=["label", "patient"])


def table_of(frame: pd.DataFrame) -> ScanTable:
    """Return the table of rows of label and patient."""
    paths = [f"{n}.png" for n in range(len(frame))]
    return ScanTable.from_frame(frame.assign(path=paths, split="train"), Path("data"))


def split_of(table: ScanTable) -> pd.Series:
    """Return the split of every patient."""
    return table.frame.groupby("patient")["split"].first()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    ways = {"split_by_patient": split_by_patient, "carve_validation": carve_validation}
    moved: dict[tuple[str, str], list[int]] = {}
    off: dict[str, list[float]] = {"patients": [], "scans": []}
    for _ in range(options.tables):
        frame = random_table(rng)
        one = frame.iloc[[int(rng.integers(len(frame)))]]
        new = one.assign(patient=f"new{rng.integers(10**6)}")
        for name, way in ways.items():
            before = split_of(way(table_of(frame), seed=0))
            for what, row in (("one scan", one), ("one patient", new)):
                more = pd.concat([frame, row], ignore_index=True)
                after = split_of(way(table_of(more), seed=0))[before.index]
                moved.setdefault((name, what), []).append(int((after != before).sum()))
        done = split_by_patient(table_of(frame), seed=0)
        for what, values in (("patients", split_of(done)), ("scans", done.frame["split"])):
            have = [float((values == split).mean()) for split in SPLITS]
            off[what].append(max(abs(h - w) for h, w in zip(have, WANTED, strict=True)))
    print(f"{options.tables} random tables, seed {options.seed}")
    for (name, what), counts in moved.items():
        print(f"{name:18s} + {what:12s} moved patients: mean {np.mean(counts):.2f}, "
              f"most {max(counts)}")  # fmt: skip
    for what, values in off.items():
        print(f"share of {what:9s} off by: median {np.median(values):.3f}, "
              f"95th percentile {np.quantile(values, 0.95):.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
