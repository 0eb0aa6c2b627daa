"""Metrics as tables in the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

SHOWN = ("sensitivity", "specificity", "auroc")
"""What fits a terminal of 80 columns; metrics-SPLIT.json and the report have the rest."""


def print_metrics(metrics: dict[str, Any], console: Console) -> None:
    """Print what `evaluate` returned: overall numbers, then one row per class.

    Args:
        metrics: The content of ``metrics-SPLIT.json``.
        console: Where to.
    """
    scans = f"external set {metrics['external']}" if "external" in metrics else metrics["split"]
    title = (
        f"{metrics['model']} seed {metrics['seed']}, {scans}: "
        f"{metrics['n_scans']} scans of {metrics['n_patients']} patients, 95 % intervals by patient"
    )
    overall = Table("metric", "value", title=title, title_justify="left")
    for name, number in metrics["overall"].items():
        overall.add_row(name.replace("_", " "), said(number))
    console.print(overall)
    classes = Table("class", "scans", *SHOWN)
    for name, row in metrics["per_class"].items():
        classes.add_row(name, str(row["support"]), *(said(row[key]) for key in SHOWN))
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
