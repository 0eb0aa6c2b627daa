"""The scoreboard as tables: methods × metrics, the best first, null maps in their own group."""

from __future__ import annotations

from math import isfinite
from typing import Any

from octoscope.report.html import DASH, NBSP
from octoscope.report.trust_read import Trust, real, words
from octoscope.trust.scores import ANY_LESION

MARKS = {
    "beats the nulls": ("✓", "beats"),
    "not told from": ("≈", "same"),
    "worse than": ("✗", "worse"),
    "too few patients": ("?", "few"),
}
"""How verdicts begin → symbol and class of the mark."""

DIRECTIONS = {"True": ("↑", "higher is better"), "False": ("↓", "lower is better")}
"""Whether higher is better → arrow and words."""

Row = dict[str, Any]


def scoreboard_tables(trust: Trust) -> dict[str, Any] | None:
    """Return the headline table and the tables of all metrics; None if nothing was scored."""
    cells = _cells(trust)
    if not cells:
        return None
    measured = list(dict.fromkeys(metric for metric, _, _ in cells))
    asked = [name for name in trust.metrics if name in measured]
    asked += [name for name in measured if name not in asked]
    headline = [name for name in asked if trust.metrics.get(name, {}).get("headline")]
    lesions = list(dict.fromkeys(lesion for _, lesion, _ in cells if lesion != ANY_LESION))
    return {
        "headline": _table(trust, cells, headline or asked[:6]),
        "families": [
            (family, _table(trust, cells, names)) for family, names in _families(trust, asked)
        ],
        "lesions": [
            (lesion.replace("_", " "), _table(trust, cells, names, lesion))
            for lesion in lesions
            if (names := [m for m in asked if any((m, lesion, x) in cells for x in trust.order)])
        ],
        "metrics": [_about(trust, name) for name in asked],
        "any_mark": any(cell["mark"] for cell in cells.values()),
    }


def written(value: float, *bounds: float) -> list[str]:
    """Return a value and its bounds with as many digits as the largest of them deserves."""
    largest = max((abs(number) for number in (value, *bounds) if isfinite(number)), default=0.0)
    if largest == 0 or 0.1 <= largest < 1000:
        form = ".2f" if largest < 100 else ".0f"
    elif 0.001 <= largest < 0.1:
        form = ".3f" if largest >= 0.01 else ".4f"
    else:
        form = ".1e"
    return [_signed(format(n, form)) if isfinite(n) else DASH for n in (value, *bounds)]


def with_bounds(said: dict[str, Any]) -> dict[str, str]:
    """Return value and interval as texts, a dash and nothing where they are not known."""
    value, low, high = (real(said.get(name)) for name in ("value", "low", "high"))
    texts = written(value, low, high)
    bounds = isfinite(value) and isfinite(low) and isfinite(high)
    return {"value": texts[0], "interval": f"[{texts[1]}, {texts[2]}]" if bounds else ""}


def _signed(text: str) -> str:
    """Return a number with a true minus, and none before zero."""
    if not text.startswith("-"):
        return text
    return f"−{text[1:]}" if any(digit in text for digit in "123456789") else text[1:]


def _cells(trust: Trust) -> dict[tuple[str, str, str], Row]:
    """Return (metric, lesion, method) → what stands in the table."""
    out = {}
    for row in trust.rows("scoreboard"):
        key = words(row.get("metric")), words(row.get("lesion")) or ANY_LESION
        method = words(row.get("method"))
        if key[0] and method:
            out[(*key, method)] = _cell(trust, row)
    return out


def _cell(trust: Trust, row: Row) -> Row:
    symbol, kind, said = _mark(trust, words(row.get("verdict")), words(row.get("null")))
    hint = [f"{row[name]} {name}" for name in ("scans", "patients") if row.get(name) is not None]
    if row.get("undefined"):
        hint.append(f"{row['undefined']} undefined")
    gain = [real(row.get(f"difference{end}")) for end in ("", "_low", "_high")]
    if isfinite(gain[0]):
        one, least, most = written(*gain)
        against = trust.title(words(row.get("null")))
        hint.append(f"paired difference to {against}, + is better: {one} [{least}, {most}]")
    return {
        **with_bounds(row),
        "symbol": symbol,
        "mark": said if kind not in ("beats", "") else "",
        "kind": kind,
        "hint": "; ".join(hint),
    }


def _mark(trust: Trust, verdict: str, null: str) -> tuple[str, str, str]:
    """Return symbol, class and words of a verdict; the null map by its title."""
    for start, (symbol, kind) in MARKS.items():
        if verdict.startswith(start):
            title = trust.title(null) if null else verdict.removeprefix(start).strip()
            said = f"{start} {title}" if kind in ("same", "worse") else start
            return symbol, kind, said
    return "", "", verdict


def _table(
    trust: Trust,
    cells: dict[tuple[str, str, str], Row],
    metrics: list[str],
    lesion: str = ANY_LESION,
) -> dict[str, Any]:
    """Return columns and rows; methods with no value at all in them are left out."""
    ranks = {words(row.get("method")): row for row in trust.rows("ranking")}
    groups: dict[str, list[Row]] = {"methods": [], "nulls": []}
    for method in trust.order:
        found = [cells.get((metric, lesion, method)) for metric in metrics]
        if not any(found):
            continue
        rank = ranks.get(method, {})
        beats, of = rank.get("beats"), rank.get("of")
        groups["nulls" if trust.is_null(method) else "methods"].append(
            {
                "title": trust.title(method),
                "gated": trust.gated(method),
                "best": method == trust.block("verdict").get("believe"),
                "beats": f"{beats}{NBSP}of{NBSP}{of}" if beats is not None and of else "",
                "cells": found,
            }
        )
    return {"columns": [_about(trust, name) for name in metrics], **groups}


def _about(trust: Trust, metric: str) -> Row:
    """Return what a column's head and the glossary say of a metric."""
    about = trust.metrics.get(metric, {})
    arrow, better = DIRECTIONS.get(str(about.get("higher_is_better")), ("", "neither is better"))
    return {
        "title": trust.metric_title(metric),
        "arrow": arrow,
        "better": better,
        "range": words(about.get("range")),
        "sentence": words(about.get("sentence")),
        "source": words(about.get("source")),
        "family": words(about.get("family")),
        "headline": bool(about.get("headline")),
    }


def _families(trust: Trust, metrics: list[str]) -> list[tuple[str, list[str]]]:
    """Return family → its metrics."""
    out: dict[str, list[str]] = {}
    for name in metrics:
        family = words(trust.metrics.get(name, {}).get("family")) or "other"
        out.setdefault(family, []).append(name)
    return list(out.items())
