"""`build_report`: from the files of a study to one HTML file that opens offline."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from octoscope import __version__
from octoscope.files import write_text
from octoscope.report.data import data_section
from octoscope.report.explanations import explanations_section
from octoscope.report.files import SPLITS, StudyFiles
from octoscope.report.headline import is_phantom, take_away, was_run
from octoscope.report.html import environment
from octoscope.report.localisation import localisation_section
from octoscope.report.models import models_section
from octoscope.report.provenance import provenance_section
from octoscope.report.results import results_of, results_section
from octoscope.report.trust import MOST_BYTES, pictured, trust_section

OVERRIDE = "OVERRIDE"
"""Notes that begin so are printed in red: somebody switched a safeguard off."""


def build_report(study: Path) -> Path:
    """Write ``report.html`` into a study folder and return its path.

    Args:
        study: The study folder.

    Raises:
        OctoscopeError: If it holds no study, or one of its files is damaged.
    """
    study = Path(study)
    page = environment().get_template("report.html.j2").render(content_of(StudyFiles.read(study)))
    out = study / "report.html"
    write_text(out, page)
    return out


def content_of(study: StudyFiles) -> dict[str, Any]:
    """Return everything that the template shows."""
    by_split = {split: results_of(study, split) for split in SPLITS}
    results = results_section(by_split)
    localisation = localisation_section(study)
    explanations = explanations_section(study)
    trust = trust_section(study, MOST_BYTES - pictured(explanations))
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
        "models": models_section(study),
        "results": results,
        "explanations": explanations,
        "localisation": localisation,
        "trust": trust,
        "ledger": [(run.name, run.openings) for run in study.runs],
        "provenance": provenance_section(study),
        "classes": study.classes,
    }
