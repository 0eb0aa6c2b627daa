r"""Draw the methods of some families on one phantom and one real scan, lesions outlined.

    octoscope study docs/figures/methods.yaml
    octoscope study docs/figures/methods.yaml --data FOLDER --out studies/methods-real
    python docs/figures/methods.py studies/methods studies/methods-real \
        --model resnet18 --families cam --out docs/figures/cam.png

A scan is chosen by rule, the same for every figure: of the validation scans that all models of its
study tell right, the one with the largest lesions. Consensus is of the seven CAM methods.
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
from octoscope.attribution.maps import Maps
from octoscope.attribution.registry import METHODS
from octoscope.data.cache import ScanCache
from octoscope.evaluation.predictions import read_predictions
from octoscope.models.classifier import Classifier
from octoscope.report.figures.overlay import palette
from octoscope.study.config import CAM_METHODS
from octoscope.study.folder import RunFolder, StudyFolder

COLUMNS = 4
OUTLINE = "#39e600"


def chosen_row(runs: list[RunFolder], cache: ScanCache) -> int:
    """Return the cache row of the scan told right by all runs with the largest lesions."""
    right: set[str] | None = None
    for run in runs:
        said = read_predictions(run.predictions("val"))
        told = set(said.loc[said["label"] == said["predicted"], "scan"])
        right = told if right is None else right & told
    row_of = {path: row for row, path in enumerate(cache.table.frame["path"])}
    assert cache.masks is not None and right
    return max((row_of[path] for path in right), key=lambda row: int((cache.masks[row] != 0).sum()))


def show(axis: Axes, image: np.ndarray, mask: np.ndarray, title: str) -> None:
    """Show a scan with its lesions outlined."""
    axis.imshow(image, cmap="gray", vmin=0, vmax=255)
    axis.contour(mask != 0, [0.5], colors=OUTLINE, linewidths=0.9)
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])


def overlay(axis: Axes, values: np.ndarray, *, signed: bool) -> None:
    """Lay a map over its scan, zero where it is, with a colour bar."""
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


def wanted(families: list[str]) -> list[str]:
    """Return what to ask for: consensus needs methods to agree."""
    return [*CAM_METHODS, "consensus"] if "consensus" in families else families


def pictures(maps: Maps, families: list[str]) -> dict[str, np.ndarray]:
    """Return title → map of every method of the families; of heads, each one."""
    found: dict[str, np.ndarray] = {}
    for name in maps:
        method = METHODS[name]
        if method.family not in families:
            continue
        values = maps[name][0].numpy()
        if method.parts:
            found |= {f"{method.title}, {i + 1}": one for i, one in enumerate(values)}
        else:
            found[method.title] = values
    return found


def draw(study: Path, model: str, families: list[str], what: str) -> tuple[list, str]:
    """Return the cells to draw for a study: (image, mask, title, map or None, signed)."""
    runs = StudyFolder(study).runs
    cache = runs[0].open_cache()
    row = chosen_row(runs, cache)
    image, mask = np.array(cache.images[row]), np.array(cache.masks[row])
    run = next(run for run in runs if run.info["model"] == model)
    classifier = Classifier.load(run.model)
    maps = explain(classifier, torch.from_numpy(image)[None, None].float() / 255, wanted(families))
    target = int(maps.targets[0])
    name, probability = classifier.classes[target], float(maps.logits.softmax(1)[0, target])
    cells = [(image, mask, f"{what}: {name}, p = {probability:.2f}", None, False)]
    signed = {METHODS[key].title for key in maps if METHODS[key].signed}
    for title, values in pictures(maps, families).items():
        cells.append((image, mask, title, values, title in signed or bool((values < 0).any())))
    lesions = ", ".join(cache.table.lesions[value] for value in np.unique(mask) if value)
    return cells, f"{what}: {cache.table.frame['path'][row]} ({lesions})"


def main() -> None:
    """Read the command line and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phantom", type=Path, help="finished study of phantoms")
    parser.add_argument("real", type=Path, help="finished study of real scans with lesion masks")
    parser.add_argument("--model", default="resnet18", help="model of both studies")
    parser.add_argument("--families", nargs="+", default=["cam"])
    parser.add_argument("--out", type=Path, required=True, help="the figure, a PNG file")
    options = parser.parse_args()
    halves = [
        draw(study, options.model, options.families, what)
        for study, what in ((options.phantom, "phantom"), (options.real, "real scan"))
    ]
    count = len(halves[0][0])
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    height, width = halves[0][0][0][0].shape
    size = (3.4 * columns, (3.0 * height / width + 0.35) * 2 * rows)
    figure, axes = plt.subplots(
        2 * rows, columns, figsize=size, layout="constrained", squeeze=False
    )
    for half, (cells, _) in enumerate(halves):
        panels = axes[half * rows : (half + 1) * rows].ravel()
        for axis, (image, mask, title, values, signed) in zip(panels, cells, strict=False):
            show(axis, image, mask, title)
            if values is not None:
                overlay(axis, values, signed=signed)
        for axis in panels[len(cells) :]:
            axis.set_axis_off()
    figure.savefig(options.out, dpi=100)
    print(f"{options.out}\n" + "\n".join(said for _, said in halves))


if __name__ == "__main__":
    main()
