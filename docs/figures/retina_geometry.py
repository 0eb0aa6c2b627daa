"""Draw the surfaces that `segment_retina` finds on real scans and on phantoms.

    python docs/figures/retina_geometry.py REAL_DATA docs/figures/retina_geometry.png

REAL_DATA holds ``kermany-lesions/`` and ``kermany-normal/``. The scans are spread evenly over the
sorted files, the phantoms are those of the first seeds; none is picked by eye.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from PIL import Image

from octoscope.scans.geometry import segment_retina
from octoscope.scans.phantom import CLASSES, PhantomBScan, draw_acquisition, draw_eye, render

REAL_COLUMNS, PHANTOM_COLUMNS = 4, 2
ASPECT = 2.0  # width over height of a panel
ILM, RPE, TRUE = "tab:orange", "tab:cyan", "white"
CAPTION = (
    "Real scans: Kermany, Goldbaum, Zhang, Mendeley Data rscbjbr9sj, CC BY 4.0, with lines drawn "
    "on them; disease scans as cropped by their annotators. Phantoms: octoscope, first seeds. "
    "Files evenly spaced, none picked by eye."
)


def real_scans(data: Path, label: str) -> list[np.ndarray]:
    """Return grey scans of a class, evenly spaced over its sorted files."""
    if label == "NORMAL":
        files = sorted((data / "kermany-normal").glob("NORMAL-*.png"))
    else:
        files = sorted((data / "kermany-lesions" / "images").glob(f"*/{label}/*.jpeg"))
    chosen = np.linspace(0, len(files) - 1, REAL_COLUMNS + 2).astype(int)[1:-1]
    return [np.asarray(Image.open(files[i]).convert("L")) for i in chosen]


def phantoms(label: str) -> list[PhantomBScan]:
    """Return phantoms of a class, two devices."""
    scans = []
    for seed, device in zip(range(PHANTOM_COLUMNS), ("spectralis", "cirrus"), strict=True):
        eye = draw_eye("figure", label, 0.0 if label == "NORMAL" else 0.7, seed, device=device)
        scans.append(render(eye, draw_acquisition(eye, 496, 768, seed)))
    return scans


def draw(axis: Axes, image: np.ndarray, truth: dict[str, np.ndarray] | None = None) -> None:
    """Show a scan around its retina with the surfaces found, and the true ones dotted."""
    layers = segment_retina(image)
    height, width = image.shape
    columns = np.arange(width)
    axis.imshow(image, cmap="gray", vmin=0, vmax=255, aspect="equal")
    shown = layers.valid
    axis.plot(columns[shown], layers.ilm[shown], color=ILM, linewidth=1.0)
    axis.plot(columns[shown], layers.rpe[shown], color=RPE, linewidth=1.0)
    if truth is not None:
        for name in ("ILM", "RPE base"):
            axis.plot(columns, truth[name], color=TRUE, linewidth=0.7, linestyle=(0, (1, 3)))
    top, _, bottom, _ = layers.band(image.shape)
    rows = width / ASPECT
    middle = (top + bottom) / 2 if rows < height else height / 2
    axis.set_ylim(middle + rows / 2, middle - rows / 2)
    axis.set_xlim(0, width)
    axis.set_facecolor("0.85")
    axis.set_xticks([])
    axis.set_yticks([])


def main() -> None:
    """Read the command line and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the real scans")
    parser.add_argument("out", type=Path, help="the figure, a PNG file")
    options = parser.parse_args()
    columns = REAL_COLUMNS + PHANTOM_COLUMNS
    figure, axes = plt.subplots(len(CLASSES), columns, figsize=(16, 6.2), squeeze=False)
    for row, label in zip(axes, CLASSES, strict=True):
        for axis, image in zip(row, real_scans(options.data, label), strict=False):
            draw(axis, image)
        for axis, scan in zip(row[REAL_COLUMNS:], phantoms(label), strict=True):
            draw(axis, scan.image, scan.surfaces)
        row[0].set_ylabel(label)
    figure.subplots_adjust(left=0.02, right=0.998, top=0.93, bottom=0.05, wspace=0.02, hspace=0.03)
    split = 0.02 + 0.978 * REAL_COLUMNS / columns
    figure.text(split / 2, 0.955, "real", ha="center", fontsize=13)
    figure.text((1 + split) / 2, 0.955, "phantom", ha="center", fontsize=13)
    figure.legend(
        handles=[
            Line2D([], [], color=ILM, label="ILM found"),
            Line2D([], [], color=RPE, label="RPE found"),
            Line2D([], [], color="0.4", linestyle=":", label="true (phantoms; drawn white)"),
        ],
        loc="upper left",
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    figure.text(0.02, 0.015, CAPTION, fontsize=8)
    figure.savefig(options.out, dpi=120)


if __name__ == "__main__":
    main()
