"""Scans edited after another patient's scan, and whether the model then says what the donor has.

Every recipient meets donors of its own class and of every other one. What the editing itself does
to a scan it does with all of them; what a model reads from the part that changed hands shows as
the difference between foreign donors and donors of the recipient's own class.

Shapes: N scans, K classes, M pairs of recipient and donor, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from octoscope.errors import OctoscopeError
from octoscope.evaluation.bootstrap import Weights
from octoscope.trust.probes.effect import Effect, Statistic, classes_of, effects, finding
from octoscope.trust.probes.probe import Finding, Scans, Subject

EACH = 2
"""Donors of every class that a recipient meets."""
MOST_SCANS = 120
"""Scans that are edited, so that the cost is bounded: patients, not scans, carry the interval."""
AT_ONCE = 256
"""Edited scans that are held at a time."""

UNIT = "probability of the donor's class"

Edit = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Positions of recipients (m,) and of donors (m,) to the edited scans (m, H, W) uint8."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Who receives from whom.

    Attributes:
        recipients: ``(M,)`` positions of scans.
        donors: ``(M,)`` positions of scans of other patients.
        classes: The classes that take part.
    """

    recipients: np.ndarray
    donors: np.ndarray
    classes: list[int]

    def __len__(self) -> int:
        return len(self.recipients)


@dataclass(frozen=True, eq=False)
class Towards:
    """How far foreign donors pull the model towards their own class.

    Attributes:
        worst: Class of the donors with the largest pull.
        pull: Rise of the probability of that class; its interval is widened for the choice.
        flips: Rise of the share of scans that are called so.
        pulls: The pull of every class.
    """

    worst: int
    pull: Effect
    flips: float
    pulls: dict[int, Effect]


def draw_pairs(subject: Subject, each: int = EACH) -> Pairs:
    """Draw for every recipient `each` donors of every class, none of its own patient.

    Args:
        subject: The model under examination.
        each: Donors of a class.

    Raises:
        OctoscopeError: If fewer than two classes have scans of two patients.
    """
    scans = subject.scans
    classes = classes_of(scans.targets, scans.patients)
    if len(classes) < 2:
        raise OctoscopeError(
            "fewer than two classes have scans of two patients or more, so there is no donor of "
            "another class to compare with one of the same class"
        )
    rng = np.random.default_rng([subject.seed, 0xD0])
    recipients: list[int] = []
    donors: list[int] = []
    for row in spread_over_patients(scans, classes, subject.seed):
        for label in classes:
            others = (scans.targets == label) & (scans.patients != scans.patients[row])
            drawn = rng.permutation(np.flatnonzero(others))[:each]
            recipients += [int(row)] * len(drawn)
            donors += drawn.tolist()
    return Pairs(np.array(recipients), np.array(donors), classes)


def spread_over_patients(
    scans: Scans, classes: Sequence[int], seed: int = 0, most: int = MOST_SCANS
) -> np.ndarray:
    """Return at most `most` scans of these classes, as many patients and classes as can be.

    Every class, and in it every patient, gives one scan before any gives its next.

    Args:
        scans: The scans.
        classes: Which classes.
        seed: Of the choice.
        most: How many scans.

    Returns:
        Their positions ``(n,)``, ascending.
    """
    rows = np.random.default_rng([seed, 0xD1]).permutation(
        np.flatnonzero(np.isin(scans.targets, classes))
    )
    frame = pd.DataFrame({"target": scans.targets[rows], "patient": scans.patients[rows]})
    frame["scan"] = frame.groupby(["target", "patient"]).cumcount()
    frame = frame.sort_values("scan", kind="stable")
    turn = frame.groupby("target").cumcount()
    chosen = turn.sort_values(kind="stable").index[:most]
    return np.sort(rows[chosen])


def asked_in_pairs(subject: Subject, pairs: Pairs, edit: Edit) -> np.ndarray:
    """Return what the model says ``(M, K)`` to every recipient edited after its donor."""
    said = [
        subject.asked(edit(pairs.recipients[part], pairs.donors[part]))
        for part in np.array_split(np.arange(len(pairs)), -(-len(pairs) // AT_ONCE))
    ]
    return np.concatenate(said)


def towards_donor(values: np.ndarray, pairs: Pairs, targets: np.ndarray) -> Statistic:
    """Return the pull towards each class d, ``(R, len(classes))``.

    It is the mean over the other classes c of: the mean of value d of recipients of class c with
    donors of class d, minus the same with donors of class c. Recipients and donors are resampled
    together: a pair weighs as often as the patient of the one was drawn, times that of the other
    (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007, section 3).

    Args:
        values: ``(M, K)``, of every pair.
        pairs: Recipients and donors.
        targets: ``(N,)`` true class.
    """
    receiving, giving = targets[pairs.recipients], targets[pairs.donors]

    def means(weights: Weights, of: int, giver: int, column: int) -> np.ndarray:
        mine = np.flatnonzero((receiving == of) & (giving == giver))
        weight = weights.of(pairs.recipients[mine]).astype(np.float64)
        weight *= weights.of(pairs.donors[mine])  # (m, R)
        total, count = values[mine, column] @ weight, weight.sum(axis=0)
        return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)

    def statistic(weights: Weights) -> np.ndarray:
        pulls = []
        for label in pairs.classes:
            rises = [
                means(weights, other, label, label) - means(weights, other, other, label)
                for other in pairs.classes
                if other != label
            ]
            pulls.append(np.mean(rises, axis=0))
        return np.stack(pulls, axis=1)

    return statistic


def measured(subject: Subject, pairs: Pairs, said: np.ndarray) -> Towards:
    """Return the pull towards the donors' classes, from what the model said ``(M, K)``."""
    targets, patients = subject.scans.targets, subject.scans.patients
    classes = pairs.classes
    pulls = effects(
        towards_donor(said, pairs, targets), patients, looks=len(classes), seed=subject.seed
    )
    called = np.eye(said.shape[1])[said.argmax(axis=1)]
    flips = towards_donor(called, pairs, targets)(Weights.once(len(targets)))[0]
    worst = int(np.argmax([one.low if np.isfinite(one.low) else one.value for one in pulls]))
    return Towards(
        classes[worst], pulls[worst], float(flips[worst]), dict(zip(classes, pulls, strict=True))
    )


def found_with_donors(
    subject: Subject, probe: str, title: str, edit: Edit, *, what: str, limit: float
) -> Finding:
    """Run a probe that edits scans after donors, and judge it.

    Args:
        subject: The model under examination.
        probe: Key of the probe.
        title: Its name in running text.
        edit: The edit.
        what: What is given to the recipient, for the sentence.
        limit: Pull beyond which the probe fires.

    Raises:
        OctoscopeError: If fewer than two classes have scans of two patients.
    """
    pairs = draw_pairs(subject)
    towards = measured(subject, pairs, asked_in_pairs(subject, pairs, edit))
    label = subject.classes[towards.worst]
    return finding(
        probe,
        title,
        towards.pull,
        unit=UNIT,
        limit=limit,
        label=label,
        sentence=(
            f"With {what} of a {label} scan of another patient, the probability of {label} in "
            f"scans of other classes changes by {towards.pull.within(1, 100)} points, and "
            f"{100 * towards.flips:.1f} more scans in 100 are called {label}, than with {what} of "
            f"another scan of their own class; alarm above {100 * limit:g}."
        ),
        details={
            "flips": towards.flips,
            "pairs": len(pairs),
            "recipients": len(np.unique(pairs.recipients)),
            "pulls": {subject.classes[k]: one.to_dict() for k, one in towards.pulls.items()},
        },
    )
