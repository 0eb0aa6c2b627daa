"""All scans brought to one frame: does the model miss what their frames told it?"""

from __future__ import annotations

import numpy as np

from octoscope.scans.geometry.zones import Box, content_box
from octoscope.scans.wording import many
from octoscope.trust.probes.effect import accuracy_drop, classes_of, effect, finding, not_run
from octoscope.trust.probes.probe import Finding, Subject
from octoscope.trust.probes.retina_box import retina_bands

PROBE = "reframed"
TITLE = "scans brought to one frame"
UNIT = "balanced accuracy lost"
LIMIT = 0.03
"""Nothing changes where all frames are alike, as in clean phantoms; beyond it is worth a word."""
FEW = 0.05
"""Share of the scans that may show less than the common frame: some end in black by themselves."""


def reframed(subject: Subject) -> Finding:
    """Cover in every scan what lies outside of the frame that all of them fill.

    Covered pixels take the grey value of the padding; the retina is never covered. Then size and
    aspect ratio of the files no longer tell one class from another.
    """
    scans = subject.scans
    classes = classes_of(scans.targets, scans.patients)
    if len(classes) < 2:
        reason = "Not run: fewer than two classes have scans of two patients."
        return not_run(PROBE, TITLE, reason, unit=UNIT, limit=LIMIT)
    edited, box = in_one_frame(subject)
    changed = (edited != scans.images).any(axis=(1, 2))
    after = subject.probabilities.copy()
    if changed.any():
        after[changed] = subject.asked(edited[changed])
    lost = effect(
        accuracy_drop(subject.probabilities, after, scans.targets, classes),
        scans.patients,
        seed=subject.seed,
    )
    before_called, called = subject.probabilities.argmax(axis=1), after.argmax(axis=1)
    moved = before_called != called
    label, where = "", ""
    if moved.any():
        counts = np.bincount(called[moved], minlength=after.shape[1])
        label = subject.classes[int(counts.argmax())]
        where = f", most to {label} ({int(counts.max())} of {int(moved.sum())})"
    if changed.any():
        sentence = (
            f"In one frame for all ({box[2] - box[0]}×{box[3] - box[1]} pixels; "
            f"{many(int(changed.sum()), 'scan')} showed more) "
            f"{100 * moved.mean():.0f} % of the predictions change{where}, which costs "
            f"{lost.within(1, 100)} points of balanced accuracy; alarm above {100 * LIMIT:g}."
        )
    else:
        sentence = "All frames have one size already: no scan had to be changed."
    return finding(
        PROBE,
        TITLE,
        lost,
        unit=UNIT,
        limit=LIMIT,
        label=label,
        sentence=sentence,
        details={"box": list(box), "changed": int(changed.sum()), "flipped": float(moved.mean())},
    )


def in_one_frame(subject: Subject) -> tuple[np.ndarray, Box]:
    """Return the scans ``(N, H, W)`` with all but their common frame covered, and that frame.

    The common frame is what nearly all scans show (all but `FEW` at each side).
    """
    scans, fill = subject.scans, subject.fill
    boxes = np.array([content_box(image, fill) for image in scans.images])
    top, left = np.quantile(boxes[:, :2], 1 - FEW, axis=0, method="lower").astype(int)
    bottom, right = np.quantile(boxes[:, 2:], FEW, axis=0, method="higher").astype(int)
    covered = np.ones(scans.images.shape, bool)
    covered[:, top:bottom, left:right] = False
    covered &= ~retina_bands(scans)
    edited = np.where(covered, np.uint8(fill), scans.images)
    return edited, (int(top), int(left), int(bottom), int(right))
