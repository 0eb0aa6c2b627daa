"""How much of their mass the maps put on lesions: tables, sentences and a forest plot."""

from __future__ import annotations

from typing import Any

import pandas as pd

from octoscope.report.figures.forest import Point, forest
from octoscope.report.files import StudyFiles
from octoscope.report.html import known, svg_uri
from octoscope.trust.scores import (
    ANY_LESION,
    CHANCES,
    TOLERANCE,
    lift_sentence,
    lift_summary,
    ratios,
    summarise,
)

LEAST_LIFT = 0.25
"""An interval of ratios may begin at zero, which no logarithmic axis shows."""

CHANCE_TITLES = {
    "frame": "a map that is constant over the frame",
    "retina": "a map that is constant over the retina",
    "other scans": "maps of other patients of the same class",
}


def localisation_section(study: StudyFiles) -> dict[str, Any] | None:
    """Return what the template shows, None if no run has scores.

    The seeds of a model are pooled: a scan then counts once per seed, and its patient is
    resampled with all of them.
    """
    tables = [run.scores for run in study.runs if run.scores is not None]
    if not tables:
        return None
    scores = pd.concat(tables, ignore_index=True)
    summaries = {chance: lift_summary(scores, chance=chance) for chance in CHANCES}
    frame = summaries["frame"]
    if frame.empty:
        return None
    lesions = [name for name in frame["lesion"].unique() if name != ANY_LESION]
    overall = _records(study, frame[frame["lesion"] == ANY_LESION])
    pointing = _pointing(scores)
    for row in overall:
        row["pointing"] = pointing.get((row["model"], row["method"], "pointing_game"))
        row["pointing_chance"] = pointing.get((row["model"], row["method"], "pointing_chance"))
        for chance in ("retina", "other scans"):
            row[chance] = _lift_against(summaries[chance], row)
        row["by_lesion"] = [_lift_against(frame, row, lesion) for lesion in lesions]
    ordered = sorted(overall, key=lambda row: (row["model"], row["null"], -_or_zero(row["lift"])))
    return {
        "models": _by_model(ordered),
        "lesions": [name.replace("_", " ") for name in lesions],
        "has": {chance: not summaries[chance].empty for chance in CHANCES},
        "titles": CHANCE_TITLES,
        "tolerance": TOLERANCE,
        "best": best_sentences([row for row in overall if not row["null"]]),
        "forest": _forest(ordered),
        "left_out": _left_out(study),
    }


def _by_model(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, per model, its rows, null maps apart."""
    out = []
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        scans, patients = (max(row[name] for row in own) for name in ("scans", "patients"))
        for row in own:
            fewer = (row["scans"], row["patients"]) != (scans, patients)
            row["of"] = f"{row['scans']} scans of {row['patients']} patients" if fewer else ""
        out.append({
            "name": model, "scans": scans, "patients": patients,
            "methods": [row for row in own if not row["null"]],
            "nulls": [row for row in own if row["null"]],
        })  # fmt: skip
    return out


def best_sentences(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return, per model, the method with the highest lift in words, with its weakest verdict."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        if _or_zero(row["lift"]) >= _or_zero(best.get(row["model"], {}).get("lift")):
            best[row["model"]] = row
    return [_in_words(row) for row in best.values()]


def _in_words(row: dict[str, Any]) -> dict[str, str]:
    """Return a row's sentence and verdict, held against maps of other patients too."""
    sentence = lift_sentence({**row, "method": row["title"]})
    verdict = row["verdict"]
    others = row["other scans"]
    if verdict != "too few patients" and others is not None and known(others["low"]):
        value, low, high = ratios(others["value"], others["low"], others["high"])
        told = "" if others["verdict"] == "above chance" else f" ({others['verdict']})"
        sentence += (
            f" That is {value}× [{low}, {high}] what maps of other patients put there{told}."
        )
        verdict = others["verdict"] if verdict == "above chance" else verdict
    return {"sentence": sentence, "verdict": verdict}


def _records(study: StudyFiles, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as dictionaries, each with its title, and lift and mass as intervals."""
    out = []
    for row in frame.to_dict("records"):
        row["title"] = study.title(row["method"])
        row["null"] = study.methods.get(row["method"], {}).get("family") == "null"
        row["lift_interval"] = _interval(row, "lift")
        row["mass_interval"] = _interval(row, "mass")
        out.append(row)
    return out


def _interval(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}


def _lift_against(
    summary: pd.DataFrame, row: dict[str, Any], lesion: str = ANY_LESION
) -> dict[str, Any] | None:
    """Return the lift of the same model and method in another summary or on another lesion."""
    if summary.empty:
        return None
    same = summary[
        (summary["model"] == row["model"])
        & (summary["method"] == row["method"])
        & (summary["lesion"] == lesion)
    ]
    if same.empty:
        return None
    found = same.iloc[0].to_dict()
    return {**_interval(found, "lift"), "verdict": found["verdict"], "scans": found["scans"]}


def _pointing(scores: pd.DataFrame) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return the pointing game and its chance by model, method and metric."""
    wanted = scores["metric"].isin(["pointing_game", "pointing_chance"])
    chosen = scores[wanted & (scores["lesion"] == ANY_LESION)]
    if chosen.empty:
        return {}
    table = summarise(chosen, by=("model", "method", "metric"))
    return {(row["model"], row["method"], row["metric"]): row for row in table.to_dict("records")}


def _forest(rows: list[dict[str, Any]]) -> str | None:
    """Return the lifts over chance as a data URI."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    points = [
        Point(
            f"{row['title']} · {row['model']}",
            row["lift"],
            row["lift_low"] if known(row["lift_low"]) else None,
            row["lift_high"] if known(row["lift_high"]) else None,
            models.index(row["model"]),
            row["null"],
        )
        for row in rows
        if known(row["lift"]) and row["lift"] > 0
    ]
    if not points:
        return None
    title = "mass on lesions, as a multiple of chance"
    if any(row["null"] for row in rows):
        title += " (hollow: null maps)"
    limits = _limits(points)
    return svg_uri(forest(points, title=title, chance=1, limits=limits, logarithmic=True))


def _limits(points: list[Point]) -> tuple[float, float]:
    """Return ends of the axis that show every value; intervals down to zero leave it."""
    values = [point.value for point in points]
    lows = [point.low for point in points if point.low is not None]
    highs = [point.high for point in points if point.high is not None]
    least = max(min(lows, default=1), LEAST_LIFT)
    return min(least, 0.8, *values) / 1.1, max(1.25, *values, *highs) * 1.1


def _left_out(study: StudyFiles) -> list[str]:
    """Say how many scans were scored and left out, per run."""
    out = []
    for run in study.runs:
        scored = run.localisation.get("scored")
        wrong = run.localisation.get("left_out_as_wrong")
        if scored is not None:
            text = f"{run.name}: {scored} scans scored"
            out.append(f"{text}, {wrong} left out as misclassified." if wrong else f"{text}.")
    return out


def _or_zero(value: Any) -> float:
    return float(value) if known(value) else 0.0
