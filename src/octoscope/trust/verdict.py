"""The verdict on a model in words: which method to believe, where it looks, what it fails.

Three levels, by rules that are written here and nowhere else:

- *do not trust*: the model is not known to do better than chance; or two or more shortcut probes
  fire, or one fires and the believed method is not known to put less of its mass outside the
  retina than a constant map would.
- *caution*: one probe fires, or none could be judged; or no method beats the null maps in
  faithfulness, or there are too few patients to tell; or the believed method is not known to put
  less outside the retina than a constant map would.
- *no objection found*: none of these. It is not proof: a shortcut that no probe knows stays hidden.

"Less" means that the whole interval lies below what the constant map would put there; "beats" that
the whole interval of the paired difference is above 0, on at least one headline metric of
faithfulness. Each interval is one of 95 %, for itself: of many methods and metrics, one may beat
the nulls by chance. The believed method is the first of the ranking that beats them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from octoscope.evaluation.terminal import said
from octoscope.trust.metric import Metric
from octoscope.trust.scoreboard import BEATS, FEW
from octoscope.trust.scores import ANY_LESION, shares

NO_OBJECTION, CAUTION, DISTRUST = "no objection found", "caution", "do not trust"


@dataclass(frozen=True)
class Evidence:
    """What the verdict on one model rests on.

    Attributes:
        model: Its name.
        board: The scoreboard.
        order: The ranking of the methods.
        metrics: The metrics.
        titles: Method → name in running text.
        gated: Method → why it failed the sanity checks, None if it did not.
        probes: Findings as JSON values (`probes.probe.Finding.to_dict`).
        outside: Method → ``value, low, high``: the share of its mass outside the retina; and
            ``chance``, the share of the same frames that is outside of it.
        unchecked: Method → why the sanity checks have no verdict on it.
        lesions: Method → sentence on its mass on lesions, where there are masks.
        accuracy: ``value, low, high`` of its balanced accuracy on validation, if known.
        classes: Number of classes with validation scans.
    """

    model: str
    board: pd.DataFrame
    order: pd.DataFrame
    metrics: Mapping[str, Metric]
    titles: Mapping[str, str]
    gated: Mapping[str, str | None] = field(default_factory=dict)
    probes: Sequence[Mapping[str, Any]] = ()
    outside: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    unchecked: Mapping[str, str] = field(default_factory=dict)
    lesions: Mapping[str, str] = field(default_factory=dict)
    accuracy: Mapping[str, float | None] | None = None
    classes: int = 0


def verdict_of(evidence: Evidence) -> dict[str, Any]:
    """Return the verdict on a model.

    Returns:
        ``level``, ``headline``, ``sentences``, ``believe`` (a method or None) and ``flagged``
        (keys of the probes that fire).
    """
    believed, on_methods = _on_methods(evidence)
    stray, on_place = _on_place(evidence, believed)
    flagged, on_probes = _on_probes(evidence)
    judged = any(probe["fires"] is not None for probe in evidence.probes)
    enough = _enough(evidence)
    guesses, on_accuracy = _on_accuracy(evidence)
    if guesses or len(flagged) >= 2 or (flagged and stray):
        level = DISTRUST
    elif flagged or stray or believed is None or not judged:
        level = CAUTION
    else:
        level = NO_OBJECTION
    sentences = [*on_accuracy, *on_probes, *on_methods, *on_place]
    if believed is not None and believed in evidence.lesions:
        sentences.append(evidence.lesions[believed])
    return {
        "level": level,
        "headline": _headline(
            evidence,
            level,
            believed,
            flagged,
            guesses=guesses,
            stray=stray,
            enough=enough,
            judged=judged,
        ),
        "sentences": sentences,
        "believe": believed,
        "flagged": flagged,
    }


def _enough(evidence: Evidence) -> bool:
    """Say whether any method could be compared with the nulls in faithfulness."""
    board, order = evidence.board, evidence.order
    if board.empty or not len(order):
        return False
    ranked = [
        name for name, about in evidence.metrics.items()
        if about.headline and about.family == "faithfulness"
    ]  # fmt: skip
    usable = order.loc[~order["null"] & ~order["gated"], "method"]
    compared = board[board["metric"].isin(ranked) & board["method"].isin(usable)]
    return compared.empty or not (compared["verdict"] == FEW).all()


def _headline(
    evidence: Evidence,
    level: str,
    believed: str | None,
    flagged: list[str],
    *,
    guesses: bool,
    stray: bool,
    enough: bool,
    judged: bool,
) -> str:
    """Return the verdict in one sentence."""
    titles = {str(probe["probe"]): str(probe["title"]) for probe in evidence.probes}
    reasons = ["it is not known to do better than chance"] if guesses else []
    if flagged:
        named = ", ".join(titles[key].lower() for key in flagged)
        plural = "s fire" if len(flagged) > 1 else " fires"
        reasons.append(f"{len(flagged)} shortcut probe{plural} ({named})")
    if not judged:
        reasons.append("no shortcut probe was run that could be judged")
    if believed is None and enough:
        reasons.append(
            "no method's maps are known to be more faithful than maps that know no model"
        )
    if not enough:
        reasons.append("there are too few patients to tell which maps are faithful")
    if stray:
        reasons.append(
            "its maps are not known to lie outside the retina less than a constant map would"
        )
    if level == NO_OBJECTION:
        return (
            f"{evidence.model}: no objection found. No shortcut probe fires, and the maps of "
            f"{evidence.titles.get(str(believed), believed)} are more faithful than maps that know "
            "no model."
        )
    start = "do not trust it" if level == DISTRUST else "with caution"
    return f"{evidence.model}: {start}: {'; '.join(reasons)}."


def _on_accuracy(evidence: Evidence) -> tuple[bool, list[str]]:
    """Return whether the model may be guessing, and how well it does in words."""
    number = evidence.accuracy
    if number is None or number.get("value") is None or evidence.classes < 2:
        return False, []
    chance, low = 1 / evidence.classes, number.get("low")
    guesses = (number["value"] if low is None else low) <= chance  # type: ignore[operator]
    return guesses, [
        f"On validation its balanced accuracy is {said(dict(number))}; chance is {chance:.2f}."
    ]


def _on_methods(evidence: Evidence) -> tuple[str | None, list[str]]:
    """Return the method to believe, if any, and what is to be said of the methods."""
    order = evidence.order
    usable = order[~order["null"] & ~order["gated"]] if len(order) else order
    faithful = [
        str(method) for method in usable["method"] if _beaten(evidence, str(method), "faithfulness")
    ]
    out = []
    believed = faithful[0] if faithful else None
    if believed is not None:
        of = len(usable)
        others = [evidence.titles.get(name, name) for name in faithful[1:4]]
        more = f"; after it {', '.join(others)}" if others else ""
        won = ", ".join(_beaten(evidence, believed, "faithfulness"))
        out.append(
            f"Believe {evidence.titles.get(believed, believed)} first{more}: taking away what it "
            f"marks hurts the model more than what the best null map marks ({won}). "
            f"{len(faithful)} of {of} methods do."
        )
    elif len(usable) and not _enough(evidence):
        out.append(
            "Which map to believe cannot be told: too few patients to compare the "
            f"{len(usable)} methods with maps that know no model."
        )
    elif len(usable):
        out.append(
            "Believe no map of this model yet: on faithfulness none of the "
            f"{len(usable)} methods is known to beat the best map that knows no model."
        )
    if believed is not None and (why := evidence.unchecked.get(believed)):
        named = evidence.titles.get(believed, believed)
        out.append(f"The sanity checks have no verdict on {named}: {why}.")
    blind = [
        evidence.titles.get(name, name) for name, reason in evidence.gated.items()
        if reason and name in set(order.loc[~order["null"], "method"])
    ]  # fmt: skip
    if blind:
        out.append(f"Set aside by the sanity checks: {', '.join(blind)}.")
    return believed, out


def _beaten(evidence: Evidence, method: str, family: str) -> list[str]:
    """Return the titles of a family's headline metrics on which a method beats the nulls."""
    board = evidence.board
    own = board[(board["method"] == method) & (board["verdict"] == BEATS)]
    own = own[own["lesion"] == ANY_LESION]
    return [
        evidence.metrics[name].title
        for name in own["metric"]
        if evidence.metrics[name].family == family and evidence.metrics[name].headline
    ]


