"""How fast, and how exactly, the retina is found, and how fast scans are framed.

    python benchmarks/geometry_speed.py [--seeds 4] [--repeats 3]

Phantoms of 496 × 768 of every class and device; one thread. Goals: 50 B-scans/s segmented,
500/s padded to 224 × 224; mean absolute error of at most 3 pixels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from octoscope.scans.borders import frame_border
from octoscope.scans.framing import Framing, frame_image
from octoscope.scans.geometry import RetinaLayers, segment_retina
from octoscope.scans.phantom import CLASSES, PhantomBScan, draw_acquisition, draw_eye, render

HEIGHT, WIDTH = 496, 768
DEVICES = ("spectralis", "cirrus", "topcon")


def phantoms(seeds: int) -> list[PhantomBScan]:
    """Return B-scans of all classes and devices, severities from 0.3 to 1."""
    scans = []
    for label in CLASSES:
        for device in DEVICES:
            for seed, severity in enumerate(np.linspace(0.3, 1.0, seeds)):
                grown = 0.0 if label == "NORMAL" else float(severity)
                eye = draw_eye("bench", label, grown, 1000 + seed, device=device)
                scans.append(render(eye, draw_acquisition(eye, HEIGHT, WIDTH, 2000 + seed)))
    return scans


def rate(work: Callable[[np.ndarray], object], images: list[np.ndarray], repeats: int) -> float:
    """Return images per second, the best of some rounds."""
    work(images[0])
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        for image in images:
            work(image)
        seconds.append(time.perf_counter() - start)
    return len(images) / min(seconds)


def error_row(name: str, scans: list[PhantomBScan], found: list[RetinaLayers]) -> str:
    """Return one line: mean absolute error and 95th percentile of both surfaces, in pixels."""
    ilm = [np.abs(f.ilm - s.surfaces["ILM"]) for s, f in zip(scans, found, strict=True)]
    rpe = [
        np.abs(f.rpe - np.minimum(s.surfaces["RPE base"], HEIGHT - 0.5))
        for s, f in zip(scans, found, strict=True)
    ]
    cells = [f"{np.mean(e):6.2f} {np.quantile(e, 0.95):6.2f}" for e in (ilm, rpe)]
    return f"{name:<12} {len(scans):>5}   {cells[0]}   {cells[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4, help="scans of each class and device")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds; the best counts")
    options = parser.parse_args()
    scans = phantoms(options.seeds)
    images = [scan.image for scan in scans]
    size = f"{HEIGHT}x{WIDTH}"
    for name, work, goal in (
        ("segment_retina", segment_retina, 50),
        ("frame_border", frame_border, None),
        ("frame_image pad 224x224", lambda i: frame_image(i, Framing()), 500),
        ("frame_image band 128x256", lambda i: frame_image(i, Framing(128, 256, "band")), None),
    ):
        said = f" (goal {goal}/s)" if goal else ""
        print(f"{name} {size}: {rate(work, images, options.repeats):.0f}/s on one core{said}")

    found = [segment_retina(image) for image in images]
    print(f"\nerror in pixels at {HEIGHT} rows (goal: mean at most 3)")
    print(f"{'':<12} {'scans':>5}   {'ILM mean':>8} {'p95':>4}   {'RPE mean':>8} {'p95':>4}")
    for label in CLASSES:
        chosen = [i for i, scan in enumerate(scans) if scan.label == label]
        print(error_row(label, [scans[i] for i in chosen], [found[i] for i in chosen]))
    for device in DEVICES:
        chosen = [i for i, scan in enumerate(scans) if scan.device == device]
        print(error_row(device, [scans[i] for i in chosen], [found[i] for i in chosen]))
    print(error_row("all", scans, found))


if __name__ == "__main__":
    main()
