"""How fast phantom studies are written: B-scans per second, PNG files included.

    python benchmarks/phantom_speed.py [--patients 40] [--scans 20] [--height 256] [--width 384]

Goal: 40 B-scans/s at 256 × 384 on 2 cores. Starting the worker processes is in the time.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from octoscope.scans.phantom import write_study

GOAL = 40.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--scans", type=int, default=20, help="B-scans of each patient")
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--workers", type=int, default=None, help="default: all cores")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        table = write_study(
            Path(folder) / "study",
            patients=options.patients,
            scans_per_patient=options.scans,
            height=options.height,
            width=options.width,
            workers=options.workers,
        )
        seconds = time.perf_counter() - start
    rate = len(table) / seconds
    print(
        f"phantoms {options.height}x{options.width}: {len(table)} B-scans in {seconds:.1f} s, "
        f"{rate:.1f}/s on {options.workers or os.cpu_count()} cores (goal {GOAL:.0f}/s at 256x384)"
    )


if __name__ == "__main__":
    main()
