"""The trust card in the terminal: scoreboard, probes, verdict."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from octoscope.trust.scoreboard import BEATS
from octoscope.trust.scores import ANY_LESION

SHOWN = {
    "insertion_minus_deletion": "ins. − deletion ↑",
    "road": "ROAD ↑",
    "relevance_mass_retina": "on lesions ↑",
    "outside_retina": "outside retina ↓",
    "randomisation_spearman": "random weights ↓",
}
"""What fits a terminal of 80 columns, and how it is called there; the card and report have all."""


def print_card(card: dict[str, Any], console: Console) -> None:
    """Print what ``trust.json`` of a run holds.

    Args:
        card: Its content.
        console: Where to.
    """
    values = {
        (row["method"], row["metric"]): row
        for row in card["scoreboard"]
        if row["lesion"] in (None, ANY_LESION)
    }
    metrics = [name for name in SHOWN if any(metric == name for _, metric in values)]
    title = f"{card['run']}: {card['scans']} {_kind(card)} of {card['patients']} patients"
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False)
    table.add_column("method", min_width=15, overflow="fold")
    for name in metrics:
        table.add_column(SHOWN[name], justify="right", max_width=9)
    table.add_column("beats nulls", max_width=6)
    for row in card["ranking"]:
        method = card["methods"][row["method"]]
        style = "dim" if row["gated"] or method["null"] else None
        cells = [_cell(values.get((row["method"], name))) for name in metrics]
        won = f"{row['beats']}/{row['of']}"
        table.add_row(
            method["title"],
            *cells,
            "" if method["null"] else "aside" if row["gated"] else won,
            style=style,
        )
    console.print(table)
    console.print("* better than the best map that knows no model, with its interval", style="dim")
    for key, method in card["methods"].items():
        if method["gated"] and not method["null"]:
            console.print(f"· {method['title']} ({key}): {method['gated']}", style="dim",
                          highlight=False, markup=False)  # fmt: skip
    for note in card.get("notes", []):
        console.print(f"· {note}", style="dim", highlight=False, markup=False)
    for probe in card["probes"]:
        mark, style = {True: ("✗", "red"), False: ("✓", "green"), None: ("–", "dim")}[
            probe["fires"]
        ]
        line = f"{mark} {probe['title']}: {probe['sentence']}"
        console.print(line, style=style, highlight=False, markup=False)
    verdict = card["verdict"]
    console.print(verdict["headline"], style="bold", highlight=False, markup=False)
    for sentence in verdict["sentences"]:
        console.print(f"  {sentence}", highlight=False, markup=False)


def _kind(card: dict[str, Any]) -> str:
    """Return what the scans of a card are called."""
    if "external" in card:
        return f"scans of {card['external']}"
    return "validation scans" if card["split"] == "val" else f"{card['split']} scans"


def _cell(row: dict[str, Any] | None) -> str:
    """Return a value, with a star where it beats the nulls."""
    if row is None or row["value"] is None:
        return "–"
    return f"{row['value']:.2f}{'*' if row['verdict'] == BEATS else ''}"
