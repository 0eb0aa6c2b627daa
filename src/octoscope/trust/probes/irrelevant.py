"""Edits that no ophthalmologist would mind: does the model?"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np
from PIL import Image
from scipy import ndimage

from octoscope.trust.probes.donors import spread_over_patients
from octoscope.trust.probes.effect import (
    accuracy_drop,
    class_balanced,
    classes_of,
    effects,
    finding,
    not_run,
)
from octoscope.trust.probes.probe import Finding, Subject

PROBE = "irrelevant"
TITLE = "edits that should not matter"
UNIT = "balanced accuracy lost"
LIMIT = 0.15
"""Chosen, not measured: far more than the few points that one small network lost."""
GRAIN = 4.0
"""Standard deviation of mild noise, in grey levels."""
SOFT = 0.5
"""Standard deviation of a mild blur, in pixels."""
MOVE = 0.03
"""Part of the frame by which a scan is shifted."""
QUALITY = 60
"""Of the JPEG."""

Edit = Callable[[np.ndarray], np.ndarray]
"""One scan ``(H, W)`` uint8 to the edited scan."""


def _gamma(power: float) -> Edit:
    def edit(image: np.ndarray) -> np.ndarray:
        return _grey(255 * (image / 255.0) ** power)

    return edit


def _brighter(by: float) -> Edit:
    def edit(image: np.ndarray) -> np.ndarray:
        return _grey(image.astype(np.float64) + by)

    return edit


def _noise(image: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)  # the same for every scan: none depends on its neighbours
    return _grey(image + rng.normal(0, GRAIN, image.shape))


def _blur(image: np.ndarray) -> np.ndarray:
    return _grey(ndimage.gaussian_filter(image.astype(np.float64), SOFT, mode="nearest"))


def _shifted(down: int, along: int) -> Edit:
    def edit(image: np.ndarray) -> np.ndarray:
        by = (down * round(MOVE * image.shape[0]), along * round(MOVE * image.shape[1]))
        return np.asarray(ndimage.shift(image, by, order=0, mode="nearest"))

    return edit


def _flip(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1])


def _jpeg(image: np.ndarray) -> np.ndarray:
    stored = io.BytesIO()
    Image.fromarray(image).save(stored, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(stored))


def _grey(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


EDITS: Mapping[str, Edit] = MappingProxyType(
    {
        "gamma 0.8": _gamma(0.8),
        "gamma 1.25": _gamma(1.25),
        "10 grey levels brighter": _brighter(10),
        "10 grey levels darker": _brighter(-10),
        "mild noise": _noise,
        "mild blur": _blur,
        "shifted down": _shifted(1, 0),
        "shifted sideways": _shifted(0, 1),
        "mirrored": _flip,
        f"JPEG of quality {QUALITY}": _jpeg,
    }
)


def _each(edit: Edit, images: np.ndarray) -> np.ndarray:
    return np.stack([edit(image) for image in images])


def irrelevant(subject: Subject) -> Finding:
    """Edit the scans in ways that leave the disease as it is; find the edit that costs most.

    The effect is the balanced accuracy lost by the worst edit, its interval widened for the
    choice. This says that a model hangs on something brittle, not on what.
    """
    scans = subject.scans
    classes = classes_of(scans.targets, scans.patients)
    if len(classes) < 2:
        reason = "Not run: fewer than two classes have scans of two patients."
        return not_run(PROBE, TITLE, reason, unit=UNIT, limit=LIMIT)
    rows = spread_over_patients(scans, classes, subject.seed)
    images, targets, patients = scans.images[rows], scans.targets[rows], scans.patients[rows]
    before = subject.probabilities[rows]
    after = [
        subject.asked(scans.once((PROBE, name, subject.seed), partial(_each, edit, images)))
        for name, edit in EDITS.items()
    ]
    drops = [accuracy_drop(before, one, targets, classes) for one in after]
    flips = [
        class_balanced(
            (before.argmax(axis=1) != one.argmax(axis=1)).astype(float), targets, classes
        )
        for one in after
    ]
    lost = effects(
        lambda weights: np.stack([drop(weights) for drop in drops], axis=1),
        patients,
        looks=len(EDITS),
        seed=subject.seed,
    )
    flipped = effects(
        lambda weights: np.stack([flip(weights) for flip in flips], axis=1),
        patients,
        seed=subject.seed,
    )
    names = list(EDITS)
    worst = int(np.argmax([one.value for one in lost]))
    most = int(np.argmax([one.value for one in flipped]))
    return finding(
        PROBE,
        TITLE,
        lost[worst],
        unit=UNIT,
        limit=LIMIT,
        sentence=(
            f'Of {len(EDITS)} edits that leave the disease as it is, "{names[worst]}" costs most, '
            f"{lost[worst].within(1, 100)} points of balanced accuracy; "
            f'"{names[most]}" changes most predictions, {flipped[most].within(0, 100)} % of them; '
            f"alarm above {100 * LIMIT:g} points."
        ),
        details={
            "lost": {name: one.to_dict() for name, one in zip(names, lost, strict=True)},
            "flipped": {name: one.to_dict() for name, one in zip(names, flipped, strict=True)},
        },
    )
