r"""Draw the methods of some families on one phantom and one real scan, lesions outlined.

    octoscope study docs/figures/methods.yaml
    octoscope study docs/figures/methods.yaml --data FOLDER --out studies/methods-real
    python docs/figures/methods.py studies/methods studies/methods-real \
        --model resnet18 --families cam --out docs/figures/cam.jpg

A scan is chosen by rule, the same for every figure: of the validation scans that all models of its
study tell right, the one with the largest lesions. Consensus is of the seven CAM methods.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from octoscope.attribution.explain import explain
from octoscope.attribution.maps import Maps
from octoscope.attribution.registry import METHODS
from octoscope.data.cache import ScanCache
from octoscope.evaluation.predictions import read_predictions
from octoscope.models.classifier import Classifier
from octoscope.report.figures.cells import Cell, Map, Scan, map_picture, scan_picture
from octoscope.report.figures.sheet import Strip, sheet_png
from octoscope.study.config import CAM_METHODS
from octoscope.study.folder import RunFolder, StudyFolder

COLUMNS = 5


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


def wanted(families: list[str]) -> list[str]:
    """Return what to ask for: consensus needs methods to agree."""
    return [*CAM_METHODS, *families] if "consensus" in families else families


def drawn(maps: Maps, families: list[str]) -> list[Map]:
    """Return every map of the families; of heads, each one."""
    found = []
    for name in maps:
        method, values = METHODS[name], maps.native[name][0].numpy()
        if method.family not in families:
            continue
        parts = values if method.parts else [values]
        titles = [f"{method.title}, {i + 1}" for i in range(len(parts))]
        found += [
            Map(title if method.parts else method.title, one, signed=method.signed)
            for title, one in zip(titles, parts, strict=True)
        ]
    return found


def cells_of(study: Path, model: str, families: list[str], what: str) -> list[Cell]:
    """Return the cells to draw for a study: the scan and its maps."""
    runs = [RunFolder.open(path) for path in StudyFolder(study).runs]
    cache = runs[0].open_cache()
    row = chosen_row(runs, cache)
    image, mask = np.array(cache.images[row]), np.array(cache.masks[row])
    lesions = {int(value): cache.table.lesions[value] for value in np.unique(mask) if value}
    scan = Scan(image, mask, lesions)
    run = next(run for run in runs if run.info["model"] == model)
    classifier = Classifier.load(run.model)
    maps = explain(classifier, torch.from_numpy(image)[None, None].float() / 255, wanted(families))
    target = int(maps.targets[0])
    name, probability = classifier.classes[target], float(maps.logits.softmax(1)[0, target])
    print(f"{what}: {cache.table.frame['path'][row]}, {model}")
    first = scan_picture(scan, what, f"explained: {name}, p = {probability:.2f}")
    return [first, *(map_picture(scan, seen) for seen in drawn(maps, families))]


def main() -> None:
    """Read the command line and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phantom", type=Path, help="finished study of phantoms")
    parser.add_argument("real", type=Path, help="finished study of real scans with lesion masks")
    parser.add_argument("--model", default="resnet18", help="model of both studies")
    parser.add_argument("--families", nargs="+", default=["cam"])
    parser.add_argument("--out", type=Path, required=True, help="the figure, a JPEG file")
    options = parser.parse_args()
    strips = []
    for study, what in ((options.phantom, "phantom"), (options.real, "real scan")):
        cells = cells_of(study, options.model, options.families, what)
        strips += [Strip(cells[i : i + COLUMNS]) for i in range(0, len(cells), COLUMNS)]
    titles = " and ".join(options.families)
    drawing = Image.open(io.BytesIO(sheet_png(strips, title=f"{titles} methods, {options.model}")))
    drawing.convert("RGB").save(options.out, quality=88, optimize=True)
    print(options.out)


if __name__ == "__main__":
    main()
