"""The border of the scan, its corners, and signs in it, taken away one at a time.

None of them shows disease, so the model's answers should stay. As any unusual edit may disturb a
network, an area of the same form elsewhere is taken away too, and what that costs subtracted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from octoscope.scans.wording import many
from octoscope.trust.probes.effect import (
    accuracy_drop,
    class_balanced,
    class_means,
    classes_of,
    effect,
    effects,
    finding,
    not_run,
    right,
)
from octoscope.trust.probes.probe import Finding, Scans, Subject
from octoscope.trust.probes.regions import (
    border_strips,
    corners,
    inpaint,
    shown,
    texts,
)
from octoscope.trust.probes.retina_box import retinas

LIMIT = 0.03
"""A first look: three clean phantom models (even numbers) stay within 0.01 of 0; two that hang on
a white border lose 0.2 and more."""
UNIT = "balanced accuracy lost"


@dataclass(frozen=True)
class Part:
    """A part of the scan that is taken away.

    Attributes:
        probe: Key of the probe.
        title: Its name in running text.
        what: What is taken away, for sentences.
        masks: Scans and fill to masks ``(N, H, W)`` bool.
    """

    probe: str
    title: str
    what: str
    masks: Callable[[Scans, int], np.ndarray]


PARTS = (
    Part("border_blanked", "border blanked", "the border", border_strips),
    Part("corners_blanked", "corners blanked", "the corners", corners),
    Part("text_blanked", "signs blanked", "letters and signs", texts),
)


def blanked(subject: Subject) -> list[Finding]:
    """Take border, corners and signs away, each in all scans that have one; three findings.

    The effect is the balanced accuracy lost, less what the control loses.
    """
    found = []
    for part in PARTS:
        made = partial(without, subject.scans, part, subject.fill)
        found.append(judged(subject, part, *subject.scans.once((part.probe, subject.fill), made)))
    return found


def without(scans: Scans, part: Part, fill: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which scans have a part ``(N,)``, and all without it and without the control area."""
    tissue = shown(scans, fill)
    masks = part.masks(scans, fill)
    elsewhere = controls(masks, tissue & ~retinas(scans))
    edited, control = (inpaint(scans.images, one, tissue) for one in (masks, elsewhere))
    return np.array([mask.any() for mask in masks]), edited, control


def controls(masks: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Return the same areas half the width further to the side, as far as there is room.

    Args:
        masks: ``(N, H, W)`` bool.
        allowed: ``(N, H, W)`` bool, where the moved areas may lie.
    """
    return np.roll(masks, masks.shape[2] // 2, axis=2) & allowed & ~masks


def judged(
    subject: Subject, part: Part, touched: np.ndarray, edited: np.ndarray, control: np.ndarray
) -> Finding:
    """Judge what taking a part away does to the model's answers.

    Args:
        subject: The model.
        part: The part.
        touched: ``(N,)`` bool, scans that have it.
        edited: ``(N, H, W)`` uint8, the scans without it.
        control: ``(N, H, W)`` uint8, the scans without an area alike elsewhere.
    """
    scans, seed = subject.scans, subject.seed
    targets, patients = scans.targets, scans.patients
    classes = classes_of(targets, patients)
    if not touched.any() or len(classes) < 2:
        why = f"no scan has {part.what}" if len(classes) > 1 else "fewer than two classes"
        return not_run(part.probe, part.title, f"Not run: {why}.", unit=UNIT, limit=LIMIT)
    before, after, aside = subject.probabilities, *(asked(subject, e) for e in (edited, control))
    lost = accuracy_drop(before, after, targets, classes)
    beside = accuracy_drop(before, aside, targets, classes)
    net = effect(lambda w: lost(w) - np.maximum(beside(w), 0), patients, seed=seed)
    raw, other = (effect(one, patients, seed=seed) for one in (lost, beside))
    true = np.arange(len(scans)), targets
    shift = class_balanced(after[true] - before[true], targets, classes)
    recall = effects(
        class_means(right(before, targets) - right(after, targets), targets, classes),
        patients, looks=len(classes), seed=seed,
    )  # fmt: skip
    worst = int(np.argmax([one.value for one in recall]))
    label = subject.classes[classes[worst]] if recall[worst].value > 0 else ""
    flipped = float((before.argmax(axis=1) != after.argmax(axis=1))[touched].mean())
    most = f", most in {label} ({100 * recall[worst].value:.0f} points of its recall)"
    return finding(
        part.probe,
        part.title,
        net,
        unit=UNIT,
        limit=LIMIT,
        label=label,
        sentence=(
            f"Taking away {part.what} (in {many(int(touched.sum()), 'scan')}) changes "
            f"{100 * flipped:.0f} % of those predictions and costs {net.within(1, 100)} points of "
            f"balanced accuracy more than the same elsewhere{most if label else ''}; alarm above "
            f"{100 * LIMIT:.0f}."
        ),
        details={
            "touched": int(touched.sum()),
            "flipped": flipped,
            "lost": raw.to_dict(),
            "lost_elsewhere": other.to_dict(),
            "true_class_probability": effect(shift, patients, seed=seed).to_dict(),
            "recall_lost": {
                subject.classes[k]: one.to_dict() for k, one in zip(classes, recall, strict=True)
            },
        },
    )


def asked(subject: Subject, edited: np.ndarray) -> np.ndarray:
    """Return the probabilities ``(N, K)`` of edited scans; only those that changed are asked."""
    changed = (edited != subject.scans.images).any(axis=(1, 2))
    answers = subject.probabilities.copy()
    if changed.any():
        answers[changed] = subject.asked(edited[changed])
    return answers
