"""Predict unlabelled scans with a trained model, from files to a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from octoscope.errors import OctoscopeError
from octoscope.files import read_json
from octoscope.models.classifier import DESCRIPTION_FILE, Classifier
from octoscope.progress import tell
from octoscope.study.evaluate import is_evaluated
from octoscope.study.folder import RunFolder
from octoscope.study.predict_files import (
    BATCH,
    Tally,
    framing_for,
    predict_files,
    require_suffix,
    writing,
)
from octoscope.study.scan_files import scan_files

TOLD = 20
"""Unreadable scans that are named one by one; the table names all."""


def predict_run(
    place: Path,
    files: Sequence[Path],
    out: Path | None = None,
    *,
    columns: str | None = None,
    calibrated: bool = False,
    batch_size: int = BATCH,
) -> Tally:
    """Predict scans and write one row for each.

    Args:
        place: Folder of a finished run, or of a saved `Classifier`.
        files: Scans, folders and tables.
        out: CSV or Parquet file; None for CSV on standard output.
        columns: Which column of a table is the path, as ``path=file_name``.
        calibrated: Divide the logits by the temperature of the validation scans.
        batch_size: Scans per pass.

    Returns:
        How many were read, and which were not.

    Raises:
        OctoscopeError: If there is no model, no scan or none that can be read, no temperature, or
            the file cannot be written; then it is as it was.
    """
    if out is not None:
        require_suffix(out)
    folder = place if (place / DESCRIPTION_FILE).is_file() else RunFolder.open(place).model
    classifier = Classifier.load(folder)
    temperature = _temperature(place) if calibrated else 1.0
    paths: list[Path] = []
    for found in scan_files(files, columns):
        for note in found.notes:
            tell(f"· {note}", "dim")
        paths += found.paths
    own, framing = classifier.preprocess.framing, framing_for(classifier, paths)
    if framing.levels is not None and framing.levels != own.levels:
        tell(f"· The model knows no grey levels of such files. {framing.levels.describe()}")
    with writing(out) as write:
        tally = predict_files(
            classifier,
            paths,
            write,
            framing=framing,
            temperature=temperature,
            batch_size=batch_size,
            name=place.name,
        )
        if not tally.read:
            path, reason = tally.faults[0]
            more = f" (and none of {len(paths) - 1:,} more)" if len(paths) > 1 else ""
            raise OctoscopeError(f"{path}: {reason}{more}; no scan could be read")
    for path, reason in tally.faults[:TOLD]:
        tell(f"· {path}: {reason}", "yellow")
    if len(tally.faults) > TOLD:
        rest = f"{len(tally.faults) - TOLD:,} more"
        tell(f"· and {rest}; the column fault names each", "yellow")
    return tally


def _temperature(run: Path) -> float:
    """Return the temperature that was fitted on the validation scans of a run.

    Raises:
        OctoscopeError: If there is none.
    """
    own = RunFolder(run)
    evaluated = is_evaluated(own, "val")
    known = read_json(own.metrics("val"))["calibration"]["temperature"] if evaluated else None
    if known is None:
        raise OctoscopeError(
            f"{run}: has no temperature of its validation scans; evaluate it first with octoscope "
            "evaluate, or leave out --calibrated"
        )
    return float(known)
