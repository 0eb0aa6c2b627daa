"""Reading scans: the cache against torchvision's ImageFolder with PIL and a DataLoader.

    python benchmarks/loader.py [--scans 1000] [--rounds 5] [--size 224]

Two questions, asked side by side and in turn, round after round, in one process:

first epoch   building the cache (reading, hashing, decoding, framing, writing) against one epoch
              of ImageFolder. Goal: at least 1.8 times as fast.
every epoch   one pass over the cache in batches against one epoch of ImageFolder, its workers
              already running. Goal: at least 50 times as fast.

Both sides give grey float batches of 32 in [0, 1], of the same size, from the same JPEG files, in
shuffled order. ImageFolder does Grayscale, Resize (bilinear, anti-aliased) and ToTensor; we
stretch to the same frame and leave borders alone, so that the pixels can be compared; the mean
difference is printed and has to be below 1.5 grey levels of 255. ImageFolder runs without and with
2 workers, and the faster of the two counts in each round. All files are in the page cache.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from octoscope.data.batches import Batches
from octoscope.data.cache import ScanCache
from octoscope.scans.framing import Framing
from octoscope.scans.phantom import CLASSES, write_study
from octoscope.scans.table import ScanTable

BATCH = 32
WIDTHS = (512, 768, 1024)
SMOOTH = 0.6
"""Pixels by which phantoms are smoothed, so that they take 0.3 bytes per pixel at this quality as
real Kermany frames do (0.25 to 0.28); how many bytes there are decides how long decoding takes."""
STEADY_EPOCHS = 10
FIRST_GOAL, STEADY_GOAL = 1.8, 50.0
MOST_DIFFERENCE = 1.5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=224)
    options = parser.parse_args()
    os.environ.setdefault("OCTOSCOPE_QUIET", "1")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        table = write_scans(root, options.scans)
        sizes = [path.stat().st_size for path in table.paths]
        print(
            f"{len(table)} JPEGs of 496 × {WIDTHS}, {np.mean(sizes) / 1000:.0f} kB on average, to "
            f"{options.size} × {options.size}; {torch.get_num_threads()} threads"
        )
        framing = Framing(options.size, options.size, "stretch", wedges="keep")
        difference = mean_difference(table, framing, root / "compared")
        print(f"mean difference of the pixels: {difference:.2f} grey levels of 255")
        first_epoch(table, framing, root, options.rounds)
        every_epoch(table, framing, root, options.rounds)
    return int(difference > MOST_DIFFERENCE)


def first_epoch(table: ScanTable, framing: Framing, root: Path, rounds: int) -> None:
    """Time decoding everything once."""

    def build(framing: Framing, name: str) -> None:
        ScanCache.build(table, framing, root / name)

    ours, usual, peers = [], [], []
    for turn in range(rounds):
        ours.append(seconds(lambda: build(framing, f"stretched-{turn}")))  # noqa: B023
        peers.append(
            min(seconds(lambda: exhaust(image_folder(table.root, framing, n))) for n in (0, 2))  # noqa: B023
        )
        padded = Framing(framing.height, framing.width)
        usual.append(seconds(lambda: build(padded, f"padded-{turn}")))  # noqa: B023
    count = len(table)
    say("first epoch: cache", ours, count)
    say("  the same with padding and search for white borders", usual, count)
    say("first epoch: ImageFolder", peers, count)
    say_ratio("first epoch", ours, peers, FIRST_GOAL)


def every_epoch(table: ScanTable, framing: Framing, root: Path, rounds: int) -> None:
    """Time an epoch once the cache is there and the workers run."""
    cache = ScanCache.build(table, framing, root / "steady")
    ours = batches(cache)
    without, with_workers = (image_folder(table.root, framing, workers) for workers in (0, 2))
    for loader in (ours, with_workers):
        exhaust(loader)
    own, peers = [], []
    for _ in range(rounds):
        own.append(seconds(lambda: [exhaust(ours) for _ in range(STEADY_EPOCHS)]) / STEADY_EPOCHS)
        peers.append(min(seconds(lambda: exhaust(w)) for w in (without, with_workers)))  # noqa: B023
    say("every epoch: cache", own, len(table))
    say("every epoch: ImageFolder", peers, len(table))
    say_ratio("every epoch", own, peers, STEADY_GOAL)


def batches(cache: ScanCache) -> Batches:
    rows = np.arange(len(cache))
    return Batches(cache.images, cache.table.targets, rows, batch_size=BATCH, shuffle=True)


def image_folder(root: Path, framing: Framing, workers: int) -> DataLoader:
    steps = [
        transforms.Grayscale(1),
        transforms.Resize((framing.height, framing.width)),
        transforms.ToTensor(),
    ]
    dataset = ImageFolder(str(root), transforms.Compose(steps))
    return DataLoader(
        dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )


def exhaust(loader: DataLoader | Batches) -> None:
    for _ in loader:
        pass


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def mean_difference(table: ScanTable, framing: Framing, folder: Path) -> float:
    """Return the mean absolute difference of both ways' pixels, in grey levels of 255."""
    some = table.rows(np.arange(0, len(table), max(1, len(table) // 64)))
    cache = ScanCache.build(some, framing, folder)
    theirs = image_folder(table.root, framing, 0).dataset
    place = {path: row for row, (path, _) in enumerate(theirs.samples)}
    differences = [
        (theirs[place[str(path)]][0][0] * 255 - torch.from_numpy(np.array(image))).abs().mean()
        for path, image in zip(some.paths, cache.images, strict=True)
    ]
    return float(torch.stack(differences).mean())


def write_scans(root: Path, count: int) -> ScanTable:
    """Write JPEGs CLASS/CLASS-n-1.jpeg of phantom scans, each rolled sideways anew."""
    drawn = []
    for width in WIDTHS:
        study = write_study(
            root / f"phantoms-{width}", patients=12, scans_per_patient=1, height=496, width=width
        )
        drawn += [gaussian_filter(np.asarray(Image.open(path)), SMOOTH) for path in study.paths]
    random = np.random.default_rng(0)
    rows = []
    for number in range(count):
        label = CLASSES[number % len(CLASSES)]
        picture = drawn[random.integers(len(drawn))]
        picture = np.roll(picture, random.integers(picture.shape[1]), axis=1)
        path = root / "scans" / label / f"{label}-{number}-1.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, quality=90)
        rows.append({"path": f"{label}/{path.name}", "label": label, "split": "train"})
    return ScanTable.from_frame(pd.DataFrame(rows), root / "scans")


def say(what: str, times: list[float], count: int) -> None:
    low, middle, high = min(times), statistics.median(times), max(times)
    print(
        f"{what}: {middle / count * 1e3:.3f} ms/scan ({low / count * 1e3:.3f} to "
        f"{high / count * 1e3:.3f}), {count / middle:,.0f} scans/s"
    )


def say_ratio(what: str, ours: list[float], peers: list[float], goal: float) -> None:
    ratios = sorted(peer / own for own, peer in zip(ours, peers, strict=True))
    print(
        f"{what}: {statistics.median(ratios):.2f} times as fast (rounds {ratios[0]:.2f} to "
        f"{ratios[-1]:.2f}), goal {goal:g}: "
        + ("met" if statistics.median(ratios) >= goal else "NOT MET")
    )


if __name__ == "__main__":
    sys.exit(main())
