"""`build_report`: from the files of a study to one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import UndefinedError

from octoscope import __version__
from octoscope.errors import OctoscopeError
from octoscope.files import write_text
from octoscope.progress import steps
from octoscope.report.data import data_section
from octoscope.report.explanations import explanations_section
from octoscope.report.files import SPLITS, StudyFiles
from octoscope.report.headline import Line, is_phantom, take_away, was_run
from octoscope.report.html import embedded, page_of
from octoscope.report.localisation import localisation_section
from octoscope.report.models import models_section
from octoscope.report.provenance import provenance_section
from octoscope.report.results import ModelResult, results_of, results_section
from octoscope.report.trust import MOST_TABLES, trust_section
from octoscope.report.trust_read import trusted

T = TypeVar("T")

MOST_BYTES = 11 * 2**20
"""Of all pictures and of what is written on trust cards: the page stays below 12 MB."""

CARD_BYTES, TABLES_BYTES = 60_000, 350_000
"""About what is written on a trust card, and in its tables of all metrics."""

OVERRIDE = "OVERRIDE"
"""Notes that begin so are printed in red: somebody switched a safeguard off."""


NO_MODELS: dict[str, Any] = {
    "names": [], "recipe": [], "options": [], "runs": [], "curves": [], "unfinished": [],
}  # fmt: skip
NO_DATA: dict[str, Any] = {
    "audited": False, "counts": None, "findings": [], "artefacts": [], "permutations": None,
    "baselines": [], "lists": [],
}  # fmt: skip

UNFIT = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What comes of content that has the right form and cannot be true."""


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
    try:
        page = page_of(content)
    except (UndefinedError, *UNFIT) as error:
        raise OctoscopeError(
            f"{study}: the report cannot be written, as a file of the study holds what no such "
            f"file does ({error}); run octoscope study again, which makes its results anew"
        ) from error
    out = study / "report.html"
    write_text(out, page)
    return out


SECTIONS = 7
"""What `_content` makes beside the results of each split."""


class _Sections:
    """Makes the sections of a report; what cannot be made is left out, and that is said.

    Attributes:
        done: Called after each.
        left_out: A sentence on every section that could not be made.
    """

    def __init__(self, done: Callable[[], None]) -> None:
        self.done = done
        self.left_out: list[str] = []

    def made(self, title: str, make: Callable[[], T], instead: T) -> T:
        """Return what `make` does, or `instead` where the files behind it do not fit together.

        Raises:
            OctoscopeError: If one of the files is damaged.
        """
        try:
            return make()
        except UNFIT as error:
            self.left_out.append(
                f"{title}: left out, as the files behind it do not fit together "
                f"({type(error).__name__}: {error}). Run octoscope study again, which makes them "
                "anew."
            )
            return instead
        finally:
            self.done()


def content_of(study: StudyFiles) -> dict[str, Any]:
    """Return everything that the template shows.

    Raises:
        OctoscopeError: If a file of the study is damaged.
    """
    with steps("Writing the report", len(SPLITS) + SECTIONS) as done:
        return _content(study, _Sections(done))


def _content(study: StudyFiles, sections: _Sections) -> dict[str, Any]:
    """Return what `content_of` does, its sections made one after the other."""
    no_results: list[ModelResult] = []
    by_split = {
        split: sections.made(f"Results ({split})", partial(results_of, study, split), no_results)
        for split in SPLITS
    }
    nothing: list[dict[str, Any]] = []
    results = sections.made("Results", lambda: results_section(by_split), nothing)
    if not results:
        by_split = {split: [] for split in SPLITS}
    localisation = sections.made("Maps on lesions", lambda: localisation_section(study), None)
    models = sections.made("Models", lambda: models_section(study), NO_MODELS)
    room = MOST_BYTES - embedded([models, results, localisation])
    cards = len(trusted(study))
    room -= cards * CARD_BYTES + min(cards, MOST_TABLES) * TABLES_BYTES
    trust = sections.made("Can it be believed?", lambda: trust_section(study, room // 2), None)
    explanations = sections.made(
        "Explanations", lambda: explanations_section(study, room - embedded(trust)), None
    )
    validated: list[str] = next(
        (section["comparisons"] for section in results if section["key"] == "val"), []
    )
    silent: list[Line] = []
    lines = sections.made(
        "Headline", lambda: take_away(study, by_split, validated, localisation, trust), silent
    )
    data = sections.made("Data and audit", lambda: data_section(study), NO_DATA)
    notes = [str(note) for note in study.about.get("notes", [])]
    return {
        "title": str(study.about["config"].get("name") or study.path.name),
        "version": __version__,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "phantom": is_phantom(study),
        "was_run": was_run(study),
        "lines": [*lines, *_gaps(study, sections)],
        "left_out": sections.left_out,
        "missing": study.missing,
        "overrides": [note for note in notes if note.startswith(OVERRIDE)],
        "notes": [note for note in notes if not note.startswith(OVERRIDE)],
        "data": data,
        "sizes": [] if study.cache is None else [study.cache.images.shape[:0:-1]],
        "models": models,
        "results": results,
        "explanations": explanations,
        "localisation": localisation,
        "trust": trust,
        "ledger": study.ledger,
        "provenance": provenance_section(study),
        "classes": study.classes,
    }


def _gaps(study: StudyFiles, sections: _Sections) -> list[Line]:
    """Return a line of the headline on what the report lacks."""
    count = len(study.missing) + len(sections.left_out)
    if not count:
        return []
    things = "one thing" if count == 1 else f"{count} things"
    return [{"level": "warning", "text": f"This report lacks {things}; the notes name what."}]
