"""Draw every CAM method on one phantom, with the lesions outlined.

    octoscope study docs/figures/methods.yaml
    python docs/figures/methods.py studies/methods docs/figures/methods.png

The scan is chosen by rule: of the validation scans that the study's first model tells right, the
one with the largest lesions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize

from octoscope.attribution.explain import explain
from octoscope.attribution.registry import METHODS
from octoscope.data.cache import ScanCache
from octoscope.evaluation.predictions import read_predictions
from octoscope.models.classifier import Classifier
from octoscope.report.figures.overlay import palette
from octoscope.study.folder import RunFolder, StudyFolder

COLUMNS = 4
OUTLINE = "#39e600"


def chosen_row(run: RunFolder, cache: ScanCache) -> int:
    """Return the cache row of the rightly predicted validation scan with the largest lesions."""
    said = read_predictions(run.predictions("val"))
    right = set(said.loc[said["label"] == said["predicted"], "scan"])
    row_of = {path: row for row, path in enumerate(cache.table.frame["path"])}
    assert cache.masks is not None
    rows = [row for path, row in row_of.items() if path in right]
    return max(rows, key=lambda row: int(np.count_nonzero(cache.masks[row])))


def show(axis: Axes, image: np.ndarray, mask: np.ndarray, title: str) -> None:
    """Show a scan with its lesions outlined."""
    axis.imshow(image, cmap="gray", vmin=0, vmax=255)
    axis.contour(mask != 0, [0.5], colors=OUTLINE, linewidths=0.9)
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])


def overlay(axis: Axes, values: np.ndarray) -> None:
    """Lay a map over its scan, zero where it is, with a colour bar."""
    signed = bool((values < 0).any())
    most = float(np.abs(values).max()) or 1.0
    drawn = axis.imshow(
        values,
        cmap=ListedColormap(palette(signed) / 255),
        norm=Normalize(-most if signed else 0, most),
        alpha=0.65,
    )
    bar = axis.figure.colorbar(drawn, cax=axis.inset_axes((1.02, 0, 0.03, 1)))
    ticks = [-most, 0, most] if signed else [0, most]
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks], fontsize=6)
    bar.outline.set_visible(False)


def main() -> None:
    """Read the command line and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="folder of a finished study with lesion masks")
    parser.add_argument("out", type=Path, help="the figure, a PNG file")
    options = parser.parse_args()
    run = RunFolder.open(StudyFolder(options.study).runs[0])
    cache = run.open_cache()
    row = chosen_row(run, cache)
    image, mask = np.array(cache.images[row]), np.array(cache.masks[row])
    classifier = Classifier.load(run.model)
    maps = explain(classifier, torch.from_numpy(image)[None, None].float() / 255, "all")
    target = int(maps.targets[0])
    probability = float(maps.logits.softmax(1)[0, target])

    rows = -(-(1 + len(maps)) // COLUMNS)
    height, width = image.shape
    size = (3.4 * COLUMNS, (3.0 * height / width + 0.35) * rows)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=size, layout="constrained", squeeze=False)
    panels = axes.ravel()
    claim = f"{classifier.classes[target]}, p = {probability:.2f}"
    show(panels[0], image, mask, f"phantom, {claim}")
    for axis, method in zip(panels[1:], maps, strict=False):
        known = METHODS[method]
        about = f"for {classifier.classes[target]}" if known.class_specific else "of no class"
        show(axis, image, mask, f"{known.title}, {about}")
        overlay(axis, maps[method][0].numpy())
    for axis in panels[1 + len(maps) :]:
        axis.set_axis_off()
    figure.savefig(options.out, dpi=120)
    lesions = [cache.table.lesions[value] for value in np.unique(mask) if value]
    print(f"{options.out}: {cache.table.frame['path'][row]} ({', '.join(lesions)})")


if __name__ == "__main__":
    main()
