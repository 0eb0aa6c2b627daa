"""What ``trust.json`` says, read so that any block may be missing, null or cut short."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from octoscope.report.figures.lean import lean
from octoscope.report.files import RunFiles, StudyFiles
from octoscope.report.html import known, svg_uri

NAN = float("nan")

GOOD_LEVELS = ("trust", "no objection found")
"""Verdicts that raise no objection."""


def mapping(value: Any) -> dict[str, Any]:
    """Return a dictionary, an empty one for anything else."""
    return dict(value) if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    """Return a list, an empty one for anything else."""
    return list(value) if isinstance(value, list | tuple) else []


def entries(value: Any) -> list[dict[str, Any]]:
    """Return the dictionaries of a list."""
    return [dict(entry) for entry in items(value) if isinstance(entry, Mapping)]


def real(value: Any) -> float:
    """Return a number, NaN for anything else."""
    return float(value) if known(value) and not isinstance(value, bool) else NAN


def reals(value: Any) -> list[float]:
    """Return the numbers of a list, NaN for what is none."""
    return [real(entry) for entry in items(value)]


def figure_uri(svg: bytes) -> str:
    """Return a figure as a data URI of few bytes."""
    return svg_uri(lean(svg))


def words(value: Any) -> str:
    """Return a text, '' for None."""
    return "" if value is None else str(value)


@dataclass(frozen=True, eq=False)
class Trust:
    """One run and its ``trust.json``.

    Attributes:
        study: The study, for names.
        run: The run.
        said: Content of the file.
    """

    study: StudyFiles
    run: RunFiles
    said: dict[str, Any]

    def block(self, name: str) -> dict[str, Any]:
        """Return a block that is a dictionary, empty if it is missing."""
        return mapping(self.said.get(name))

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return a block that is a list of dictionaries, empty if it is missing."""
        return entries(self.said.get(name))

    @cached_property
    def methods(self) -> dict[str, dict[str, Any]]:
        """Method → what is said of it."""
        return {name: mapping(about) for name, about in self.block("methods").items()}

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Metric → what is said of it (`Metric.about`)."""
        return {name: mapping(about) for name, about in self.block("metrics").items()}

    @cached_property
    def order(self) -> list[str]:
        """All methods that are spoken of: ranked ones first, as ranked; null maps last."""
        ranked = [words(row.get("method")) for row in self.rows("ranking")]
        scored = [words(row.get("method")) for row in self.rows("scoreboard")]
        drawn = [
            name
            for curve in self.block("curves").values()
            for name in mapping(mapping(curve).get("methods"))
        ]
        everyone = [name for name in [*ranked, *self.methods, *scored, *drawn] if name]
        unique = list(dict.fromkeys(everyone))
        return sorted(unique, key=lambda name: (self.is_null(name), bool(self.gated(name))))

    @cached_property
    def nulls(self) -> list[str]:
        """Methods that know no model."""
        return [name for name in self.order if self.is_null(name)]

    @cached_property
    def best(self) -> str | None:
        """The method to believe; if there is none, the first of the ranking."""
        believe = self.block("verdict").get("believe")
        if believe:
            return str(believe)
        return next((n for n in self.order if not self.is_null(n) and not self.gated(n)), None)

    @property
    def titles(self) -> dict[str, str]:
        """Method → its name."""
        return {name: self.title(name) for name in self.order}

    def title(self, method: str) -> str:
        """Return a method's name in running text."""
        said = mapping(self.methods.get(method)).get("title")
        return str(said) if said else self.study.title(method)

    def is_null(self, method: str) -> bool:
        """Say whether a method knows no model."""
        return bool(mapping(self.methods.get(method)).get("null"))

    def gated(self, method: str) -> str:
        """Return why a method failed the sanity checks, '' if it did not or knows no model."""
        return "" if self.is_null(method) else words(mapping(self.methods.get(method)).get("gated"))

    def metric_title(self, metric: str) -> str:
        """Return a metric's name in running text."""
        return words(mapping(self.metrics.get(metric)).get("title")) or metric.replace("_", " ")

    @property
    def fired(self) -> list[dict[str, Any]]:
        """The probes that fire."""
        return [probe for probe in self.rows("probes") if probe.get("fires") is True]


def level_of(verdict: str) -> str:
    """Return the level of a line of the report for the level of a verdict."""
    if verdict in GOOD_LEVELS:
        return "good"
    return {"caution": "warning", "do not trust": "bad"}.get(verdict, "plain")


def trusted(study: StudyFiles) -> list[list[Trust]]:
    """Return, per model in the report's order, its runs that have a ``trust.json``."""
    models = [
        [Trust(study, run, run.trust) for run in runs if run.trust]
        for runs in study.models.values()
    ]
    return [found for found in models if found]
