"""The grid of scans × models × methods: what each map shows, and what must be known to read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from octoscope.attribution.store import MapStore
from octoscope.attribution.store_check import DamagedMapsError
from octoscope.errors import OctoscopeError
from octoscope.report.figures.outline import lesion_paths
from octoscope.report.figures.overlay import gradient, overlay_png, scan_jpeg
from octoscope.report.files import RunFiles, StudyFiles
from octoscope.report.html import data_uri

MOST_BYTES = 10 * 2**20
"""Pictures of the grid as they stand in the page."""

MOSTLY_CLIPPED = 0.9
"""From this share of positions cut to zero by the method's ReLU a map carries a warning."""


@dataclass(eq=False)
class Panel:
    """One scan, with the maps of every model.

    Attributes:
        row: Row of the cache.
        name: Path of the scan in the table.
        label: True class, or None.
        reason: Why it is shown.
        image: Scan as data URI.
        size: ``(width, height)`` of the frame in pixels.
        outlines: Lesion paths, see `lesion_paths`.
        models: One entry per model: name, predicted, right, probabilities, explained, cells.
    """

    row: int
    name: str
    label: str | None
    reason: str
    image: str
    size: tuple[int, int]
    outlines: list[dict[str, str]]
    models: list[dict[str, Any]] = field(default_factory=list)


def explanations_section(study: StudyFiles, most: int | None = None) -> dict[str, Any] | None:
    """Return what the template shows, None if there are no maps, panels or cached scans.

    Of several seeds of a model the first is shown. The first scan is shown whatever its size.

    Args:
        study: The study.
        most: Bytes that pictures may take, as they stand in the page; at most `MOST_BYTES`.
    """
    most = MOST_BYTES if most is None else min(most, MOST_BYTES)
    runs = [seeds[0] for seeds in study.models.values()]
    runs = [run for run in runs if run.panels and run.maps is not None]
    if not runs or study.cache is None:
        return None
    methods = _methods(study, runs)
    signed = diverging(study, runs, [method["key"] for method in methods])
    panels: list[Panel] = []
    used = 0
    wanted = [entry for entry in runs[0].panels if 0 <= int(entry["row"]) < len(study.cache)]
    for entry in wanted:
        if panels and used >= most:
            break
        panel, size = _panel(study, runs, entry, signed)
        panels.append(panel)
        used += size
    lesions = {o["name"]: o["colour"] for panel in panels for o in panel.outlines}
    return {
        "panels": panels,
        "methods": methods,
        "models": [run.model for run in runs],
        "labels": [c for c in study.classes if any(panel.label == c for panel in panels)],
        "lesions": lesions,
        "has_masks": study.cache.masks is not None,
        "left_out": len(wanted) - len(panels),
        "seeds": {run.model: run.seed for run in runs if len(study.models[run.model]) > 1},
        "any_signed": any(cell["signed"] for cell in _cells(panels)),
        "any_unsigned": any(not cell["signed"] for cell in _cells(panels)),
        "gradients": {"unsigned": gradient(False), "signed": gradient(True)},
    }


def _methods(study: StudyFiles, runs: list[RunFiles]) -> list[dict[str, str]]:
    """Return the methods that any run has maps of: as the config names them, then as they come.

    Null maps are there for the scoreboard; they are shown only if they were asked for.
    """
    asked = study.about.get("config", {}).get("explain", {}).get("methods") or []
    about = study.methods  # in the order of the registry
    aside = {name for name, row in about.items() if row.get("family") == "null"}
    if not {"null", "all"}.isdisjoint([asked] if isinstance(asked, str) else asked):
        aside = set()
    names = dict.fromkeys(name for run in runs if run.maps for name in run.maps.methods)
    there = [name for name in names if name in asked or name not in aside]
    order = list(dict.fromkeys(name for name in [*asked, *about, *there] if name in there))
    return [
        {
            "key": name,
            "title": study.title(name),
            "sentence": str(about.get(name, {}).get("sentence", "")),
            "paper": str(about.get(name, {}).get("paper", "")),
        }
        for name in order
    ]


