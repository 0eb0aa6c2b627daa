"""The report of a study: built of what belongs together, and built again when that changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from octoscope.evaluation.ledger import openings
from octoscope.report import build_report
from octoscope.study.consistency import require_consistent
from octoscope.study.folder import StudyFolder
from octoscope.study.made_by import code_of
from octoscope.study.stage import Stage, content_digest

SHOWN = ("*.json", "*.jsonl", "*.parquet", "runs/*/*.json*", "runs/*/*.parquet", "runs/*/log.csv")
"""Files of a study that its report shows."""


def report_of(folder: StudyFolder, *, again: bool = False) -> Path:
    """Write the report, unless nothing that it shows has changed, and return its path.

    Args:
        folder: The study folder.
        again: Write it in any case.

    Raises:
        OctoscopeError: If the folder holds no study, or results that are of another model, other
            scans or other settings than the rest.
    """
    notes = require_consistent(folder.path)

    def work() -> str:
        build_report(folder.path, notes=notes)
        return f"{folder.report} ({folder.report.stat().st_size / 2**20:.1f} MB)"

    shown = [path for pattern in SHOWN for path in sorted(folder.path.glob(pattern))]
    maps = sorted(folder.path.glob("runs/*/maps.zarr/*/maps"))
    inputs: dict[str, Any] = {
        "files": {
            path.relative_to(folder.path).as_posix(): content_digest(path)
            for path in (*shown, *maps)
        },
        "notes": notes,
        "code": code_of("report"),
    }
    elsewhere = [entry for entry in openings(folder.path) if "elsewhere" in entry]
    stage = Stage(folder.path, "report")
    if elsewhere:  # the test split was looked at in other studies
        inputs["elsewhere"] = elsewhere
    if again:
        stage.record.unlink(missing_ok=True)
    stage.run(inputs, [folder.report], work)
    return folder.report
