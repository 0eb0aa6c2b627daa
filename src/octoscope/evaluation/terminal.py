"""Metrics as tables in the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_metrics(metrics: dict[str, Any], console: Console) -> None:
    """Print what `evaluate` returned: overall numbers, then one row per class.

    Args:
        metrics: The content of ``metrics-SPLIT.json``.
        console: Where to.
    """
    title = (
        f"{metrics['model']} seed {metrics['seed']}, {metrics['split']}: {metrics['n_scans']} scans "
        f"of {metrics['n_patients']} patients, 95 % intervals by patient"
    )
    overall = Table("metric", "value", title=title, title_justify="left")
    for name, number in metrics["overall"].items():
        overall.add_row(name.replace("_", " "), said(number))
    console.print(overall)
    measures = [key for key, value in _first(metrics["per_class"]).items() if _is_number(value)]
    classes = Table("class", "scans", *(key.replace("_", " ") for key in measures))
    for name, row in metrics["per_class"].items():
        classes.add_row(name, str(row["support"]), *(said(row[key]) for key in measures))
    console.print(classes)
    for note in metrics["notes"]:
        console.print(f"· {note}", style="dim", highlight=False, markup=False)


def said(number: dict[str, Any]) -> str:
    """Return ``0.913 [0.861, 0.954]``; a missing interval or value is a dash."""
    value, low, high = (number.get(key) for key in ("value", "low", "high"))
    if value is None or value != value:
        return "–"
    if low is None or high is None or low != low or high != high:
        return f"{value:.3f} [–]"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _first(mapping: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = next(iter(mapping.values()))
    return first


def _is_number(value: Any) -> bool:
    return isinstance(value, dict) and "value" in value
