"""What the frame alone gives away: a small model that never sees a retina, beside the network.

It sees numbers about the frame as the network gets it, all taken outside of the retina (disease
changes the brightness inside), and what the table says of how a scan was taken. What it scores
above chance, the network can score without having looked at the disease.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from octoscope.scans.audit.baseline import frame_baseline
from octoscope.scans.borders import frame_border
from octoscope.scans.geometry.zones import content_box, corner_areas
from octoscope.trust.probes.effect import (
    Effect,
    balanced_accuracy,
    classes_of,
    effect,
    finding,
    not_run,
)
from octoscope.trust.probes.probe import Finding, Scans, Subject
from octoscope.trust.probes.retina_box import retina_boxes

METADATA, TITLE = "metadata", "frame alone"
ABOVE_CHANCE = 0.1
"""How far above chance the whole interval must lie."""

ACQUISITION = ("device", "manufacturer", "field_of_view", "site", "spacing")
"""Columns of the table that say how a scan was taken, and nothing of who was ill."""
HISTORY = "earlier visits"

FRAME = (
    "padding above", "padding below", "padding left", "padding right", "white border",
    "black border", "upper left corner", "upper right corner", "lower left corner",
    "lower right corner", "background brightness", "background noise", "background blur",
)  # fmt: skip
"""What is measured on every scan in the model's frame."""


def metadata(subject: Subject, columns: Sequence[str] = ACQUISITION) -> Finding:
    """Cross-validate the frame-only model by patient, over training and validation scans.

    Args:
        subject: The model.
        columns: Columns of the table that it may see as well, where there.
    """
    parts = [part for part in (subject.training, subject.scans) if part is not None and len(part)]
    names, values = _described(parts, subject.fill, columns)
    targets = np.concatenate([part.targets for part in parts])
    patients = np.concatenate([part.patients.astype(str) for part in parts])
    told = frame_baseline(names, values, targets, patients, seed=subject.seed)
    if told is None:
        return not_run(
            METADATA, TITLE, "Not run: fewer than two classes have two patients each, or the "
            "frames are all alike.", unit="balanced accuracy", limit=np.nan, harmless=np.nan,
        )  # fmt: skip
    score = told.balanced_accuracy
    one = Effect(score.value, score.low, score.high, len(targets), len(np.unique(patients)))
    scans = subject.scans
    known = classes_of(scans.targets, scans.patients)
    model = effect(
        balanced_accuracy(subject.probabilities, scans.targets, known),
        scans.patients,
        seed=subject.seed,
    )
    worst = max(told.by_class, key=lambda k: told.by_class[k].low)
    label, alone = subject.classes[worst], told.by_class[worst]
    limit = told.chance + ABOVE_CHANCE
    given = f" It gives away {label} most ({alone.value:.2f} against the rest)."
    return finding(
        METADATA,
        TITLE,
        one,
        unit="balanced accuracy",
        limit=limit,
        harmless=told.chance,
        label=label if alone.low > 0.5 else "",
        sentence=(
            f"A model that sees only the frame ({len(names)} numbers, no retina) reaches a "
            f"balanced accuracy of {one.within()} (chance {told.chance:.2f}, alarm above "
            f"{limit:.2f}); the network reaches {model.within()}."
            f"{given if alone.low > 0.5 else ''}"
        ),
        details={
            "features": list(names),
            "chance": told.chance,
            "model": model.to_dict(),
            "by_class": {subject.classes[k]: v.to_dict() for k, v in told.by_class.items()},
            "left_out": [subject.classes[k] for k in told.left_out],
        },
    )


def frame_numbers(scans: Scans, fill: int = 0) -> np.ndarray:
    """Return what the frame of every scan is like outside of the retina, ``(N, len(FRAME))``.

    Paddings and borders are parts of the frame's height, width or area; a corner is the grey
    value that 1 % of it exceed; noise is the standard deviation of the background, and blur the
    correlation of its neighbouring pixels.

    Args:
        scans: The scans.
        fill: Grey value of the padding.
    """
    holes = retina_boxes(scans, fill)
    rows = [_frame(image, hole, fill) for image, hole in zip(scans.images, holes, strict=True)]
    return np.array(rows).reshape(len(scans), len(FRAME))


