"""Explaining a whole split into a map store: time per scan, and memory that must not grow.

    python benchmarks/explain_store.py [--counts 250 500 1000] [--methods gradcam,...] [--scores]

Each count runs in a process of its own: `octoscope explain` of that many phantoms (a few dozen
different ones, repeated) of 128 x 256 pixels with a narrow, untrained ResNet-18, twelve methods by
default: eight of the target layer and four at the pixels. Every process first explains 64 scans
into another store, so that what is loaded once is not counted.

s/scan     wall time of `explain_run` per scan; CPU s/scan the same in processor time
peak       largest resident memory of the process; the cache of the scans is mapped from a file and
           counts where it was read (32 KiB per scan, twice that with masks)
own        memory of the process itself at the end, without mapped files
store      bytes on the disk per scan and method
read       reading one method's maps of all scans back at the size of the image

Goals: time per scan and own memory do not depend on the number of scans.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from octoscope.attribution.store import MapStore
from octoscope.data.cache import ScanCache
from octoscope.files import write_json
from octoscope.models.classifier import Classifier
from octoscope.models.network import build_network
from octoscope.models.preprocess import Preprocess
from octoscope.scans.framing import Framing
from octoscope.scans.phantom import write_study
from octoscope.scans.table import ScanTable
from octoscope.study.explain import explain_run
from octoscope.study.folder import RunFolder

HEIGHT, WIDTH, WARM = 128, 256, 64
METHODS = (
    "gradcam,gradcam++,hirescam,xgradcam,layercam,eigencam,eigengradcam,finercam,"
    "saliency,input_x_gradient,guided_backprop,deconvolution"
)
FRAMING = Framing(height=HEIGHT, width=WIDTH)


def prepare(folder: Path, most: int) -> None:
    """Write the pixels and masks of `most` scans, and an untrained model."""
    table = write_study(
        folder / "phantoms", patients=24, scans_per_patient=2, height=HEIGHT, width=WIDTH
    )
    cache = ScanCache.build(table, FRAMING, folder / "cache")
    rows = np.arange(most) % len(cache)
    np.save(folder / "images.npy", cache.images[rows])
    assert cache.masks is not None
    np.save(folder / "masks.npy", cache.masks[rows])
    frame = cache.table.frame.iloc[rows].assign(split="val", eye=None)
    frame["path"] = [f"{row}.png" for row in range(most)]
    frame["mask"] = frame["path"]
    frame.to_parquet(folder / "scans.parquet")
    classes = tuple(cache.table.classes)
    options = {"layers": [1, 1, 1, 1], "channels": [32, 64, 128, 256], "output_stride": 16}
    size = (HEIGHT, WIDTH)
    network = build_network("resnet18", len(classes), in_channels=1, image_size=size, **options)
    about = {"name": "resnet18", "in_channels": 1, "image_size": size, "options": options}
    preprocess = Preprocess(framing=FRAMING, channels=1, mean=(0.2,), std=(0.2,))
    Classifier(network, classes, preprocess, about).save(folder / "model")


def run_of(folder: Path, name: str) -> RunFolder:
    """Make the folder of a run of that model."""
    path = folder / "runs" / name
    write_json(path / "run.json", {"finished": True, "model": "resnet18", "seed": 0})
    (path / "model").symlink_to(folder / "model")
    return RunFolder.open(path)


def cache_of(folder: Path, count: int, *, masked: bool) -> ScanCache:
    """Map the pixels of the first `count` scans."""
    frame = pd.read_parquet(folder / "scans.parquet").iloc[:count]
    if not masked:
        frame = frame.assign(mask=None)
    table = ScanTable.from_frame(frame, folder, lesions={1: "a", 2: "b", 3: "c", 4: "d"})
    masks = np.load(folder / "masks.npy", mmap_mode="r")[:count] if masked else None
    images = np.load(folder / "images.npy", mmap_mode="r")[:count]
    return ScanCache(images, masks, table, FRAMING, pixels=str(count))


def measure(folder: Path, count: int, methods: list[str], precision: str, scores: bool) -> dict:
    """Explain `count` scans in this process."""
    options = {"precision": precision, "resamples": 20}

    def explained(name: str, number: int) -> RunFolder:
        run = run_of(folder, name)
        if not scores:
            run.predictions("val").touch()  # nothing reads them where there are no masks
        explain_run(run, cache_of(folder, number, masked=scores), methods, **options)
        return run

    explained(f"warm-{count}", WARM)
    begun, used = time.perf_counter(), time.process_time()
    run = explained(f"count-{count}", count)
    wall, cpu = time.perf_counter() - begun, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    own = next(
        int(line.split()[1]) / 1024
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("RssAnon")
    )
    stored = sum(path.stat().st_size for path in run.maps.rglob("*") if path.is_file())
    store, begun = MapStore.open(run.maps, read_only=True), time.perf_counter()
    store.read_rows(range(count), methods[-1], (HEIGHT, WIDTH))
    return {
        "wall": wall / count,
        "cpu": cpu / count,
        "peak": peak,
        "own": own,
        "store": stored / count / len(methods),
        "read": time.perf_counter() - begun,
    }


def main() -> None:
    """Measure every count in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[250, 500, 1000])
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--precision", default="float16")
    parser.add_argument("--scores", action="store_true", help="score against lesion masks too")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    methods = args.methods.split(",")
    if args.folder:
        (count,) = args.counts
        found = measure(args.folder, count, methods, args.precision, args.scores)
        print(json.dumps(found))
        return
    print(f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{len(methods)} methods, {HEIGHT} x {WIDTH}, {args.precision}")
    print("scans   s/scan  CPU s/scan  peak MiB  own MiB  store B  read s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, max(*args.counts, WARM))
        for count in args.counts:
            command = [sys.executable, __file__, "--folder", name, "--counts", str(count)]
            command += ["--methods", args.methods, "--precision", args.precision]
            command += ["--scores"] if args.scores else []
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{count:5}{found['wall']:9.4f}{found['cpu']:12.4f}{found['peak']:10.0f}"
                f"{found['own']:9.0f}{found['store']:9.0f}{found['read']:8.2f}"
            )


if __name__ == "__main__":
    main()
