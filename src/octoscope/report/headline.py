"""The headline: what was run, and the few sentences one should take away, good or bad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from octoscope.report.data import counts
from octoscope.report.files import RunFiles, StudyFiles
from octoscope.report.html import known, number
from octoscope.report.results import ModelResult

LESION_LEVELS = {"above chance": "good", "no interval": "plain", "too few patients": "plain"}

MOST_FIRED = 3
"""Probes named for every model; its card names all."""

Line = dict[str, str]
"""A sentence with its level: good, warning, bad or plain."""


def was_run(study: StudyFiles) -> str:
    """Say what was run."""
    table = counts(study)
    parts = []
    if table is not None:
        unknown = f" and {table['unknown']:,} scans of unknown patients" if table["unknown"] else ""
        kind = "phantom B-scans" if is_phantom(study) else "B-scans"
        parts.append(f"{table['scans']:,} {kind} of {table['patients']:,} patients{unknown}")
        parts.append(f"{len(study.classes)} classes ({', '.join(study.classes)})")
    models = [f"{model}{_seeds(runs)}" for model, runs in study.models.items()]
    sentence = " in ".join(parts) + ". " if parts else ""
    if not models:
        return f"{sentence}No model has finished its training yet."
    verb = "was" if len(models) == 1 else "were"
    return f"{sentence}{_joined(models)} {verb} trained, evaluated and explained."


def is_phantom(study: StudyFiles) -> bool:
    """Say whether the scans are the study's own phantoms."""
    config = study.about.get("config", {})
    return "phantom" in config and config.get("data") is None


def take_away(
    study: StudyFiles,
    by_split: Mapping[str, Sequence[ModelResult]],
    comparisons: Sequence[str],
    localisation: dict[str, Any] | None,
    trust: dict[str, Any] | None = None,
) -> list[Line]:
    """Return the sentences of the headline.

    Args:
        study: The study.
        by_split: Split → models, the best first.
        comparisons: Sentences that compare the best with the others.
        localisation: What the localisation section shows.
        trust: What the trust section shows.
    """
    lines: list[Line] = []
    results = by_split["val"]
    if results:
        lines.append(_best(results[0], results[0].runs[0]))
        lines += [{"level": "plain", "text": sentence} for sentence in comparisons]
        against = _against_frame(study, results[0])
        lines += [against] if against else []
    lines += _tested(study, results, by_split["test"])
    for best in (localisation or {}).get("best", []):
        level = LESION_LEVELS.get(best["verdict"], "warning")
        lines.append({"level": level, "text": f"On lesions: {best['sentence']}"})
    lines += _trusted(trust)
    lines += _audit(study)
    return lines


def _best(result: ModelResult, run: RunFiles) -> Line:
    """Say how good the best model is on validation."""
    metrics = run.metrics["val"]
    item, chance = result.overall["balanced_accuracy"], metrics["chance"]["balanced_accuracy"]
    who = result.model + (f", mean of {len(result.runs)} seeds" if len(result.runs) > 1 else "")
    text = (
        f"Best model: {who}, balanced accuracy {_bracketed(item)} on {metrics['n_scans']} "
        f"validation scans of {metrics['n_patients']} patients (chance {number(chance)})."
    )
    if not known(item["low"]):
        return {"level": "plain", "text": text}
    if item["low"] > chance:
        return {"level": "good", "text": text}
    return {"level": "bad", "text": f"{text} That cannot be told from guessing."}


def _against_frame(study: StudyFiles, best: ModelResult) -> Line | None:
    """Compare the best model with the one that sees only the frame."""
    baseline = ((study.audit or {}).get("metadata_baseline") or {}).get("balanced_accuracy")
    item = best.overall["balanced_accuracy"]
    chance = best.runs[0].metrics["val"]["chance"]["balanced_accuracy"]
    if not baseline or not known(item["low"]) or item["low"] <= chance:
        return None  # who only guesses has not learned the frame either
    text = f"A model that sees only numbers about the frame reaches {_bracketed(baseline)}"
    if item["low"] > baseline["high"]:
        return {"level": "good", "text": f"{text}: the best model clearly beats it."}
    return {
        "level": "warning",
        "text": f"{text}: the best model does not clearly beat it, so it may have learned the "
        "frame and not the disease.",
    }


def _tested(
    study: StudyFiles, validated: Sequence[ModelResult], tested: Sequence[ModelResult]
) -> list[Line]:
    """Say whether the test split was opened, and what the model chosen on validation got."""
    opened = sum(len(entries) for _, entries in study.ledger)
    if not opened:
        there = (counts(study) or {"splits": []})["splits"]
        if "test" not in there:
            return [{"level": "plain", "text": "The data has no test split."}]
        return [{"level": "plain", "text": "The test split has not been opened."}]
    looked = [len(entries) for _, entries in study.ledger if entries]
    text = f"Looks at the test split: {opened}, with {len(looked)} trained model{_s(looked)}"
    text += f" (at most {max(looked)} each)" if max(looked) > 1 else ""
    lines = [{"level": "plain", "text": f"{text}; see its ledger."}]
    chosen = {result.model: result for result in tested}
    if validated and validated[0].model in chosen:
        item = chosen[validated[0].model].overall["balanced_accuracy"]
        text = f"On the test split the model chosen on validation reaches {_bracketed(item)}."
        lines.insert(0, {"level": "plain", "text": text})
    return lines


def _trusted(trust: dict[str, Any] | None) -> list[Line]:
    """Repeat the verdict on every model, and the shortcut probes that fire."""
    lines: list[Line] = []
    for card in (trust or {}).get("cards", []):
        verdict = card["verdict"]
        if verdict["headline"]:
            text = f"Can it be believed? {verdict['headline']}"
            lines.append({"level": verdict["kind"], "text": text})
        rows = (card["probes"] or {}).get("rows", [])
        fired = [_fired(probe) for probe in rows if probe["state"] == "fires"]
        more = len(fired) - MOST_FIRED
        for place, what in enumerate(fired[:MOST_FIRED]):
            last = more > 0 and place == MOST_FIRED - 1
            also = f" {more} more fire{'s' if more == 1 else ''}." if last else ""
            text = f"Shortcut probe fires for {card['name']}: {what}.{also}"
            lines.append({"level": "bad", "text": text})
    return lines


def _fired(probe: dict[str, Any]) -> str:
    """Return what a probe measured, with its limit."""
    effect = " ".join(filter(None, (probe["value"], probe["interval"], probe["unit"])))
    return f"{probe['title']}, {effect} (limit {probe['limit_text']})"


def _audit(study: StudyFiles) -> list[Line]:
    """Repeat the audit's errors and warnings."""
    levels = {"error": "bad", "warning": "warning"}
    return [
        {"level": levels[finding["level"]], "text": f"Audit: {finding['sentence']}"}
        for finding in (study.audit or {}).get("findings", [])
        if finding["level"] in levels
    ]


def _bracketed(item: dict[str, Any]) -> str:
    """Return 0.83 [0.78, 0.88]."""
    if not (known(item.get("low")) and known(item.get("high"))):
        return f"{number(item['value'])} (no interval)"
    return f"{number(item['value'])} [{number(item['low'])}, {number(item['high'])}]"


def _seeds(runs: Sequence[RunFiles]) -> str:
    seeds = ", ".join(str(run.seed) for run in runs)
    return f" (seed{_s(runs)} {seeds})"


def _s(items: Sequence[object]) -> str:
    return "" if len(items) == 1 else "s"


def _joined(names: Sequence[str]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
