"""How well en-face pictures and label masks are told from B-scans, by source.

    python benchmarks/picture_kinds.py --real REAL_DATA [--half 1] [--drawn 40]

The limits of `octoscope.scans.audit.kind` were set on the sources marked "set". The others are cut
in two by a hash of the name of their file, volume or seed: half 0 was looked at and served to mend,
half 1 judges.

REAL_DATA holds ``kermany-lesions/``, ``kermany-normal/``, ``octa/``, ``volumes/`` and ``vendor/``.
"""

from __future__ import annotations

import argparse
import io
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from octoscope.scans.audit.kind import kind_of
from octoscope.scans.phantom import CLASSES, draw_acquisition, draw_eye, render
from octoscope.scans.phantom.artefacts import Marked, clipped, faint, registered, with_exudates
from octoscope.scans.readers import read_scan, to_grey, to_uint8

Picture = tuple[str, str, str, np.ndarray]
"""What it is, its source, the name that is hashed, and ``(H, W)`` or ``(H, W, 3)`` uint8."""
DEVICES = ("spectralis", "cirrus", "topcon")
QUALITIES = (50, 75, 90, 95)
SET = " (set)"
Rng = np.random.Generator


def grey8(path: Path) -> np.ndarray:
    """Read a picture as the audit does."""
    return to_uint8(to_grey(read_scan(path)))


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Save as JPEG and read as grey."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream).convert("L"))


def stretched(values: np.ndarray) -> np.ndarray:
    """Scale to the whole range of uint8."""
    low, high = np.percentile(values, [0.5, 99.5])
    return (255 * ((values - low) / max(high - low, 1e-6)).clip(0, 1)).astype(np.uint8)


def known(data: Path) -> Iterator[Picture]:
    """Yield the pictures on which the limits were set."""
    for path in sorted((data / "kermany-lesions/images").rglob("*.jpeg")):
        yield "B-scan", "Kermany" + SET, path.stem, grey8(path)
    for path in sorted((data / "kermany-normal").glob("*.png")):
        yield "B-scan", "Kermany" + SET, path.stem, grey8(path)
    for path in sorted((data / "volumes/drusen-spectralis").glob("*.jpeg")):
        yield "B-scan", "volumes" + SET, path.stem, grey8(path)
    for path in sorted((data / "octa").rglob("*.*")):
        if "label" not in str(path).lower() and "planes" not in path.parts:
            yield "en-face", "OCTA" + SET, path.stem, grey8(path)
    for path in sorted((data / "kermany-lesions/masks").rglob("*.png")):
        yield "mask", "lesion masks" + SET, path.stem, np.asarray(Image.open(path))


