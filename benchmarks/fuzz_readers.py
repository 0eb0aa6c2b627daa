"""What the readers make of damaged and lying files.

    python benchmarks/fuzz_readers.py [--mutations 10000] [--formats png tiff …] [--seed 0]

For each format a few small valid files of several kinds are changed in five ways: bits flipped;
pieces copied, removed or doubled; cut short or zeroed from somewhere on; header fields replaced,
with the checksums mended; and lies about the size, by which the file claims more pixels than it
holds. Each is read as a scan, and one in eight as a mask, in a process of its own kind.

read        came back as a picture (a flipped bit in raw pixels is a picture)
refused     came back as one sentence
crash       anything else: another exception, or the process died
slowest     of all, in milliseconds; and how many took over 2 s
memory      the most that the process grew by, in MiB, and how often it was over the cap of 256 MiB
            (the readers were told to decode no more than 64 MiB)
lies read   lies about the size that came back as a picture: must be 0
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from damaged_files import WAYS, changed, valid_files
from octoscope.errors import ScanError
from octoscope.scans.levels import to_uint8
from octoscope.scans.readers import READERS, read_mask, read_scan, to_grey

MAX_PIXELS, MAX_BYTES = 4_000_000, 64 * 2**20
MEMORY_CAP = 256 * 2**20
SLOW = 2.0
HANGS = 60.0
COLUMNS = (
    "format", "kinds", "mutations", "read", "refused", "crash", "slowest", "over 2 s", "memory",
    "over cap", "lies", "lies read",
)  # fmt: skip


@dataclass
class Tally:
    """What came of the files of one format."""

    name: str
    mutations: int = 0
    read: int = 0
    refused: int = 0
    crashes: list[str] = field(default_factory=list)
    slowest: float = 0.0
    slow: int = 0
    memory: int = 0
    over: int = 0
    lies: int = 0
    lies_read: list[str] = field(default_factory=list)


def file_at(name: str, files: list[bytes], seed: int, index: int) -> tuple[bytes, str]:
    """Return mutation `index`, always the same, and the way it was made."""
    rng = random.Random(f"{name} {seed} {index}")
    way = WAYS[index % len(WAYS)]
    return changed(name, files[index // len(WAYS) % len(files)], way, rng), way


def worker(name: str, seed: int, start: int, stop: int, pipe: Connection) -> None:
    """Read the mutations from `start` on and tell of each what came of it."""
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff talks to the terminal
    files = valid_files(name)
    folder = Path(tempfile.mkdtemp())
    path = folder / f"mutated{READERS[name].suffixes[0]}"
    for content in files:  # each is read as it is, which also loads every decoder
        path.write_bytes(content)
        to_uint8(to_grey(read_scan(path)))
    for index in range(start, stop):
        content, _ = file_at(name, files, seed, index)
        path.write_bytes(content)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        fault = ""
        try:
            if index % 8 == 7 and index % len(WAYS) != WAYS.index("lie"):
                read_mask(path, max_pixels=MAX_PIXELS, max_bytes=MAX_BYTES)
            else:
                scan = read_scan(path, max_pixels=MAX_PIXELS, max_bytes=MAX_BYTES)
                to_uint8(to_grey(scan), depth=scan.depth)
            outcome = "read"
        except ScanError as error:
            outcome = "refused" if "\n" not in str(error) else "crash"
            fault = str(error)
        except Exception as error:
            outcome, fault = "crash", f"{type(error).__name__}: {error}"
        took = time.perf_counter() - began
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        pipe.send((index, outcome, took, grown, fault))
    path.unlink(missing_ok=True)
    folder.rmdir()
    pipe.send(None)


def fuzz(name: str, mutations: int, seed: int, keep: Path | None) -> Tally:
    """Read `mutations` changed files of a format, in processes that may die."""
    tally = Tally(name)
    files = valid_files(name)
    spawn = multiprocessing.get_context("spawn")
    start = 0
    while start < mutations:
        mine, theirs = spawn.Pipe(duplex=False)
        process = spawn.Process(target=worker, args=(name, seed, start, mutations, theirs))
        process.start()
        theirs.close()
        ended = False
        try:
            while mine.poll(HANGS):
                message = mine.recv()
                if message is None:
                    ended = True
                    break
                start = message[0] + 1
                note(tally, files, seed, message, keep)
        except EOFError:
            pass
        process.kill()
        process.join()
        if ended:
            break
        note(tally, files, seed, (start, "crash", HANGS, 0, "the process died or hung"), keep)
        start += 1
    return tally


def note(
    tally: Tally,
    files: list[bytes],
    seed: int,
    message: tuple[int, str, float, int, str],
    keep: Path | None,
) -> None:
    """Add one outcome to the tally, and keep the file where it is a fault."""
    index, outcome, took, grown, fault = message
    way = WAYS[index % len(WAYS)]
    tally.mutations += 1
    tally.read += outcome == "read"
    tally.refused += outcome == "refused"
    tally.slowest = max(tally.slowest, took)
    tally.slow += took > SLOW
    tally.memory = max(tally.memory, grown)
    tally.over += grown > MEMORY_CAP
    tally.lies += way == "lie"
    if outcome == "crash":
        tally.crashes.append(f"{index}: {fault}")
    if way == "lie" and outcome == "read":
        tally.lies_read.append(f"{index} (file {index // len(WAYS) % len(files)})")
    bad = outcome == "crash" or took > SLOW or grown > MEMORY_CAP
    if keep and (bad or (way == "lie" and outcome == "read")):
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{tally.name}-{index}").write_bytes(file_at(tally.name, files, seed, index)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mutations", type=int, default=10_000, help="per format")
    parser.add_argument("--formats", nargs="+", default=list(READERS), choices=list(READERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that are faults")
    asked = parser.parse_args()
    faults: list[str] = []
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for name in asked.formats:
        t = fuzz(name, asked.mutations, asked.seed, asked.keep)
        print(
            f"| {name} | {len(valid_files(name))} | {t.mutations:,} | {t.read:,} | {t.refused:,} | "
            f"{len(t.crashes)} | {t.slowest * 1000:.0f} ms | {t.slow} | {t.memory / 2**20:.0f} MiB "
            f"| {t.over} | {t.lies:,} | {len(t.lies_read)} |",
            flush=True,
        )
        faults += [f"{name} {line}" for line in t.crashes[:5] + t.lies_read[:5]]
    print("\n".join(faults))


if __name__ == "__main__":
    main()
