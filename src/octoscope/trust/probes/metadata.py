"""What the frame alone gives away: a small model that never sees a retina, beside the network.

It sees numbers about the frame as the network gets it, all taken outside of the retina (disease
changes the brightness inside), and what the table says of how a scan was taken. What it scores
above chance, the network can score without having looked at the disease.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from octoscope.scans.audit.baseline import Baseline, Interval, frame_baseline
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
from octoscope.trust.probes.retina_box import boxes_at

METADATA, TITLE = "metadata", "frame alone"
CHANCE = 0.5
BLOCK = 64
"""Scans whose masks are held at once."""
LIMIT = 0.65
"""A class that is told from the rest by luck alone stays well below: the frames of three clean
phantom studies reach a balanced accuracy of 0.27 at most over four classes."""
UNIT = "balanced accuracy of one class against the rest"

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
    told, names, patients = _told(
        subject.training, subject.scans, subject.fill, tuple(columns), subject.seed
    )
    if told is None:
        return not_run(
            METADATA, TITLE, "Not run: fewer than two classes have two patients each, or the "
            "frames are all alike.", unit=UNIT, limit=LIMIT, harmless=CHANCE,
        )  # fmt: skip
    each = {k: _widened(v, len(told.by_class)) for k, v in told.by_class.items()}
    worst = max(each, key=lambda k: each[k].low)
    label, alone, overall = subject.classes[worst], each[worst], told.balanced_accuracy
    one = Effect(alone.value, alone.low, alone.high, len(patients), len(np.unique(patients)))
    scans = subject.scans
    known = classes_of(scans.targets, scans.patients)
    model = effect(
        balanced_accuracy(subject.probabilities, scans.targets, known),
        scans.patients,
        seed=subject.seed,
    )
    return finding(
        METADATA,
        TITLE,
        one,
        unit=UNIT,
        limit=LIMIT,
        harmless=CHANCE,
        label=label,
        sentence=(
            f"A model that sees only the frame ({len(names)} numbers, no retina{_drawn(subject)}) "
            f"tells {label} "
            f"from the rest with a balanced accuracy of {one.within()} (chance {CHANCE:.2f}, alarm "
            f"above {LIMIT:.2f}); over all classes it reaches {overall.value:.2f} "
            f"[{overall.low:.2f}, {overall.high:.2f}] (chance {told.chance:.2f}), the network "
            f"{model.within()}."
        ),
        details={
            "features": list(names),
            "balanced_accuracy": overall.to_dict(),
            "chance": told.chance,
            "model": model.to_dict(),
            "by_class": {subject.classes[k]: v.to_dict() for k, v in each.items()},
            "left_out": [subject.classes[k] for k in told.left_out],
        },
    )


@lru_cache(maxsize=2)
def _told(
    training: Scans | None, scans: Scans, fill: int, columns: tuple[str, ...], seed: int
) -> tuple[Baseline | None, list[str], np.ndarray]:
    """Return what the frame tells, the names of its numbers, and the patient of every scan.

    It is the same for all models of a study, and takes longer than most probes.
    """
    parts = [part for part in (training, scans) if part is not None and len(part)]
    names, values = _described(parts, fill, columns)
    targets = np.concatenate([part.targets for part in parts])
    patients = np.concatenate([part.patients.astype(str) for part in parts])
    return frame_baseline(names, values, targets, patients, seed=seed), names, patients


def frame_numbers(scans: Scans, fill: int = 0) -> np.ndarray:
    """Return what the frame of every scan is like outside of the retina, ``(N, len(FRAME))``.

    Paddings and borders are parts of the frame's height, width or area; a corner is the grey
    value that 1 % of it exceed; noise is the standard deviation of the background, and blur the
    correlation of its neighbouring pixels.

    Args:
        scans: The scans.
        fill: Grey value of the padding.
    """
    return scans.once(("frame numbers", fill), lambda: _frames(scans, fill))


def _frames(scans: Scans, fill: int) -> np.ndarray:
    """Return `frame_numbers`; the masks of a few scans are held at once."""
    rows = []
    for start in range(0, len(scans), BLOCK):
        some = np.arange(start, min(start + BLOCK, len(scans)))
        holes = boxes_at(scans, some, fill)
        rows += [_frame(image, hole, fill) for image, hole in zip(scans.images[some], holes,
                 strict=True)]  # fmt: skip
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
        values.append(earlier_visits(frame))
    return names, np.array(values).reshape(len(names), len(frame)).T


def earlier_visits(frame: pd.DataFrame) -> np.ndarray:
    """Return how many visits of its patient came before that of each scan, ``(N,)`` float64.

    Of a sample of scans they stand in its column `HISTORY`, counted before it was drawn.
    """
    if HISTORY in frame.columns:
        return frame[HISTORY].to_numpy(dtype=float)
    history = frame.groupby("patient", dropna=False)["visit"].rank("dense") - 1
    return history.fillna(0).to_numpy(dtype=float)


def _drawn(subject: Subject) -> str:
    """Return on how many of the scans it was trained and tested, where these are not all."""
    parts = [part for part in (subject.training, subject.scans) if part is not None]
    used, there = sum(map(len, parts)), sum(max(len(part), part.drawn_from) for part in parts)
    return f"; {used:,} of {there:,} scans" if used < there else ""


def _widened(one: Interval, looks: int) -> Interval:
    """Return a 95 % interval stretched as a normal one is if `looks` are to hold together."""
    stretch = float(norm.ppf(1 - 0.025 / looks) / norm.ppf(0.975))
    low = one.value - stretch * (one.value - one.low)
    high = one.value + stretch * (one.high - one.value)
    return Interval(one.value, max(low, 0.0), min(high, 1.0))


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