def volumes(data: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and ``(Z, H, W)`` of the volumes."""
    files = sorted((data / "volumes/drusen-spectralis").glob("*.jpeg"))
    yield "drusen", np.stack([grey8(path) for path in files])
    pages = Image.open(data / "volumes/macular-hole/mh.tif")
    frames = []
    for page in range(getattr(pages, "n_frames", 1)):
        pages.seek(page)
        frames.append(np.asarray(pages.convert("L")))
    yield "macular hole", np.stack(frames)


def from_volumes(data: Path) -> Iterator[Picture]:
    """Yield projections and depth planes of volumes, and their B-scans across the slow axis."""
    for name, volume in volumes(data):
        slices, depth, width = volume.shape
        for first in range(0, depth, depth // 5):
            slab = volume[:, first : first + depth // 5].astype(np.float32)
            if slab.std() < 12:
                continue  # vitreous alone: noise, which is neither
            for how in (
                slab.mean(axis=1),
                slab.max(axis=1),
                slab[:, depth // 10],
                slab.std(axis=1),
            ):
                plane = stretched(ndimage.zoom(how, (max(1, width / slices), 1), order=1))
                yield "en-face", "planes of volumes", name, plane
        for column in range(width // 16, width, width // 8):
            across = volume[:, :, column].T
            yield "B-scan", "slow axis of volumes", name, np.ascontiguousarray(across)
            wide = Image.fromarray(across).resize((depth, depth), Image.Resampling.BILINEAR)
            yield "B-scan", "slow axis of volumes", name, np.asarray(wide)
        for index in range(0, slices, slices // 12):
            yield "B-scan", "B-scans, small JPEG", name, as_jpeg(volume[index, ::2, ::2], 40)


def vol_file(path: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """Read the fundus picture and the B-scans of a Heidelberg HSF-OCT file."""
    content = path.read_bytes()
    width, count, height = struct.unpack_from("<3i", content, 12)
    slo_width, slo_height = struct.unpack_from("<2i", content, 48)
    (header,) = struct.unpack_from("<i", content, 100)
    start = 2048 + slo_width * slo_height
    slo = np.frombuffer(content, np.uint8, slo_width * slo_height, 2048)
    scans = []
    for _ in range(count):
        values = np.frombuffer(content, "<f4", width * height, start + header)
        values = np.where((values < 0) | (values > 1), 0, values).reshape(height, width)
        scans.append((255 * values**0.25).astype(np.uint8))
        start += header + 4 * width * height
    return slo.reshape(slo_height, slo_width), scans


def from_vendors(data: Path) -> Iterator[Picture]:
    """Yield B-scans and fundus pictures of vendor files."""
    folder = data / "vendor"
    # The files of eyepy's tests are left out: they hold random numbers, not pictures.
    files = [path for path in sorted(folder.rglob("*.*")) if "eyepy" not in path.parts]
    for path in (path for path in files if path.suffix == ".vol"):
        slo, scans = vol_file(path)
        yield "en-face", "SLO of vendor files", path.stem, slo
        for number, scan in enumerate(scans):
            yield "B-scan", "vendor files", f"{path.stem} {number}", scan
    for path in (path for path in files if path.suffix == ".tif"):
        yield "B-scan", "vendor files", path.stem, grey8(path)


def branch(canvas: np.ndarray, rng: Rng, at: np.ndarray, angle: float, width: float) -> None:
    """Draw a vessel that wanders, tapers and divides."""
    while width > 0.8:
        step = np.array([np.sin(angle), np.cos(angle)])
        at = at + 2 * step
        angle += rng.normal(0, 0.12)
        row, column = np.rint(at).astype(int)
        reach = int(np.ceil(width))
        if not (reach <= row < len(canvas) - reach and reach <= column < canvas.shape[1] - reach):
            return
        canvas[row - reach + 1 : row + reach, column - reach + 1 : column + reach] = 1
        width *= 0.994
        if rng.uniform() < 0.03:
            width *= 0.8
            branch(canvas, rng, at, angle + rng.choice([-1, 1]) * rng.uniform(0.4, 1), 0.8 * width)


def fundus(rng: Rng, side: int) -> np.ndarray:
    """Draw a fundus photograph: a disc, vessels out of it, a dim fovea, often a round frame."""
    row, column = np.indices((side, side)) / side
    disc = np.array([rng.uniform(0.35, 0.65), rng.choice([rng.uniform(0.1, 0.3), 0.75])])
    vessels = np.zeros((side, side), np.float32)
    for angle in rng.uniform(0, 2 * np.pi, rng.integers(5, 10)):
        branch(vessels, rng, disc * side, angle, side / rng.uniform(60, 120))
    light = 110 + 50 * rng.normal() * (row - 0.5) + 50 * rng.normal() * (column - 0.5)
    light += 90 * np.exp(-((row - disc[0]) ** 2 + (column - disc[1]) ** 2) / 0.004)
    light -= 40 * np.exp(-((row - 0.5) ** 2 + (column - 0.5) ** 2) / 0.01)
    image = light - rng.uniform(25, 60) * ndimage.gaussian_filter(vessels, 1)
    image += rng.normal(0, rng.uniform(2, 12), image.shape)
    if rng.uniform() < 0.5:
        image[(row - 0.5) ** 2 + (column - 0.5) ** 2 > 0.24] = 3
    return image.clip(0, 255).astype(np.uint8)


def angiogram(rng: Rng, side: int) -> np.ndarray:
    """Draw an angiogram: a net of capillaries round an avascular zone, and motion lines."""
    net = ndimage.gaussian_filter(rng.normal(size=(side, side)), side / rng.uniform(60, 120))
    image = 150 * np.exp(-((net / net.std() / 0.25) ** 2))
    row, column = np.indices((side, side)) / side - 0.5
    image *= row**2 + column**2 > rng.uniform(0.002, 0.01)
    image += rng.gamma(3, rng.uniform(5, 20), image.shape)
    image[rng.integers(side, size=rng.integers(0, 6))] += 60
    return image.clip(0, 255).astype(np.uint8)


def thickness_map(rng: Rng, side: int) -> np.ndarray:
    """Draw a map of retinal thickness: a ring round the fovea and smooth swellings."""
    row, column = np.indices((side, side)) / side - 0.5
    radius = np.hypot(row, column)
    values = np.exp(-(((radius - 0.18) / 0.12) ** 2)) - 0.5 * radius
    values += ndimage.gaussian_filter(rng.normal(size=(side, side)), side / 12) * side / 50
    return stretched(values + rng.normal(0, 0.01, values.shape))


def drawn(count: int) -> Iterator[Picture]:
    """Yield drawn en-face pictures, phantoms with faults, and their masks."""
    for seed in range(count):
        rng, name = np.random.default_rng([seed, 90]), f"seed {seed}"
        side = int(rng.integers(160, 700))
        for draw in (fundus, angiogram, thickness_map):
            yield "en-face", f"drawn: {draw.__name__.replace('_', ' ')}", name, draw(rng, side)
        label, device = CLASSES[seed % 4], DEVICES[seed // 4 % 3]
        severity = 0.0 if label == "NORMAL" else float(rng.uniform(0.3, 1))
        eye = draw_eye("kinds", label, severity, 900 + seed, device=device)
        height, width = ((256, 384), (200, 200), (160, 480), (384, 256))[seed // 12 % 4]
        phantom = render(eye, draw_acquisition(eye, height, width, 900 + seed))
        scan = Marked.of_phantom(phantom)
        tilt = {"degrees": rng.uniform(-15, 15), "fill": int(rng.choice([0, 12, 90, 255]))}
        for planted in (
            scan,
            registered(scan, quality=60, **tilt),  # type: ignore[arg-type]
            with_exudates(scan, rng, count=10),
            faint(scan, rng, share=0.25),
            clipped(scan, below=0.4),
        ):
            yield "B-scan", "phantoms with faults", name, planted.image
        layers = np.stack([s for _, s in sorted(phantom.surfaces.items())])
        rows = np.arange(height)[:, None]
        label_map = sum((rows > s).astype(np.uint8) for s in layers)
        yield from as_saved("mask", "layer maps", name, np.asarray(label_map, np.uint8), rng)
        blobs = ndimage.gaussian_filter(rng.normal(size=(height, width)), 8)
        cuts = np.quantile(blobs, [0.85, 0.95, 0.985])[: 1 + seed % 3]
        yield from as_saved("mask", "blobs", name, np.digitize(blobs, cuts).astype(np.uint8), rng)


def as_saved(what: str, source: str, name: str, mask: np.ndarray, rng: Rng) -> Iterator[Picture]:
    """Yield a mask as it is, as values far apart, as colours, as JPEG, and resized smoothly."""
    top = max(int(mask.max()), 1)
    apart = (mask * (255 // top)).astype(np.uint8)
    palette = rng.integers(0, 256, (top + 1, 3)).astype(np.uint8)
    palette[0] = 0
    colours = palette[mask]
    yield what, f"{source}, PNG", name, mask
    yield what, f"{source}, PNG", name, apart
    yield what, f"{source}, coloured", name, np.asarray(Image.fromarray(colours).convert("L"))
    quality = QUALITIES[rng.integers(len(QUALITIES))]
    yield what, f"{source}, JPEG", name, as_jpeg(apart, quality)
    yield what, f"{source}, JPEG", name, as_jpeg(colours, quality)
    shape = tuple(int(side * rng.uniform(0.5, 1.5)) for side in mask.shape[::-1])
    small = Image.fromarray(apart).resize(shape, Image.Resampling.BILINEAR)
    yield what, f"{source}, resized smoothly", name, np.asarray(small)


def masks(data: Path) -> Iterator[Picture]:
    """Yield the masks of the angiograms as they are saved, and lesion masks as others save them."""
    for path in sorted((data / "octa").rglob("*.*")):
        if "label" in str(path.parent).lower():
            rng = np.random.default_rng(zlib.crc32(path.stem.encode()))
            yield from as_saved("mask", "vessel masks", path.stem, grey8(path), rng)
    for path in sorted((data / "kermany-lesions/masks").rglob("*.png"))[::8]:
        rng = np.random.default_rng(zlib.crc32(path.stem.encode()))
        for row in as_saved("mask", "lesion masks", path.stem, np.asarray(Image.open(path)), rng):
            if not row[1].endswith("PNG"):  # as they are, they are among the known ones
                yield row


def half_of(name: str) -> int:
    """Return to which half a file, volume or seed belongs."""
    return zlib.crc32(name.encode()) % 2


def table(pictures: Iterable[Picture], half: int) -> None:
    """Print what every source was taken for; `half` is that of the sources not marked set."""
    taken: dict[tuple[str, str], Counter[str]] = {}
    for what, source, name, image in pictures:
        if source.endswith(SET) or half_of(name) == half:
            taken.setdefault((what, source), Counter())[kind_of(image)] += 1
    print(f"{'is':<9}{'source':<34}{'n':>5}{'right':>7}   taken for")
    right: Counter[tuple[str, bool]] = Counter()
    all_of: Counter[tuple[str, bool]] = Counter()
    for (what, source), kinds in sorted(taken.items()):
        wrong = ", ".join(f"{kind} {n}" for kind, n in kinds.items() if kind != what)
        print(f"{what:<9}{source:<34}{kinds.total():>5}{kinds[what]:>7}   {wrong}")
        key = what, source.endswith(SET)
        right[key] += kinds[what]
        all_of[key] += kinds.total()
    for (what, was_set), n in sorted(all_of.items()):
        name = f"all {'set' if was_set else f'half {half}'}"
        print(f"{what:<9}{name:<34}{n:>5}{right[what, was_set]:>7}")


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, help="folder of the real scans")
    parser.add_argument("--half", type=int, choices=(0, 1), default=1, help="1 judges")
    parser.add_argument(
        "--drawn", type=int, default=40, help="seeds of drawn pictures, both halves"
    )
    options = parser.parse_args()
    pictures = list(drawn(options.drawn))
    if options.real:
        for source in (known, from_volumes, from_vendors, masks):
            pictures += source(options.real)
    table(pictures, options.half)


if __name__ == "__main__":
    main()
