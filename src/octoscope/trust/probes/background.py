"""The retina taken away, and everything but the retina: what is the model left with?"""

from __future__ import annotations

import numpy as np

from octoscope.trust.probes.effect import (
    accuracy_drop,
    balanced_accuracy,
    classes_of,
    effect,
    effects,
    finding,
    not_run,
    one_vs_rest,
)
from octoscope.trust.probes.probe import Finding, Scans, Subject
from octoscope.trust.probes.regions import inpaint, shown, texts
from octoscope.trust.probes.retina_box import retina_boxes
from octoscope.trust.scores import LEAST_PATIENTS

BACKGROUND, BACKGROUND_TITLE = "background_kept", "background alone"
RETINA, RETINA_TITLE = "retina_kept", "retina alone"
CHANCE = 0.5
LOST = "balanced accuracy lost"
BACKGROUND_LIMIT = 0.6
"""A first look: three clean phantom models (even numbers) have a lower bound of 0.46 at most, five
that hang on a border, the frame's size or the device one of 0.96 and more."""
RETINA_LIMIT = 0.1
"""Those same clean models lose at most 1 point; four that hang on a white border or on the size
of the frame lose 17 to 24."""


def background(subject: Subject) -> list[Finding]:
    """Ask the model about the background without the retina, and the other way round.

    Without the retina (and all below it, `retina_boxes`) no disease is left to see, so its
    probabilities should no longer tell the classes apart: AUROC of one class against the rest,
    the class with the highest lower bound, intervals widened for looking at every class. Without
    the background it should go on as before, but unusual pictures alone may disturb a network:
    that finding needs a large drop.

    Returns:
        Two findings, background kept and retina kept.
    """
    without, alone = subject.scans.once(
        ("background and retina", subject.fill), lambda: parted(subject.scans, subject.fill)
    )
    return [background_kept(subject, without), retina_kept(subject, alone)]


def parted(scans: Scans, fill: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the scans without their retina, and without all but it, each ``(N, H, W)`` uint8."""
    hole, tissue = retina_boxes(scans, fill), shown(scans, fill)
    speckle = tissue & ~texts(scans, fill)
    return (
        inpaint(scans.images, hole, tissue, speckle),
        inpaint(scans.images, ~hole, hole, speckle & ~hole),
    )


def background_kept(subject: Subject, images: np.ndarray) -> Finding:
    """Judge what the model says to scans without their retina.

    Args:
        subject: The model.
        images: ``(N, H, W)`` uint8, its scans with the retina taken away.
    """
    scans = subject.scans
    classes = classes_of(scans.targets, scans.patients, LEAST_PATIENTS)
    if len(classes) < 2:
        return not_run(
            BACKGROUND, BACKGROUND_TITLE, _too_few(LEAST_PATIENTS),
            unit="AUROC", limit=BACKGROUND_LIMIT, harmless=CHANCE,
        )  # fmt: skip
    probabilities = subject.asked(images)
    ranked = one_vs_rest(probabilities, scans.targets, classes)
    each = effects(ranked, scans.patients, looks=len(classes), seed=subject.seed)
    macro = effect(lambda w: ranked(w).mean(axis=1), scans.patients, seed=subject.seed)
    worst = int(np.argmax([one.low for one in each]))
    label = subject.classes[classes[worst]]
    accuracy = balanced_accuracy(probabilities, scans.targets, classes)
    left = effect(accuracy, scans.patients, seed=subject.seed)
    return finding(
        BACKGROUND,
        BACKGROUND_TITLE,
        each[worst],
        unit="AUROC",
        limit=BACKGROUND_LIMIT,
        harmless=CHANCE,
        label=label,
        sentence=(
            f"With the retina taken away the model still tells {label} from the rest with an "
            f"AUROC of {each[worst].within()} (chance 0.50, alarm above {BACKGROUND_LIMIT:.2f})."
        ),
        details={
            "macro_auroc": macro.to_dict(),
            "balanced_accuracy": left.to_dict(),
            "auroc": {
                subject.classes[k]: one.to_dict() for k, one in zip(classes, each, strict=True)
            },
        },
    )


def retina_kept(subject: Subject, images: np.ndarray) -> Finding:
    """Judge what the model says to scans without their background.

    Args:
        subject: The model.
        images: ``(N, H, W)`` uint8, its scans with all but the retina taken away.
    """
    scans = subject.scans
    classes = classes_of(scans.targets, scans.patients)
    if len(classes) < 2:
        return not_run(RETINA, RETINA_TITLE, _too_few(2), unit=LOST, limit=RETINA_LIMIT)
    before, after = subject.probabilities, subject.asked(images)
    lost = effect(
        accuracy_drop(before, after, scans.targets, classes), scans.patients, seed=subject.seed
    )
    whole, kept = (
        effect(balanced_accuracy(one, scans.targets, classes), scans.patients, seed=subject.seed)
        for one in (before, after)
    )
    return finding(
        RETINA,
        RETINA_TITLE,
        lost,
        unit=LOST,
        limit=RETINA_LIMIT,
        sentence=(
            f"With all but the retina taken away the balanced accuracy is {kept.within()} "
            f"instead of {whole.value:.2f}: a loss of {lost.within(0, 100)} points (alarm above "
            f"{100 * RETINA_LIMIT:.0f})."
        ),
        details={"balanced_accuracy": kept.to_dict(), "unedited": whole.to_dict()},
    )


def _too_few(patients: int) -> str:
    return f"Not run: fewer than two classes have scans of {patients} patients each."
