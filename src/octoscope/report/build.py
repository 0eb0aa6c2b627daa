"""`build_report`: from the files of a study to one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from octoscope import __version__
from octoscope.files import write_text
from octoscope.report.data import data_section
from octoscope.report.explanations import explanations_section
from octoscope.report.files import SPLITS, StudyFiles
from octoscope.report.headline import is_phantom, take_away, was_run
from octoscope.report.html import embedded, environment
from octoscope.report.localisation import localisation_section
from octoscope.report.models import models_section
from octoscope.report.provenance import provenance_section
from octoscope.report.results import results_of, results_section
from octoscope.report.trust import MOST_TABLES, trust_section
from octoscope.report.trust_read import trusted

MOST_BYTES = 11 * 2**20
"""Of all pictures and of what is written on trust cards: the page stays below 12 MB."""

CARD_BYTES, TABLES_BYTES = 60_000, 350_000
"""About what is written on a trust card, and in its tables of all metrics."""

OVERRIDE = "OVERRIDE"
"""Notes that begin so are printed in red: somebody switched a safeguard off."""


def build_report(study: Path, *, notes: Sequence[str] = ()) -> Path:
    """Write ``report.html`` into a study folder and return its path.

    Args:
        study: The study folder.
        notes: What else is to be said of it, one sentence each.

    Raises:
        OctoscopeError: If it holds no study, or one of its files is damaged.
    """
    study = Path(study)
    content = content_of(StudyFiles.read(study))
    content["notes"] = [*content["notes"], *notes]
    page = environment().get_template("report.html.j2").render(content)
    out = study / "report.html"
    write_text(out, page)
    return out


def content_of(study: StudyFiles) -> dict[str, Any]:
    """Return everything that the template shows."""
    by_split = {split: results_of(study, split) for split in SPLITS}
    results = results_section(by_split)
    localisation = localisation_section(study)
    models = models_section(study)
    room = MOST_BYTES - embedded([models, results, localisation])
    cards = len(trusted(study))
    room -= cards * CARD_BYTES + min(cards, MOST_TABLES) * TABLES_BYTES
    trust = trust_section(study, room // 2)
    explanations = explanations_section(study, room - embedded(trust))
    validated: list[str] = next(
        (section["comparisons"] for section in results if section["key"] == "val"), []
    )
    notes = [str(note) for note in study.about.get("notes", [])]
    return {
        "title": str(study.about.get("config", {}).get("name") or study.path.name),
        "version": __version__,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "phantom": is_phantom(study),
        "was_run": was_run(study),
        "lines": take_away(study, by_split, validated, localisation, trust),
        "overrides": [note for note in notes if note.startswith(OVERRIDE)],
        "notes": [note for note in notes if not note.startswith(OVERRIDE)],
        "data": data_section(study),
        "models": models,
        "results": results,
        "explanations": explanations,
        "localisation": localisation,
        "trust": trust,
        "ledger": study.ledger,
        "provenance": provenance_section(study),
        "classes": study.classes,
    }
