"""Peak memory and time of the frame-only model, the one probe that looks at training scans too.

    python benchmarks/metadata_memory.py [--scans 1000 10000 80000] [--height 128 --width 256]

A study of so many scans, one in ten of them for validation, a patient for every eight, in four
classes. The pixels of all scans would fill the disk, so that they are 64 drawn phantoms over and
over: what the probe takes from the cache it copies as from a real one. Every size runs in a
process of its own. "Own" is the peak less what the process held before the probe; the forests of
the audit, which see every scan, are timed on as many rows beside it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from octoscope.scans.audit.baseline import frame_baseline
from octoscope.scans.framing import Framing, frame_image
from octoscope.scans.phantom import CLASSES, draw_acquisition, draw_eye, render
from octoscope.scans.table import ScanTable
from octoscope.study.subject import subject_of
from octoscope.trust.probes.run import probe_model

DRAWN = 64


@dataclass(frozen=True, eq=False)
class Repeated:
    """Images that are drawn once and read as if there were many."""

    drawn: np.ndarray
    count: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count, *self.drawn.shape[1:])

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.drawn[np.asarray(rows) % len(self.drawn)]


@dataclass(frozen=True, eq=False)
class Cache:
    """As much of a `ScanCache` as the probes look at."""

    images: Repeated
    table: ScanTable
    framing: Framing


def cache_of(count: int, framing: Framing) -> Cache:
    images = []
    for place in range(DRAWN):
        eye = draw_eye(f"p{place}", CLASSES[place % len(CLASSES)], 0.8, place)
        scan = render(eye, draw_acquisition(eye, 256, 384, place))
        images.append(frame_image(scan.image, framing))
    row = np.arange(count)
    patient = row // 8
    frame = pd.DataFrame(
        {
            "path": [f"{one}.png" for one in row],
            "label": np.asarray(CLASSES, object)[row % len(CLASSES)],
            "patient": [f"p{one}" for one in patient],
            "split": np.where(patient % 10 == 0, "val", "train"),
            "visit": row % 3,
        }
    )
    table = ScanTable.from_frame(frame, Path(), classes=CLASSES)
    return Cache(Repeated(np.stack(images), count), table, framing)


def measure(count: int, framing: Framing) -> None:
    cache = cache_of(count, framing)
    before, began = peak(), time.process_time()

    def told(images: np.ndarray) -> np.ndarray:
        return np.zeros((len(images), len(CLASSES)), np.float32)

    subject = subject_of(cache, told, cache.table.classes, split="val", training=cache)  # type: ignore[arg-type]
    (found,) = probe_model(subject, ["metadata"])
    probed, after = time.process_time() - began, peak()
    began = time.process_time()
    numbers = np.random.default_rng(0).normal(size=(count, 13))
    frame_baseline(
        [str(k) for k in range(13)], numbers, cache.table.targets, cache.table.groups, seed=0
    )
    forests = time.process_time() - began
    print(
        f"{count:7,}  {len(subject.training or ()) + len(subject.scans):7,}  {after:8,.0f}  "
        f"{after - before:8,.0f}  {probed:8.1f}  {forests:8.1f}  {peak():8,.0f}",
        flush=True,
    )
    assert found.fires is not None, found.sentence


def peak() -> float:
    """Return the most memory the process ever held, in MiB."""
    scale = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scans", type=int, nargs="+", default=[1_000, 10_000, 80_000])
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--width", type=int, default=256)
    options = parser.parse_args()
    framing = Framing(height=options.height, width=options.width, mode="band")
    print("  scans   looked at  peak MiB   own MiB     CPU s  forests CPU s  peak MiB")
    for count in options.scans:
        process = multiprocessing.get_context("spawn").Process(
            target=measure, args=(count, framing)
        )
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{count} scans: the process ended with {process.exitcode}")


if __name__ == "__main__":
    main()
