"""How many copies of scans the audit finds, and how many other pictures it takes for copies.

    python benchmarks/near_copies.py [--data FOLDER] [--patients 20] [--scans 2] [--seed 100]
                                     [--rounds 1]

Every scan of a set gets a changed copy, of the next kind in turn; all are searched together, as
`octoscope check` does. Recall is counted by kind of change. Every confirmed pair of two different
originals, or of a copy and another original, is a false one; they are counted by whose they are.

Sets: phantoms of two sizes and of another seed than the limits were set on, as they are, in one
round mask, on one screen, and at 28 × 28 pixels. With --data, which holds `kermany-lesions` and
`volumes` as in docs/data.md: the DRUSEN scans (the limits were set on CNV and DME), and of two
volumes every B-scan of the second half, which are neighbours of one eye.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from octoscope.scans.audit.copies import find_copies
from octoscope.scans.audit.measure import measure_all
from octoscope.scans.phantom import write_study
from octoscope.scans.readers import read_scan, to_grey, to_uint8

Picture = np.ndarray
RNG = np.random.default_rng(0)


def jpeg(image: Picture, quality: int) -> Picture:
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(content, "JPEG", quality=quality)
    return np.asarray(Image.open(content))


def resized(image: Picture, height: int, width: int) -> Picture:
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def cut(image: Picture, part: float) -> Picture:
    rows, columns = (round(part * length) for length in image.shape)
    return image[rows : len(image) - rows, columns : image.shape[1] - columns]


def cut_unevenly(image: Picture) -> Picture:
    height, width = image.shape
    top, bottom, left, right = RNG.uniform(0, 0.1, 4)
    return image[
        round(top * height) : height - round(bottom * height),
        round(left * width) : width - round(right * width),
    ]


def framed(image: Picture, grey: int) -> Picture:
    rows, columns = (round(0.1 * length) for length in image.shape)
    return np.pad(image, ((rows, rows), (columns, columns)), constant_values=grey)


def squared(image: Picture, grey: int) -> Picture:
    height, width = image.shape
    more = abs(width - height) // 2
    around = ((more, more), (0, 0)) if width > height else ((0, 0), (more, more))
    return np.pad(image, around, constant_values=grey)


def lettered(image: Picture) -> Picture:
    image = image.copy()
    image[round(0.9 * len(image)) :, : round(0.3 * image.shape[1])] = 255
    return image


def filtered(image: Picture, kernel: ImageFilter.Filter) -> Picture:
    return np.asarray(Image.fromarray(image).filter(kernel))


def turned(image: Picture, degrees: float) -> Picture:
    return np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR))


def noisy(image: Picture, sigma: float) -> Picture:
    return np.clip(image + RNG.normal(0, sigma, image.shape), 0, 255).astype(np.uint8)


KINDS: dict[str, Callable[[Picture], Picture]] = {
    "JPEG 95": lambda a: jpeg(a, 95),
    "JPEG 40": lambda a: jpeg(a, 40),
    "JPEG 10": lambda a: jpeg(a, 10),
    "half size": lambda a: resized(a, a.shape[0] // 2, a.shape[1] // 2),
    "224×224": lambda a: resized(a, 224, 224),
    "64×64": lambda a: resized(a, 64, 64),
    "28×28": lambda a: resized(a, 28, 28),
    "gamma 0.5": lambda a: (255 * (a / 255) ** 0.5).astype(np.uint8),
    "gain 1.5": lambda a: np.clip(a * 1.5, 0, 255).astype(np.uint8),
    "contrast 0.4": lambda a: (a * 0.4 + 70).astype(np.uint8),
    "equalised": lambda a: np.asarray(ImageOps.equalize(Image.fromarray(a))),
    "inverted": lambda a: 255 - a,
    "noise sd 10": lambda a: noisy(a, 10),
    "noise sd 25": lambda a: noisy(a, 25),
    "median of 5×5": lambda a: filtered(a, ImageFilter.MedianFilter(5)),
    "blurred by 2": lambda a: filtered(a, ImageFilter.GaussianBlur(2)),
    "text burnt in": lettered,
    "white frame": lambda a: framed(a, 255),
    "black frame, JPEG 75": lambda a: jpeg(framed(a, 0), 75),
    "padded to a square": lambda a: squared(a, 0),
    "white square, 224×224": lambda a: jpeg(resized(squared(a, 255), 224, 224), 85),
    "mirrored": lambda a: a[:, ::-1],
    "mirrored, 224×224": lambda a: jpeg(resized(a[:, ::-1], 224, 224), 75),
    "upside down": lambda a: a[::-1],
    "turned by 90°": np.rot90,
    "turned by 2°": lambda a: turned(a, 2),
    "turned by 5°": lambda a: turned(a, 5),
    "shifted by 4": lambda a: np.roll(a, 4, axis=1),
    "cut by 1 %": lambda a: cut(a, 0.01),
    "cut by 5 %": lambda a: cut(a, 0.05),
    "cut by 10 %": lambda a: cut(a, 0.1),
    "cut by 7 %, 224×224": lambda a: resized(cut(a, 0.07), 224, 224),
    "cut unevenly": cut_unevenly,
    "cut, mirrored": lambda a: cut(a, 0.05)[:, ::-1],
}


def masked(image: Picture) -> Picture:
    y, x = np.indices(image.shape)
    inside = (2 * y / len(image) - 1) ** 2 + (2 * x / image.shape[1] - 1) ** 2 < 0.85
    return np.where(inside, image, 0).astype(np.uint8)


def on_a_screen(image: Picture) -> Picture:
    height, width = image.shape
    screen = np.full((height + 130, width + 160), 45, np.uint8)
    letters = np.random.default_rng(9).random((14, 60)) < 0.5
    text = np.kron(letters, np.full((5, 6), 210, np.uint8))[:, : screen.shape[1]]
    screen[10 : 10 + len(text), : text.shape[1]] = text
    screen[-40:, ::9] = 230
    screen[90 : 90 + height, 80 : 80 + width] = image
    return screen


def sets(
    options: argparse.Namespace, folder: Path
) -> Iterator[tuple[str, list[Picture], list[str]]]:
    """Yield name, pictures and patient of each set."""
    for size, (height, width) in enumerate(((256, 384), (496, 512))):
        table = write_study(
            folder / f"{height}",
            patients=options.patients,
            scans_per_patient=options.scans,
            height=height,
            width=width,
            seed=options.seed + size,
            workers=1,
        )
        pictures = [to_uint8(to_grey(read_scan(path))) for path in table.paths]
        patients = table.frame["patient"].tolist()
        yield f"phantoms {height}×{width}", pictures, patients
        if size == 0:
            yield "phantoms, one round mask", [masked(a) for a in pictures], patients
            yield "phantoms, one screen", [on_a_screen(a) for a in pictures], patients
            yield "phantoms, 28×28", [resized(a, 28, 28) for a in pictures], patients
    if options.data is None:
        return
    files = sorted((options.data / "kermany-lesions" / "images").rglob("DRUSEN-*"))
    yield (
        "Kermany DRUSEN",
        [to_uint8(to_grey(read_scan(path))) for path in files],
        [path.name.split("-")[1] for path in files],
    )
    dense = sorted((options.data / "volumes" / "drusen-spectralis").glob("*.jpeg"))[73:]
    yield "dense volume", [to_uint8(to_grey(read_scan(path))) for path in dense], ["a"] * len(dense)
    hole = read_scan(options.data / "volumes" / "macular-hole" / "mh.tif").array
    yield "macular hole", list(hole), ["b"] * len(hole)


def changed(kind: str, image: Picture) -> Picture:
    return np.ascontiguousarray(KINDS[kind](image))


def search(
    folder: Path, pictures: list[Picture], patients: list[str], offset: int
) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Return copies by kind, those of them found, and false pairs by whose they are."""
    folder.mkdir()
    names = list(KINDS)
    kinds = [names[(i + offset) % len(names)] for i in range(len(pictures))]
    paths = []
    for name, some in (
        ("a", pictures),
        ("b", [changed(k, a) for k, a in zip(kinds, pictures, strict=True)]),
    ):
        for i, picture in enumerate(some):
            paths.append(folder / f"{name}{i:05d}.png")
            Image.fromarray(picture).save(paths[-1])
    scans = measure_all(paths)
    seen: set[str] = set()
    rows = []
    for i, scan in enumerate(scans):
        if scan.pixel_digest not in seen:
            seen.add(scan.pixel_digest)
            rows.append(i)
    found, false = Counter[str](), Counter[str]()
    n = len(pictures)
    for one, two in find_copies(scans, rows).confirmed.tolist():
        if one % n == two % n:
            found[kinds[one % n]] += 1
        else:
            same = patients[one % n] == patients[two % n]
            false["same patient" if same else "another patient"] += 1
    return Counter(kinds), found, false


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--patients", type=int, default=20)
    parser.add_argument("--scans", type=int, default=2)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    made, hits = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for place, (title, pictures, patients) in enumerate(sets(options, folder)):
            total, found, false = Counter[str](), Counter[str](), Counter[str]()
            for turn in range(options.rounds):
                parts = search(
                    folder / f"{place}-{turn}", pictures, patients, place * 7 + turn * 11
                )
                for sum_of, part in zip((total, found, false), parts, strict=True):
                    sum_of += part
            wrong = ", ".join(f"{many} of {whose}" for whose, many in false.items()) or "none"
            print(
                f"{title:26s} {len(pictures):4d} scans  copies found {found.total():4d} of "
                f"{total.total():4d}  other pairs called copies: {wrong}",
                flush=True,
            )
            if title not in ("phantoms, 28×28", "dense volume"):
                made += total
                hits += found
    print("by kind of change, without the 28×28 phantoms and the dense volume")
    for kind in KINDS:
        print(f"  {kind:24s} {hits[kind]:3d} of {made[kind]:3d}")


if __name__ == "__main__":
    main()
