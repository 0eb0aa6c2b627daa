"""Explain scan files: one figure per scan, or models, methods and heads beside one another."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from octoscope.attribution.registry import METHODS
from octoscope.errors import OctoscopeError
from octoscope.progress import tell
from octoscope.study.drawing import HEADS, Drawing, Wish
from octoscope.study.explained import Model, named
from octoscope.study.folder import RunFolder
from octoscope.study.lesion_masks import LesionMasks
from octoscope.study.occluded import OCCLUSION
from octoscope.study.scan_files import scan_files

MOST = 40
"""Scans that are drawn of one folder, unless more are asked for."""


def explain_files(runs: Sequence[RunFolder], images: Sequence[Path], wish: Wish) -> Iterator[Path]:
    """Draw figures of scan files, and give the path of each as soon as it is written.

    A scan that fails is told on the console and set aside; the others are still drawn. If there is
    but one scan, the error alone tells it.

    Args:
        runs: Finished runs, the models to compare.
        images: Scan files.
        wish: What to draw.

    Yields:
        Paths of PNG files.

    Raises:
        OctoscopeError: Before anything is drawn: if a class, method or figure is unknown or not
            defined for any of the models, or the folder cannot be written. After
            everything is drawn: if scans failed.
    """
    masks = LesionMasks.of(runs[0], wish.masks)
    models = load_models(runs, wish)
    kinds = {kind: able for kind in wish.kinds if (able := _able(kind, models, wish))}
    if not kinds:
        raise OctoscopeError("none of the figures is defined for these models")
    _require_writable(wish.out)
    drawing = Drawing(wish, models, kinds, telling=len(images) > 1)
    for path in images:
        yield from drawing.scan(path, masks)
    yield from drawing.pages()
    if drawing.failures:
        failed = "; ".join(drawing.failures)
        many = f"{len(drawing.failures)} failures with {len(images)} scans: "
        raise OctoscopeError((many if len(drawing.failures) > 1 else "") + failed)


def scans_to_draw(places: Sequence[Path], most: int = MOST) -> list[Path]:
    """Return the scans that files and folders stand for, of each folder at most so many.

    Args:
        places: Files, and folders with all scans below them.
        most: Scans of a folder; of more, as many are taken evenly in the order of their names.

    Raises:
        OctoscopeError: If a folder holds no scans.
    """
    if most < 1:
        raise OctoscopeError(f"most: {most} is no number of scans; use 1 or more")
    chosen: list[Path] = []
    for place, found in zip(places, scan_files(places), strict=True):
        for note in found.notes:
            tell(note)
        paths = found.paths
        if found.listed and len(paths) > most:
            even = np.linspace(0, len(paths) - 1, most).round().astype(int)
            paths = tuple(paths[one] for one in even)
            tell(
                f"{place}: holds {len(found.paths):,} scans, of which {most:,} are drawn, evenly "
                f"taken; --most {len(found.paths)} draws all"
            )
        chosen += paths
    return chosen


def _require_writable(out: Path) -> None:
    """Refuse a folder that cannot be made or written, before the work and without making it."""
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise OctoscopeError(f"{out}: cannot be written ({there} is a file); choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OctoscopeError(f"{out}: cannot be written (no permission); choose another --out")


def load_models(runs: Sequence[RunFolder], wish: Wish) -> list[Model]:
    """Load the models of runs, and tell which methods are left out for which.

    Raises:
        OctoscopeError: If a run stands twice, a class is unknown, or a method that was asked for
            by its own name is not defined for any of them.
    """
    places = [run.path.resolve() for run in runs]
    for run, place in zip(runs, places, strict=True):
        if places.count(place) > 1:
            raise OctoscopeError(f"{run.path}: stands twice; give each model once")
    alike = Counter(run.name for run in runs)
    names = [
        run.name if alike[run.name] == 1 else f"{place.parents[1].name}/{run.name}"
        for run, place in zip(runs, places, strict=True)
    ]
    asked = wish.methods if wish.across is None else [*_words(wish.methods), *wish.across]
    own = named(asked)[1]
    models = [
        Model.load(name, run, wish.target, wish.keys) for name, run in zip(names, runs, strict=True)
    ]
    for key in wish.keys:
        if key in own and all(key in model.refused for model in models):
            raise OctoscopeError(models[0].refused[key])
    for model in models:
        if model.refused:
            tell(f"{model.name}: left out {_grouped(model.refused)}")
    if wish.keys and not any(model.methods for model in models):
        raise OctoscopeError("none of the methods is defined for these models")
    return models


def _words(methods: str | Sequence[str]) -> Sequence[str]:
    return [methods] if isinstance(methods, str) else methods


def _grouped(refused: Mapping[str, str]) -> str:
    """Name what was refused, with each reason once."""
    by_reason: dict[str, list[str]] = {}
    for key, reason in refused.items():
        # The reason begins with the title of the method, which stands in front already.
        why = reason.removeprefix(f"{METHODS[key].title} is not defined here: ")
        by_reason.setdefault(why, []).append(key)
    return "; ".join(f"{', '.join(keys)} ({why})" for why, keys in by_reason.items())


def _able(kind: str, models: Sequence[Model], wish: Wish) -> list[Model]:
    """Return the models that a kind of figure is defined for, and tell of the others.

    Raises:
        OctoscopeError: If it was asked for by name and is defined for none.
    """
    checks: dict[str, Callable[[Model], object]] = {
        "occlusion": lambda model: model.require(OCCLUSION),
        "heads": lambda model: model.require(HEADS),
        "patches": lambda model: model.token_patch,
    }
    able, reasons = [], []
    for model in models:
        try:
            checks.get(kind, lambda _: None)(model)
            able.append(model)
        except OctoscopeError as error:
            reasons.append(str(error))
    if not able and not wish.all_kinds:
        raise OctoscopeError(f"no figure of {kind}: {reasons[0]}")
    for reason in reasons:
        tell(f"no figure of {kind}: {reason}")
    return able
