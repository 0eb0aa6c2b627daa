"""What must be known to read a trust card: what rests on which scans, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octoscope.attribution.registry import METHODS
from octoscope.report.shape import COUNT, read_shaped
from octoscope.study.examined import Examined
from octoscope.trust.sanity.gate import Gate

COUNTS = {"scored": COUNT, "left_out_as_wrong": COUNT}
"""What is read of ``localisation.json``."""


def notes_of_method(name: str, gate: Gate, blocks: Mapping[str, Any]) -> list[str]:
    """Return what is to be known of one method.

    Args:
        name: The method.
        gate: Whether it passes the sanity checks.
        blocks: Part → its block.
    """
    if METHODS[name].family == "null":
        return []
    notes = [] if METHODS[name].class_specific else ["shows the same for every class"]
    if gate.note:
        notes.append(f"no verdict of the sanity checks: {gate.note}")
    if why := blocks.get("stability", {}).get("left_out", {}).get(name):
        notes.append(f"stability not measured: {why}")
    return notes


def notes_of_card(examined: Examined, blocks: Mapping[str, Any]) -> list[str]:
    """Return on which scans the parts rest, and which methods are left out of which.

    Args:
        examined: The run.
        blocks: Part → its block.
    """
    settings, every = examined.settings, len(examined.rows)

    def of(most: int) -> str:
        return str(len(examined.some(most)))

    notes = [
        f"Of {every} {examined.run.scans}, faithfulness, agreement and consensus rest on "
        f"{of(settings.scans)}, the sanity checks on {of(settings.sanity_scans)} and stability on "
        f"{of(settings.stability_scans)}, spread over classes and patients; zones, clusters and "
        "probes on all."
    ]
    if examined.cache.masks is not None and examined.run.localisation.is_file():
        counts = read_shaped(examined.run.localisation, COUNTS)
        notes.append(
            f"Localisation rests on the {counts['scored']} scans with lesions that the model tells "
            f"right; {counts['left_out_as_wrong']} that it tells wrong are left out there, but not "
            "elsewhere."
        )
    slow = [METHODS[name].title for name in blocks.get("sanity", {}).get("left_out", {})]
    if slow:
        notes.append(
            f"{', '.join(slow)}: not put through the sanity checks and stability, since a map "
            f"takes more than {examined.settings.most_passes:g} passes."
        )
    return notes
