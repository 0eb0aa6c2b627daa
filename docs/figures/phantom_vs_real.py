"""Draw real B-scans and phantoms side by side, class by class.

    python docs/figures/phantom_vs_real.py REAL_DATA docs/figures/phantom_vs_real.png

REAL_DATA holds ``kermany-lesions/`` and ``kermany-normal/``. Phantoms are those of the first
seeds; none is picked by eye.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from octoscope.scans.phantom import CLASSES, draw_acquisition, draw_eye, render
from octoscope.scans.phantom.study import cut_through_lesion

COLUMNS = 3
ASPECT = 2.2  # width over height of a panel
FRAMES = ((496, 512, 5.8), (496, 768, 8.7), (496, 512, 5.8))  # rows, columns, mm: as Spectralis has
CAPTION = (
    "Real scans: Kermany, Goldbaum, Zhang, Mendeley Data rscbjbr9sj, CC BY 4.0 "
    "(disease scans as cropped by their annotators; all cropped and resized here). "
    "Phantoms: octoscope, spectralis profile, first seeds."
)


def real_scans(data: Path, label: str) -> list[np.ndarray]:
    """Return grey scans of a class whose shape suits a panel, spread over the patients."""
    if label == "NORMAL":
        files = sorted((data / "kermany-normal").glob("NORMAL-*.png"))
    else:
        files = sorted((data / "kermany-lesions" / "images" / "train" / label).glob("*.jpeg"))
    images = [np.asarray(Image.open(file).convert("L")) for file in files]
    low, high = (0.9, 1.7) if label == "NORMAL" else (1.6, 3.2)
    fit = [image for image in images if low < image.shape[1] / image.shape[0] < high]
    return [fit[i] for i in np.linspace(0, len(fit) - 1, COLUMNS + 2).astype(int)[1:-1]]


def phantoms(label: str) -> list[np.ndarray]:
    """Return phantoms of a class cut to the band of the retina, as the real ones are."""
    images = []
    for column, (height, width, field) in enumerate(FRAMES):
        seed = 10 * CLASSES.index(label) + column
        severity = np.random.default_rng(seed).uniform(0.4, 1.0)
        eye = draw_eye("figure", label, severity, seed, device="spectralis")
        draw = draw_acquisition if label == "NORMAL" else cut_through_lesion
        scan = render(eye, replace(draw(eye, height, width, seed), field=field))
        top = max(int(scan.surfaces["ILM"].min()) - 60, 0)
        images.append(scan.image[top : min(int(scan.surfaces["BM"].max()) + 90, 496)])
    return images


def panel(image: np.ndarray) -> np.ndarray:
    """Return the image cut or filled with black to the shape of a panel; nothing is stretched."""
    height, width = image.shape
    wanted = round(width / ASPECT)
    if height > wanted:
        # The retina is where the grey is; keep the rows around its middle.
        rows = np.where(image < 250, image, 0).astype(float).mean(axis=1)
        middle = int(np.average(np.arange(height), weights=rows**4))
        top = int(np.clip(middle - wanted // 2, 0, height - wanted))
        return image[top : top + wanted]
    return np.pad(image, ((0, wanted - height), (0, 0)))


def main() -> None:
    """Read the command line and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the real scans")
    parser.add_argument("out", type=Path, help="the figure, a PNG file")
    options = parser.parse_args()
    figure, axes = plt.subplots(
        len(CLASSES), 2 * COLUMNS, figsize=(15, 15 / 6 / ASPECT * 4 + 0.75), squeeze=False
    )
    for row, label in zip(axes, CLASSES, strict=True):
        for axis, image in zip(row, real_scans(options.data, label) + phantoms(label), strict=True):
            axis.imshow(panel(image), cmap="gray", vmin=0, vmax=255, aspect="equal")
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(label)
    figure.subplots_adjust(left=0.02, right=0.998, top=0.93, bottom=0.055, wspace=0.02, hspace=0.03)
    figure.text(0.26, 0.955, "real", ha="center", fontsize=13)
    figure.text(0.755, 0.955, "phantom", ha="center", fontsize=13)
    figure.text(0.02, 0.015, CAPTION, fontsize=8)
    figure.add_artist(
        plt.Line2D([0.5085, 0.5085], [0.05, 0.985], color="tab:orange", linewidth=1.5)
    )
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
