"""Where maps lie by anatomy, and what the shortcut probes found."""

from __future__ import annotations

from math import isfinite
from typing import Any

from octoscope.report.figures.probes import Effect, probe_forest
from octoscope.report.figures.zones import zone_bars
from octoscope.report.html import DASH
from octoscope.report.trust_read import Trust, figure_uri, items, mapping, real, reals, words
from octoscope.report.trust_scoreboard import written

ALL = "all"
"""Key of all classes together."""
AREA = "area of the frame"


def zones_block(trust: Trust, drawn: bool = True) -> dict[str, Any] | None:
    """Return numbers and figures of the anatomy zones, None if they were not measured.

    Args:
        trust: The run.
        drawn: Whether to draw the figures.
    """
    block = trust.block("zones")
    names = [words(name) for name in items(block.get("names"))]
    titles = mapping(block.get("titles"))
    called = [words(titles.get(name)) or name.replace("_", " ") for name in names]
    shares = mapping(block.get("shares"))
    methods = [name for name in trust.order if name in shares]
    outside = mapping(block.get("outside_retina"))
    area = mapping(block.get("area"))
    bars = [(trust.title(m), _values(mapping(shares[m]).get(ALL), names)) for m in methods]
    bars = [bar for bar in bars if any(map(isfinite, bar[1]))]
    by_class = _by_class(trust, area, mapping(shares.get(trust.best or "")), names)
    if not (bars and names) and not outside:
        return None
    return {
        "figure": _bars([(AREA, _area(area.get(ALL), names)), *bars], names, called)
        if drawn and bars and names
        else None,
        "by_class": _bars(by_class, names, called) if drawn and len(by_class) > 1 else None,
        "best": trust.title(trust.best) if trust.best else "",
        "outside": [
            {"title": trust.title(m), "interval": mapping(outside[m]), "null": trust.is_null(m),
             "best": m == trust.best}
            for m in trust.order if m in outside
        ],
        "chance": block.get("chance_outside_retina"),
    }  # fmt: skip


def _by_class(
    trust: Trust, area: dict[str, Any], shares: dict[str, Any], names: list[str]
) -> list[tuple[str, list[float]]]:
    """Return area and mass of the best method, class by class; a bar for the whole area first."""
    labels = [label for label in shares if label != ALL]
    classes = [words(c) for c in items(trust.said.get("classes"))] or trust.study.classes
    labels.sort(key=lambda label: classes.index(label) if label in classes else len(classes))
    bars = [(label, _values(shares[label], names)) for label in labels]
    drawn = [bar for bar in bars if any(map(isfinite, bar[1]))]
    return [(AREA, _area(area.get(ALL), names)), *drawn]


def _bars(bars: list[tuple[str, list[float]]], names: list[str], titles: list[str]) -> str:
    return figure_uri(zone_bars(bars, names, titles))


def _values(said: Any, names: list[str]) -> list[float]:
    """Return the value of every zone, NaN where there is none."""
    found = [real(mapping(part).get("value")) for part in items(said)]
    return (found + [float("nan")] * len(names))[: len(names)]


def _area(said: Any, names: list[str]) -> list[float]:
    """Return the area of every zone, NaN where there is none."""
    found = reals(said)
    if not any(map(isfinite, found)):
        found = _values(said, names)
    return (found + [float("nan")] * len(names))[: len(names)]


def probes_block(trust: Trust, drawn: bool = True) -> dict[str, Any] | None:
    """Return the forest and the rows of the probes, fired ones first; None if none was run.

    Args:
        trust: The run.
        drawn: Whether to draw the forest.
    """
    probes = trust.rows("probes")
    if not probes:
        return None
    ranks = {True: 0, False: 1}
    probes.sort(key=lambda probe: ranks.get(probe.get("fires"), 2))  # type: ignore[arg-type]
    rows = [_probe(probe) for probe in probes]
    effects = [_effect(row) for row in rows if isfinite(row["effect"])]
    return {
        "rows": rows,
        "fired": sum(row["state"] == "fires" for row in rows),
        "run": sum(row["state"] != "not judged" for row in rows),
        "figure": figure_uri(probe_forest(effects)) if drawn and effects else None,
    }


def _probe(probe: dict[str, Any]) -> dict[str, Any]:
    """Return one row of the table."""
    state = {True: "fires", False: "quiet"}.get(probe.get("fires"), "not judged")  # type: ignore[arg-type]
    numbers = {name: real(probe.get(name)) for name in ("effect", "low", "high")}
    scale = {name: real(probe.get(name)) for name in ("harmless", "limit")}
    title = words(probe.get("title")) or words(probe.get("probe")) or "probe"
    label = words(probe.get("label"))
    value, low, high = written(*numbers.values())
    bounds = isfinite(numbers["low"]) and isfinite(numbers["high"])
    return {
        **numbers,
        **scale,
        "title": f"{title}: {label}" if label else title,
        "state": state,
        "value": value,
        "interval": f"[{low}, {high}]" if bounds else "",
        "harmless_text": compact_number(scale["harmless"]),
        "limit_text": compact_number(scale["limit"]),
        "unit": words(probe.get("unit")),
        "sentence": words(probe.get("sentence")),
        "scans": probe.get("scans"),
        "patients": probe.get("patients"),
    }


def compact_number(value: float) -> str:
    """Return 0.05 or 0, or a dash: limits were written by people and need no further digits."""
    return f"{value:.3g}".replace("-", "−") if isfinite(value) else DASH


def _effect(row: dict[str, Any]) -> Effect:
    harmless = row["harmless"] if isfinite(row["harmless"]) else 0.0
    limit = row["limit"] if isfinite(row["limit"]) else harmless
    text = f"{row['value']} {row['interval']}".strip()
    return Effect(row["title"], row["effect"], row["low"], row["high"], harmless, limit,
                  row["state"] == "fires", text)  # fmt: skip