def _panel(
    study: StudyFiles, runs: list[RunFiles], entry: dict[str, Any], signed: dict[str, bool]
) -> tuple[Panel, int]:
    """Return one panel and the bytes that its pictures take in the page."""
    cache = study.cache
    assert cache is not None
    row = int(entry["row"])
    picture = data_uri(scan_jpeg(cache.images[row])[0], "image/jpeg")
    height, width = cache.images.shape[1:]
    outlines = []
    if cache.masks is not None and cache.has_mask[row]:
        outlines = lesion_paths(np.asarray(cache.masks[row]), dict(cache.table.lesions))
    panel = Panel(
        row,
        str(entry["scan"]),
        entry.get("label"),
        str(entry.get("reason") or ""),
        picture,
        (width, height),
        outlines,
    )
    used = len(picture)
    for run in runs:
        said = next((other for other in run.panels if int(other["row"]) == row), None)
        if said is None or run.maps is None:
            continue
        cells = [
            map_cell(run.maps, row, method, study.classes, said["predicted"]) for method in signed
        ]
        for cell in cells:
            used += draw_cell(cell, (height, width), signed[cell["method"]])
        probabilities = [
            {"name": name, "value": said["probabilities"].get(name)} for name in study.classes
        ]
        panel.models.append(
            {
                "name": run.model,
                "predicted": said["predicted"],
                "right": said["predicted"] == panel.label,
                "probabilities": probabilities,
                "explained": sorted({c["explained"] for c in cells if c["explained"]}),
                "cells": cells,
            }
        )
    return panel, used


def diverging(study: StudyFiles, runs: list[RunFiles], methods: list[str]) -> dict[str, bool]:
    """Say of each method whether its colours diverge from zero: one scale per method.

    They do where the method is signed by its definition, whatever the maps shown, and where a map
    has negative values all the same (older studies do not say what their methods are).
    """
    out = {method: bool(study.methods.get(method, {}).get("signed")) for method in methods}
    for run in runs:
        for entry in run.panels:
            for method in methods:
                if not out[method]:
                    found = _stored(run.maps, int(entry["row"]), method)
                    out[method] = found is not None and bool((found[0] < 0).any())
    return out


def _stored(
    store: MapStore | None, row: int, method: str
) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
    """Return a map with its record, None if this scan was not explained by this method."""
    if store is None:
        return None
    try:
        return store.read_with_record(row, method)
    except DamagedMapsError:
        raise
    except OctoscopeError:
        return None


def map_cell(
    store: MapStore, row: int, method: str, classes: list[str], predicted: str
) -> dict[str, Any]:
    """Return one map: explained class, range, warning, and its values if they can be drawn."""
    out: dict[str, Any] = {
        "method": method, "explained": None, "range": "", "warning": "no map", "values": None,
    }  # fmt: skip
    found = _stored(store, row, method)
    if found is None:
        return out
    values, record = found
    if record["target"].max(initial=-1) >= len(classes):
        raise OctoscopeError(
            f"{store.path}: explains class {record['target'].max()}, and the study has "
            f"{len(classes)}; delete that folder and explain anew"
        )
    if record["target"].ndim and (record["target"] < 0).all():  # of parts, such as heads: the mean
        values = values.mean(axis=0)
        record = {key: column.min(axis=0) for key, column in record.items()}
    elif record["target"].ndim:  # several classes: show the predicted one, else the first
        names = [classes[target] for target in record["target"].tolist()]
        place = names.index(predicted) if predicted in names else 0
        values = values[place]
        record = {key: column[place] for key, column in record.items()}
    if record["target"] >= 0:
        out["explained"] = classes[int(record["target"])]
    if bool(record["nonfinite"]) or not np.isfinite(values).all():
        return {**out, "warning": "holds NaN or infinite values"}
    if bool(record["all_zero"]) or not values.any():
        return {**out, "warning": "zero everywhere: nothing to show"}
    clipped = float(record["clipped_fraction"])
    mostly = f"{100 * clipped:.0f} % of it was negative and cut off"
    return {
        **out,
        "range": f"{values.min():.3g} to {values.max():.3g}",
        "warning": mostly if clipped >= MOSTLY_CLIPPED else None,
        "values": values,
    }


def draw_cell(cell: dict[str, Any], size: tuple[int, int], signed: bool) -> int:
    """Replace the values of a cell by their picture and return its bytes in the page."""
    values = cell.pop("values")
    cell.update(image=None, signed=signed)
    if values is None:
        return 0
    cell["image"] = data_uri(overlay_png(values, size, signed=signed), "image/png")
    return len(cell["image"])


def _cells(panels: list[Panel]) -> list[dict[str, Any]]:
    return [
        cell
        for panel in panels
        for model in panel.models
        for cell in model["cells"]
        if cell["image"]
    ]
