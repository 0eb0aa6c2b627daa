"""How long the audit takes.

    python benchmarks/audit_speed.py [--scans 1000] [--hashes 100000] [--data FOLDER]

whole audit     of 1,000 generated JPEGs of 496 × 512 (goal: seconds), and of the real scans below
                --data, if given
finding copies  among 100,000 hashes, random ones and ones whose bits hang together as those of
                pictures do, with 1,000 copies planted, all of which must be found (goal: minutes)
testing         14 features of 100,000 scans: 2,000 permutations, and the frame-only model
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter

from octoscope.scans.audit import audit
from octoscope.scans.audit.association import associations
from octoscope.scans.audit.baseline import frame_baseline
from octoscope.scans.audit.fingerprint import COLUMNS, ROWS, pack
from octoscope.scans.audit.measure import measure_all
from octoscope.scans.audit.near import near_pairs
from octoscope.scans.layouts import load_table
from octoscope.scans.table import ScanTable

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def generated(folder: Path, scans: int) -> ScanTable:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(scans):
        smooth = gaussian_filter(rng.normal(size=(62, 64)).astype(np.float32), 2)
        picture = Image.fromarray((smooth * 500 + 90).clip(0, 255).astype(np.uint8))
        picture = np.asarray(picture.resize((512, 496), Image.Resampling.BICUBIC), np.float32)
        picture += rng.normal(0, 8, picture.shape)
        label, patient = CLASSES[i // 4 % 4], str(i // 4)
        name = f"{label}-{patient}-{i % 4}.jpeg"
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / name, quality=90)
        rows.append({"path": name, "label": label, "patient": patient})
    return ScanTable.from_frame(pd.DataFrame(rows), folder)


def print_whole(name: str, table: ScanTable) -> None:
    reading = seconds(lambda: measure_all(table.paths))
    whole = seconds(lambda: audit(table))
    print(
        f"whole audit     {name}: {len(table):,} scans in {whole:.1f} s, of which reading "
        f"{reading:.1f} s ({1e3 * reading / len(table):.1f} ms a scan)"
    )


def print_copies(name: str, flags: np.ndarray, planted: int) -> None:
    rng = np.random.default_rng(1)
    half = len(flags) // 2
    origin = rng.choice(half, planted, replace=False)
    for copy, row in enumerate(origin):
        flags[half + copy] = flags[row]
        flags[half + copy, rng.choice(256, rng.integers(0, 21), replace=False)] ^= True
    hashes = np.stack([pack(flags), pack(np.ones_like(flags))], axis=1)
    start = time.perf_counter()
    pairs = near_pairs(hashes)
    took = time.perf_counter() - start
    found = set(map(tuple, pairs.tolist()))
    hits = sum((int(row), half + copy) in found for copy, row in enumerate(origin))
    print(
        f"finding copies  {name}: {len(flags):,} hashes in {took:.1f} s, "
        f"{hits:,} of {planted:,} planted copies found, {len(pairs) - hits:,} other pairs"
    )


def print_testing(scans: int) -> None:
    rng = np.random.default_rng(2)
    patient = rng.integers(0, max(8, scans // 21), scans)
    count, targets = int(patient.max()) + 1, patient % 4
    numbers = {f"number {i}": rng.normal(size=count)[patient] for i in range(12)}
    words = {f"word {i}": rng.integers(0, 40, count)[patient].astype(str) for i in range(2)}
    groups = patient.astype(str).astype(object)
    tests = seconds(
        lambda: associations(numbers, words, targets, groups, permutations=2_000, rng=rng)
    )
    values = np.stack(list(numbers.values()), axis=1)
    model = seconds(lambda: frame_baseline(list(numbers), values, targets, groups, seed=0))
    print(
        f"testing         {scans:,} scans of {count:,} patients: {tests:.1f} s for 2,000 "
        f"permutations, {model:.1f} s for the frame-only model"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scans", type=int, default=1_000)
    parser.add_argument("--hashes", type=int, default=100_000)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print_whole("generated", generated(Path(folder), options.scans))
    if options.data:
        print_whole(options.data.name, load_table(options.data))
    rng = np.random.default_rng(3)
    n, planted = options.hashes, min(1_000, options.hashes // 4)
    print_copies("random", rng.random((n, 256)) < 0.5, planted)
    field = rng.normal(size=(n, ROWS, COLUMNS)).astype(np.float32)
    field = gaussian_filter(field, (0, 1, 1)) + 0.1 * rng.normal(size=(ROWS, COLUMNS))
    print_copies("alike", field.reshape(n, 256) > 0, planted)
    print_testing(n)


if __name__ == "__main__":
    main()