def acquisition_numbers(
    frame: pd.DataFrame, columns: Sequence[str] = ACQUISITION
) -> tuple[list[str], np.ndarray]:
    """Return what the table says of how scans were taken, as names and numbers ``(N, M)``.

    A column of words becomes one number per word; a missing number becomes -1. Where patients
    have several visits, their number before this one is added.

    Args:
        frame: Rows of the scan table.
        columns: Columns that may be read; others never are.
    """
    names: list[str] = []
    values: list[np.ndarray] = []
    for column in columns:
        if column not in frame.columns:
            continue
        given: pd.Series[Any] = frame[column]
        if pd.api.types.is_numeric_dtype(given):
            names.append(column)
            values.append(given.astype(float).fillna(-1).to_numpy())
            continue
        words = given.map(lambda word: "unknown" if pd.isna(word) else str(word))
        for word in sorted(words.unique()):
            names.append(f"{column} {word}")
            values.append((words == word).to_numpy(dtype=float))
    if {"visit", "patient"} <= set(frame.columns):
        names.append(HISTORY)
        history = frame.groupby("patient", dropna=False)["visit"].rank("dense") - 1
        values.append(history.fillna(0).to_numpy(dtype=float))
    return names, np.array(values).reshape(len(names), len(frame)).T


def _described(
    parts: Sequence[Scans], fill: int, columns: Sequence[str]
) -> tuple[list[str], np.ndarray]:
    """Return names and numbers of all scans; without those that are the same everywhere."""
    table = pd.concat([part.frame for part in parts], ignore_index=True)
    words, told = acquisition_numbers(table, columns)
    seen = np.concatenate([frame_numbers(part, fill) for part in parts])
    values, names = np.hstack([seen, told]), [*FRAME, *words]
    kept = np.ptp(values, axis=0) > 0
    return [name for name, keep in zip(names, kept, strict=True) if keep], values[:, kept]


def _frame(image: np.ndarray, hole: np.ndarray, fill: int) -> list[float]:
    """Return the numbers `FRAME` of one scan ``(H, W)`` whose retina lies in `hole`."""
    height, width = image.shape
    top, left, bottom, right = box = content_box(image, fill)
    inside = np.zeros(image.shape, bool)
    inside[top:bottom, left:right] = True
    border = frame_border(image[top:bottom, left:right]) if inside.any() else None
    shown = inside.copy()
    if border is not None:
        shown[top:bottom, left:right] = border.valid
    background = shown & ~hole
    signs = corner_areas(image.shape, box) & background
    half = np.arange(height)[:, None] < (top + bottom) / 2, np.arange(width) < (left + right) / 2
    levels = [
        _high(image[signs & up & aside])
        for up in (half[0], ~half[0])
        for aside in (half[1], ~half[1])
    ]
    plain = background & ~corner_areas(image.shape, box)
    return [
        top / height, (height - bottom) / height, left / width, (width - right) / width,
        border.white_fraction if border else 0.0, border.black_fraction if border else 0.0,
        *levels, *_speckle(image, plain),
    ]  # fmt: skip


def _high(values: np.ndarray) -> float:
    """Return the grey value that 1 % of these exceed; 0 of none."""
    return float(np.quantile(values, 0.99)) if len(values) else 0.0


def _speckle(image: np.ndarray, where: np.ndarray) -> tuple[float, float, float]:
    """Return median, standard deviation and neighbours' correlation of the pixels in `where`."""
    shown = image[where].astype(float)
    both = where[:, 1:] & where[:, :-1]
    if len(shown) < 2 or not both.any() or shown.std() == 0:
        return (float(shown.mean()) if len(shown) else 0.0), 0.0, 0.0
    step = np.diff(image.astype(float), axis=1)[both]
    return float(np.median(shown)), float(shown.std()), float(1 - step.var() / (2 * shown.var()))