def _on_place(evidence: Evidence, believed: str | None) -> tuple[bool, list[str]]:
    """Return whether the believed method looks no more at the retina than chance, in words too."""
    share = evidence.outside.get(believed or "")
    if share is None or not np.isfinite(share["value"]):
        return False, []
    value, low, high = shares(share["value"], share["low"], share["high"])
    mass = f"{value} % [{low}, {high}]" if np.isfinite(share["low"]) else f"{value} %"
    chance = share.get("chance", float("nan"))
    stray = not share["high"] < chance  # also where there is no interval
    sentence = (
        f"{evidence.titles.get(str(believed), believed)} puts {mass} of its mass outside the "
        f"retina; a constant map would put {100 * chance:.0f} % there."
    )
    return stray, [sentence]


def _on_probes(evidence: Evidence) -> tuple[list[str], list[str]]:
    """Return the probes that fire, and what is to be said of the probes."""
    fired = [probe for probe in evidence.probes if probe["fires"]]
    run = [probe for probe in evidence.probes if probe["fires"] is not None]
    out = [str(probe["sentence"]) for probe in fired]
    if run and not fired:
        out.append(f"None of {len(run)} shortcut probes fires.")
    if len(run) < len(evidence.probes):
        idle = [str(probe["title"]) for probe in evidence.probes if probe["fires"] is None]
        out.append(f"Not judged: {', '.join(idle)}.")
    return [str(probe["probe"]) for probe in fired], out
